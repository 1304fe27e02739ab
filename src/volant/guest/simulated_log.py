"""A simulated guest's log: the ring that kestrel keeps of what its workload wrote."""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any

import msgspec

from volant.core.log import LogRecord, LogSource
from volant.guest.records import MAX_LOG_BYTES

RING_BYTES = 1_048_576


class SimulatedLog:
    """The oldest lines go when it is full."""

    def __init__(self) -> None:
        self._records: deque[LogRecord] = deque()
        self._bytes = 0
        self._next_seq = 1

    def add(self, text: str | bytes, source: LogSource, time_ns: int) -> None:
        data = text.encode() if isinstance(text, str) else text
        record = LogRecord(self._next_seq, time_ns, source, 0, data[:MAX_LOG_BYTES])
        self._next_seq += 1
        self._records.append(record)
        self._bytes += len(record.data)
        while self._bytes > RING_BYTES:
            self._bytes -= len(self._records.popleft().data)

    @property
    def range(self) -> tuple[int, int]:
        """The oldest sequence number in the ring and the next to be given."""
        return (self._records[0].seq if self._records else self._next_seq), self._next_seq

    def read(self, after: int, limit: int) -> list[LogRecord]:
        """At most ``limit`` records after ``after``."""
        oldest, _ = self.range
        begin = max(0, after + 1 - oldest)
        return list(itertools.islice(self._records, begin, begin + limit))

    def save(self) -> dict[str, Any]:
        return {"ring": msgspec.to_builtins(list(self._records)), "next_seq": self._next_seq}

    def load(self, saved: dict[str, Any]) -> None:
        self._records = deque(msgspec.convert(saved["ring"], list[LogRecord]))
        self._bytes = sum(len(record.data) for record in self._records)
        self._next_seq = saved["next_seq"]
