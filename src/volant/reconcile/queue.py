"""The work queue: each key at most once in line and never in two hands at a time."""

from __future__ import annotations

import asyncio
import heapq
from collections import OrderedDict

from volant.core.clock import Clock
from volant.store.contract import Key


class WorkQueue:
    """Keys that want a look. Adding a key that waits is nothing; adding one that is being worked on queues it for afterwards."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ready: OrderedDict[Key, None] = OrderedDict()
        self._working: set[Key] = set()
        self._dirty: set[Key] = set()
        self._due: dict[Key, float] = {}
        self._timers: list[tuple[float, Key]] = []
        self._changed = asyncio.Event()
        self._timers_changed = asyncio.Event()

    def add(self, key: Key) -> None:
        """Have ``key`` looked at as soon as a worker is free."""
        self._due.pop(key, None)
        if key in self._working:
            self._dirty.add(key)
            return
        self._ready.setdefault(key)
        self._changed.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """Have ``key`` looked at in ``seconds``, or sooner when something else asks or it is due sooner already."""
        due = self._clock.monotonic() + seconds
        if key in self._ready or key in self._dirty or self._due.get(key, due + 1) <= due:
            return
        self._due[key] = due
        heapq.heappush(self._timers, (due, key))
        self._timers_changed.set()

    def forget(self, key: Key) -> None:
        """Drop a planned look at ``key``."""
        self._due.pop(key, None)

    async def take(self) -> Key:
        """The next key, which is the caller's until ``finish``."""
        while not self._ready:
            self._changed.clear()
            await self._changed.wait()
        key, _ = self._ready.popitem(last=False)
        self._working.add(key)
        return key

    def finish(self, key: Key) -> None:
        self._working.discard(key)
        if key in self._dirty:
            self._dirty.discard(key)
            self.add(key)

    @property
    def idle(self) -> bool:
        """True when nothing waits or is being worked on; what is planned for later does not count."""
        return not self._ready and not self._working and not self._dirty

    def waiting(self) -> list[Key]:
        return list(self._ready)

    async def run_timers(self) -> None:
        """Move keys into the line when they are due. A task body; runs until cancelled."""
        while True:
            self._timers_changed.clear()
            now = self._clock.monotonic()
            while self._timers and self._timers[0][0] <= now:
                due, key = heapq.heappop(self._timers)
                if self._due.get(key) == due:
                    self.add(key)
            if not self._timers:
                await self._timers_changed.wait()
                continue
            await self._wait_change(self._timers[0][0] - now)

    async def _wait_change(self, seconds: float) -> None:
        sleep = asyncio.ensure_future(self._clock.sleep(seconds))
        change = asyncio.ensure_future(self._timers_changed.wait())
        try:
            await asyncio.wait((sleep, change), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            change.cancel()
