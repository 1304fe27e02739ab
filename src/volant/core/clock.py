"""Time as a part that can be replaced: production reads the host's clocks, simulations turn their own."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol

from volant.core.moment import format_time, parse_time

__all__ = ["Clock", "HostClock", "format_time", "parse_time"]


class Clock(Protocol):
    """Wall time for people, monotonic time for durations, and the only way to wait."""

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backwards; only differences mean something."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class HostClock:
    """The host's own clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
