from __future__ import annotations

import asyncio
from pathlib import Path

from volant.core.log import LogRecord, LogSource
from volant.observe.logstore import LogStore


async def test_followers_of_a_finished_log_get_to_its_end(tmp_path: Path) -> None:
    store = LogStore(tmp_path / "logs")
    await store.append("run", [LogRecord(seq=1, time_ns=1, source=LogSource.STDOUT, flags=0, data=b"a")])
    seen: list[bytes] = []
    async with asyncio.timeout(5):
        async for entry in store.follow():
            seen.append(entry.record.data)
            store.finish()
    assert seen == [b"a"]
