"""Reading a VM's stored log, as the door offers it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from itertools import islice

from volant.core.clock import format_time, parse_time
from volant.core.log import LogSource
from volant.node.door import LogLine
from volant.node.door import LogSource as SourceName
from volant.observe.logstore import LogEntry, LogStore

BATCH = 512
_SOURCES: dict[LogSource, SourceName] = {
    LogSource.STDOUT: "stdout",
    LogSource.STDERR: "stderr",
    LogSource.KESTREL: "kestrel",
}


async def read_logs(
    store: LogStore, *, tail: int | None = None, since: str | None = None, previous: bool = False, follow: bool = False
) -> AsyncIterator[LogLine]:
    """See NodeDoor.read_logs. Without ``previous`` the latest run is read; ``follow`` goes on over later runs."""
    since_ns = None if since is None else int(parse_time(since).timestamp() * 1e9)
    runs = await asyncio.to_thread(store.find_runs)
    position = 0
    wanted = (runs[-2] if len(runs) > 1 else None) if previous else (runs[-1] if runs else None)
    if wanted is not None:
        entries = await asyncio.to_thread(store.read, since_ns=since_ns, tail=tail, run_id=wanted)
        batches = _batched(entries)
        while batch := await asyncio.to_thread(lambda: next(batches, None)):
            for entry in batch:
                position = entry.position
                yield _to_line(entry)
    if not follow or previous:
        return
    async for entry in store.follow(after=position or None):
        if since_ns is None or entry.record.time_ns >= since_ns:
            yield _to_line(entry)


def _batched(entries: Iterator[LogEntry]) -> Iterator[list[LogEntry]]:
    while batch := list(islice(entries, BATCH)):
        yield batch


def _to_line(entry: LogEntry) -> LogLine:
    record = entry.record
    return LogLine(
        seq=record.seq,
        at=format_time(datetime.fromtimestamp(record.time_ns / 1e9, UTC)),
        source=_SOURCES[record.source],
        text=record.data.decode("utf-8", "replace"),
        partial=record.continues,
        missed=entry.missed,
    )
