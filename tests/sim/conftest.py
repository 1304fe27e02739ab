from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .host import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.prepare()
    yield made
    await made.host.close()
