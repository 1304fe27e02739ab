"""A reader of a workload's log in the guest's ring (docs/guest-protocol.md, section 4.3)."""

from __future__ import annotations

from collections.abc import AsyncIterator

from volant.core.errors import GuestUnreachable
from volant.core.log import LogRecord
from volant.guest.breach import Breach
from volant.guest.protocol import LogRange
from volant.guest.records import LogDecoder
from volant.guest.stream import Stream


class LogStream:
    """Iterate for batches of records, oldest first; ``range`` is what the ring held at the beginning.

    A batch is what has arrived, at most 64 KiB. Lines that are not read stay in the guest, whose ring drops the oldest.
    """

    def __init__(self, stream: Stream, range_: LogRange, after: int, first: bytes = b"") -> None:
        self.range = range_
        self._stream = stream
        self._decoder = LogDecoder(after)
        self._first = first

    async def __aenter__(self) -> LogStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __aiter__(self) -> AsyncIterator[list[LogRecord]]:
        return self

    async def __anext__(self) -> list[LogRecord]:
        """Raises GuestUnreachable when the link goes down or the records are not as specified."""
        records: list[LogRecord] = []
        while not records:
            data, self._first = self._first or await self._stream.read(), b""
            if not data:
                self._stream.finish()
                raise StopAsyncIteration
            try:
                records = self._decoder.feed(data)
            except Breach as breach:
                self._stream.reset(str(breach))
                raise GuestUnreachable(str(breach)) from breach
        return records

    def close(self) -> None:
        self._stream.reset("the log reader was closed")
