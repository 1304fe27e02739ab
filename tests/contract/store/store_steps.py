"""Steps that the suite's tests share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from volant.core.errors import VolantError
from volant.store.contract import Batch, Create, Key, Store

PATIENCE_S = 30.0
"""No test takes this long unless something hangs."""


def vm(name: str, project: str = "default") -> Key:
    return Key("vm", project, name)


def data_of(value: object = 1, labels: dict[str, str] | None = None, deleting_at: str | None = None) -> dict[str, Any]:
    return {"meta": {"labels": labels or {}, "deleting_at": deleting_at}, "spec": {"value": value}}


async def create(store: Store, *keys: Key, value: object = 1) -> int:
    """Create all keys in one transaction."""
    return await store.transact([Create(key, data_of(value)) for key in keys])


async def take(batches: AsyncIterator[Batch], count: int) -> list[Batch]:
    async with asyncio.timeout(PATIENCE_S):
        return [await anext(batches) for _ in range(count)]


async def take_until(batches: AsyncIterator[Batch], revision: int) -> list[Batch]:
    """Every batch up to the one of ``revision``."""
    taken: list[Batch] = []
    while not taken or taken[-1].revision < revision:
        taken += await take(batches, 1)
    return taken


async def outcome(attempt: Coroutine[Any, Any, Any]) -> Any:
    """What ``attempt`` returned, or the class of the error that it raised."""
    try:
        return await attempt
    except VolantError as error:
        return type(error)
