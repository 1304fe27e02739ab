"""A served control plane, and plain HTTP to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from volant.client.connection import Connection

from .served import Served


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path) as running:
        running.run(running.plane.add_plugin())
        yield running


@pytest.fixture
def api(served: Served) -> Connection:
    return Connection(served.address)
