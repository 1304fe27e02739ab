"""A served control plane; the parts are those of the API's own tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..api.served import Served  # noqa: TID252  # importlib mode knows no top-level name for it


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path) as running:
        running.run(running.plane.add_plugin())
        yield running
