"""The writer without a thread: the same promises, at the moments that somebody else chooses."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from volant.core.clock import HostClock
from volant.core.errors import AlreadyExists, Unavailable
from volant.store.contract import Create, Key
from volant.store.sqlite import open_store


async def test_it_writes_when_it_is_let_and_not_before(tmp_path: Path) -> None:
    due: asyncio.Queue[Callable[[], None]] = asyncio.Queue()
    async with open_store(tmp_path / "volant.db", HostClock(), run_soon=due.put_nowait) as store:
        writing = [asyncio.create_task(store.transact([Create(Key("VM", "p", name), {"meta": {}})])) for name in ("a", "b", "a")]
        write = await due.get()
        assert due.empty(), "what waits is one group"
        assert await store.get(Key("VM", "p", "a")) is None
        assert not any(thread.name == "volant-store-writer" for thread in threading.enumerate())
        write()
        results = await asyncio.gather(*writing, return_exceptions=True)
        assert results[:2] == [1, 2]
        assert isinstance(results[2], AlreadyExists)
        closing = asyncio.create_task(store.close())
        (await due.get())()
        await closing
        with pytest.raises(Unavailable):
            await store.get(Key("VM", "p", "a"))
