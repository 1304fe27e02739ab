from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .plane import SimulatedVolantd


@pytest.fixture(scope="module")
def volantd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedVolantd]:
    directory: Path = tmp_path_factory.mktemp("api")
    with SimulatedVolantd(directory) as running:
        yield running
