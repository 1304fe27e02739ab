"""A clock that stands still until it is told to advance: tests and simulations turn it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_QUIET_TURNS = 3
"""Turns of the event loop without any work, so that what lies in a socket has been noticed."""

_SETTLING_TURNS = 200
"""Not to wait for ever for those that never rest."""


class SimulatedClock:
    """Time passes only in ``advance``; everybody in ``sleep`` wakes in the order of their due times."""

    def __init__(self, start: datetime = _EPOCH) -> None:
        self._start = start
        self._elapsed_s = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed_s)

    def monotonic(self) -> float:
        return self._elapsed_s

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # However short a sleep is, time has passed after it: loops that wait for a moment get there.
        due = max(self._elapsed_s + seconds, math.nextafter(self._elapsed_s, math.inf))
        heapq.heappush(self._sleepers, (due, next(self._order), woken))
        await woken

    @property
    def next_due_s(self) -> float | None:
        """Seconds until the first sleeper wakes, or None when nobody sleeps."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] - self._elapsed_s if self._sleepers else None

    async def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass, stopping at every due time so that what wakes may sleep again within them."""
        end = self._elapsed_s + seconds
        await self._settle()
        while self.next_due_s is not None and self._sleepers[0][0] <= end:
            moment, _, woken = heapq.heappop(self._sleepers)
            self._elapsed_s = max(self._elapsed_s, moment)
            woken.set_result(None)
            await self._settle()
        self._elapsed_s = end
        await self._settle()

    async def _settle(self) -> None:
        """Return once everybody waits for the clock, or for something that is not of this event loop."""
        # The queue of callbacks is the only thing that tells a loop at rest from one with work to do.
        ready = getattr(asyncio.get_running_loop(), "_ready", ())
        quiet = 0
        for _ in range(_SETTLING_TURNS):
            await asyncio.sleep(0)
            quiet = 0 if ready else quiet + 1
            if quiet >= _QUIET_TURNS:
                return
