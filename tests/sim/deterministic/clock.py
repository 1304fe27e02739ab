"""The product's clock on the loop's time, with a wall clock that somebody may set."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class LoopClock:
    """Implements core.clock.Clock."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.wall_offset_s = 0.0

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self._loop.time() + self.wall_offset_s)

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        # However short a sleep is, time has passed after it: loops that wait for a moment get there.
        await asyncio.sleep(max(seconds, 2 * math.ulp(self._loop.time())) if seconds > 0 else 0)
