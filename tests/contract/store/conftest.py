"""Every test of the suite runs against every keeper."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from volant.store.contract import Store

from .store_keepers import KEEPERS, Keeper


@pytest.fixture(params=sorted(KEEPERS))
def keeper(request: pytest.FixtureRequest, tmp_path: Path) -> Keeper:
    return KEEPERS[request.param](tmp_path)


@pytest.fixture
async def store(keeper: Keeper) -> AsyncIterator[Store]:
    async with keeper.open() as opened:
        yield opened
