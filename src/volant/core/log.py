"""One line of a workload's log, as the guest numbered it."""

from __future__ import annotations

from enum import IntEnum

import msgspec


class LogSource(IntEnum):
    STDOUT = 1
    STDERR = 2
    KESTREL = 3


CONTINUES = 1
"""Flag: the line goes on in the next record."""


class LogRecord(msgspec.Struct, frozen=True):
    """``seq`` counts from 1 since the guest's boot; ``time_ns`` is the guest's wall clock, nanoseconds since 1970."""

    seq: int
    time_ns: int
    source: LogSource
    flags: int
    data: bytes

    @property
    def continues(self) -> bool:
        return bool(self.flags & CONTINUES)
