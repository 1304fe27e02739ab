"""The work queue: each key at most once in line and never in two hands at a time, and everybody has their turn."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Iterator

import msgspec

from volant.core.clock import Clock
from volant.core.queue import HURRIED, Why
from volant.reconcile.fair_queue import FairQueue, Place
from volant.reconcile.pause import wait_change
from volant.reconcile.rate import Limiter, Limits
from volant.store.contract import Key

SPARE_TIMERS = 256
"""Timers of looks that are planned no more and may lie about."""


class Wait(msgspec.Struct, frozen=True):
    """Since when, on the monotonic clock, and why."""

    since: float
    why: Why


class Planned(msgspec.Struct, frozen=True):
    due: float
    since: float
    why: Why


def place_by_key(key: Key) -> Place:
    return Place(key.project)


class WorkQueue:
    """Keys that want a look. Adding a key that waits is nothing; adding one that is being worked on queues it for afterwards.

    ``place`` says whose a key is. ``limits`` are kept for all but what is ending.
    """

    def __init__(self, clock: Clock, place: Callable[[Key], Place] = place_by_key, limits: Limits | None = None) -> None:
        self._clock = clock
        self._place = place
        self._limiter = Limiter(clock, limits or Limits())
        self._line = FairQueue()
        self._ready: dict[Key, Wait] = {}
        self._working: dict[Key, Wait] = {}
        self._dirty: dict[Key, Why] = {}
        self._planned: dict[Key, Planned] = {}
        self._timers: list[tuple[float, Key]] = []
        self._limited_until: float | None = None
        self._takers: deque[asyncio.Future[Key]] = deque()
        self._timers_changed = asyncio.Event()
        self.waited_s = 0.0
        self.waited_max_s = 0.0

    def add(self, key: Key, why: Why = Why.CHANGE) -> None:
        """Have ``key`` looked at when it is its turn."""
        planned = self._planned.get(key)
        if planned is not None:
            if why is Why.RESYNC and planned.why is Why.RETRY:
                return  # what fails is not tried sooner for having been there for a minute
            del self._planned[key]
        if key in self._working:
            self._dirty[key] = _more_urgent(self._dirty.get(key), why)
            return
        place = self._place(key)
        if why not in HURRIED:
            place = Place(place.project, place.owner, place.ending, patient=True)
        self._line.push(key, place)
        waits = self._ready.get(key)
        if waits is None:
            self._ready[key] = Wait(self._clock.monotonic(), why)
        elif _more_urgent(waits.why, why) is not waits.why:
            self._ready[key] = Wait(waits.since, why)
        self._serve()

    def add_after(self, key: Key, seconds: float, why: Why = Why.PLANNED) -> None:
        """Have ``key`` looked at in ``seconds``, or sooner when something else asks or it is due sooner already."""
        now = self._clock.monotonic()
        due = now + seconds
        planned = self._planned.get(key)
        if key in self._ready or key in self._dirty or (planned is not None and planned.due <= due):
            return
        self._planned[key] = Planned(due, now, why)
        heapq.heappush(self._timers, (due, key))
        if len(self._timers) > 2 * len(self._planned) + SPARE_TIMERS:
            self._timers = [(one.due, key) for key, one in self._planned.items()]
            heapq.heapify(self._timers)
        self._timers_changed.set()

    def forget(self, key: Key) -> None:
        """Drop a planned look at ``key``."""
        self._planned.pop(key, None)

    def clear(self) -> None:
        """Forget everything but what is in somebody's hand."""
        for key in list(self._ready):
            self._line.remove(key)
        self._ready.clear()
        self._dirty.clear()
        self._planned.clear()
        self._timers.clear()

    async def take(self) -> Key:
        """The next key, which is the caller's until ``finish``."""
        taker: asyncio.Future[Key] = asyncio.get_running_loop().create_future()
        self._takers.append(taker)
        self._serve()
        try:
            return await taker
        except asyncio.CancelledError:
            if taker.done() and not taker.cancelled():
                taken = taker.result()
                why = self._working[taken].why
                self.finish(taken)
                self.add(taken, why)
            raise

    def finish(self, key: Key) -> None:
        self._working.pop(key, None)
        why = self._dirty.pop(key, None)
        if why is not None:
            self.add(key, why)

    @property
    def idle(self) -> bool:
        """True when nothing waits or is being worked on; what is planned for later does not count."""
        return not self._ready and not self._working and not self._dirty

    def waiting(self) -> list[Key]:
        return list(self._line.keys())

    async def run_timers(self) -> None:
        """Move keys into the line when they are due. A task body; runs until cancelled."""
        while True:
            self._timers_changed.clear()
            now = self._clock.monotonic()
            while self._timers and self._timers[0][0] <= now:
                due, key = heapq.heappop(self._timers)
                planned = self._planned.get(key)
                if planned is not None and planned.due == due:
                    self.add(key, planned.why)
            if self._limited_until is not None and self._limited_until <= now:
                self._serve()
            next_due = min(self._next_dues(), default=None)
            if next_due is None:
                await self._timers_changed.wait()
                continue
            await wait_change(self._timers_changed, self._clock, next_due - now)

    # What is to be seen of it

    def ready(self) -> dict[Key, Wait]:
        return self._ready

    def working(self) -> dict[Key, Wait]:
        return self._working

    def planned(self) -> dict[Key, Planned]:
        return self._planned

    def place_of(self, key: Key) -> Place:
        """Where it stands, or would stand."""
        return self._line.place_of(key) or self._place(key)

    def is_limited(self, project: str) -> bool:
        return not self._limiter.may(project)

    def depths(self) -> dict[str, int]:
        return self._line.depths()

    def _next_dues(self) -> Iterator[float]:
        if self._timers:
            yield self._timers[0][0]
        if self._limited_until is not None:
            yield self._limited_until

    def _serve(self) -> None:
        while self._takers:
            if self._takers[0].done():
                self._takers.popleft()
                continue
            key = self._pop()
            if key is None:
                return
            self._takers.popleft().set_result(key)

    def _pop(self) -> Key | None:
        self._limited_until = None
        if not self._line:
            return None
        found = self._line.pop(self._limiter.may)
        now = self._clock.monotonic()
        if found is None:
            self._limited_until = now + min(self._limiter.wait_s(project) for project in self._line.held_projects())
            self._timers_changed.set()
            return None
        key, place = found
        if not place.ending:
            self._limiter.spend(place.project)
        waits = self._ready.pop(key)
        self.waited_s += now - waits.since
        self.waited_max_s = max(self.waited_max_s, now - waits.since)
        self._working[key] = Wait(now, waits.why)
        return key


_ORDER = {why: order for order, why in enumerate(Why)}


def _more_urgent(one: Why | None, other: Why) -> Why:
    return other if one is None or _ORDER[other] < _ORDER[one] else one
