"""The engine under every controller: look when something changed, look again now and then, back off when it fails.

A controller is level-triggered: a change only says *look*, so a change that is missed costs one resync period.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
import structlog

from volant.core.clock import Clock
from volant.core.errors import StaleRevision, VolantError
from volant.core.queue import Queue, QueueDetail, Why
from volant.reconcile.backoff import Backoff
from volant.reconcile.fair_queue import Place
from volant.reconcile.metrics import PassMetrics
from volant.reconcile.outcome import After, Again, Done, Outcome
from volant.reconcile.queue import WorkQueue
from volant.reconcile.queue_view import describe_keys, describe_queue
from volant.reconcile.rate import Limits
from volant.store.cache import Cache
from volant.store.contract import Change, Key, Stored

log = structlog.get_logger()

RESYNC_KEYS_S = 20.0
"""So many keys a second are looked at without a reason: with more than ``resync_s`` times that, a round takes longer."""
RESYNC_CHUNK = 200
"""Few are looked at together; many, a chunk at a time."""

RACES_IN_ROW = 8
"""Who loses more races than that to somebody else's writes takes breath between them."""
RACE_BACKOFF = Backoff(first_s=0.02, factor=2.0, cap_s=1.0)


class Controller(Protocol):
    """One kind's state machine."""

    @property
    def kind(self) -> str: ...

    async def reconcile(self, key: Key) -> Outcome:
        """Compare what is asked with what is and make one repeatable step. Raising means: back off and look again."""
        ...

    async def report_failure(self, key: Key, error: VolantError, failures: int) -> None:
        """Say in the resource's own status that ``error`` keeps happening."""
        ...


class Failing(msgspec.Struct, frozen=True):
    failures: int
    error: str


class Engine:
    """Runs one controller: a queue, workers, resync, backoff."""

    def __init__(
        self,
        controller: Controller,
        cache: Cache,
        clock: Clock,
        *,
        name: str = "",
        workers: int = 8,
        resync_s: float = 60.0,
        pass_limit_s: float = 180.0,
        backoff: Backoff | None = None,
        limits: Limits | None = None,
        random_source: random.Random | None = None,
        concerns: Callable[[Key, dict[str, Any] | None], bool] | None = None,
    ) -> None:
        """``name`` is what operators call it; by default the controller's class without its ``Controller``. ``concerns`` is told
        a key with its record, None for one that is gone, and may say that neither a change of it nor a round needs a look."""
        self._controller = controller
        self._cache = cache
        self._clock = clock
        self.name = name or type(controller).__name__.removesuffix("Controller").lower()
        self.workers = workers
        self._resync_s = resync_s
        self.pass_limit_s = pass_limit_s
        self._backoff = backoff or Backoff()
        self._random = random_source or random.Random()  # noqa: S311  # spreads retries, keeps no secret
        self._concerns = concerns
        self.failing: dict[Key, Failing] = {}
        self._races: dict[Key, int] = {}
        self.running = False
        self.metrics = PassMetrics()
        self.queue = WorkQueue(clock, self._place, limits)

    @property
    def kind(self) -> str:
        return self._controller.kind

    def look(self, key: Key, *, after_s: float = 0.0) -> None:
        """Ask for a look at ``key``: what a watcher of the outside world calls."""
        if after_s:
            self.queue.add_after(key, after_s, Why.ASKED)
        else:
            self.queue.add(key, Why.ASKED)

    def describe(self) -> Queue:
        return describe_queue(self, self._clock.monotonic())

    def describe_keys(self, limit: int) -> QueueDetail:
        """With at most ``limit`` keys."""
        return describe_keys(self, self._clock.monotonic(), limit)

    async def run(self) -> None:
        """A task body; runs until cancelled, and may run again later. The cache must be run by somebody."""
        unsubscribe = self._cache.subscribe(self._on_change, kinds=(self._controller.kind,))
        try:
            await self._cache.wait_synced()
            self.running = True
            async with asyncio.TaskGroup() as group:
                group.create_task(self.queue.run_timers())
                group.create_task(self._resync())
                for _ in range(self.workers):
                    group.create_task(self._work())
        finally:
            self.running = False
            unsubscribe()
            self.queue.clear()
            self.failing.clear()
            self._races.clear()

    def _on_change(self, change: Change, old: Stored | None) -> None:
        if self._concerns is None or self._concerns(change.key, change.data if change.type == "put" else None):
            self.queue.add(change.key, Why.CHANGE)

    def _place(self, key: Key) -> Place:
        stored = self._cache.get(key) if self._cache.holds(key.kind) else None
        if stored is None:
            return Place(key.project, ending=True)
        meta = stored.data["meta"]
        return Place(key.project, meta.get("owner") or "", ending=bool(meta.get("deleting_at")))

    async def _resync(self) -> None:
        is_first = True
        while True:
            found = self._cache.list(self._controller.kind)
            keys = [one.key for one in found if self._concerns is None or self._concerns(one.key, one.data)]
            del found
            rest_s = self._resync_s * (0.9 + 0.2 * self._random.random())
            for start in range(0, len(keys), RESYNC_CHUNK):
                for key in keys[start : start + RESYNC_CHUNK]:
                    self.queue.add(key, Why.RESYNC)
                if start + RESYNC_CHUNK < len(keys) and not is_first:
                    pause_s = RESYNC_CHUNK / RESYNC_KEYS_S
                    rest_s -= pause_s
                    await self._clock.sleep(pause_s)
            is_first = False
            await self._clock.sleep(max(rest_s, RESYNC_CHUNK / RESYNC_KEYS_S) if len(keys) > RESYNC_CHUNK else rest_s)

    async def _work(self) -> None:
        while True:
            key = await self.queue.take()
            began = self._clock.monotonic()
            try:
                await self._pass(key)
            finally:
                self.metrics.record(self._clock.monotonic() - began)
                self.queue.finish(key)

    async def _pass(self, key: Key) -> None:
        if key in self.failing:
            self.metrics.retries += 1
        try:
            async with asyncio.timeout(self.pass_limit_s):
                outcome = await self._controller.reconcile(key)
        except StaleRevision:
            self._lose_race(key)
        except VolantError as error:
            await self._fail(key, error)
        except TimeoutError:
            await self._fail(key, VolantError(f"one pass took longer than {self.pass_limit_s:g} s"))
        except Exception as error:  # the edge: one key's bug must not end the others
            log.exception("reconcile_bug", kind=key.kind, name=key.name)
            await self._fail(key, VolantError(f"internal error: {type(error).__name__}: {error}"))
        else:
            self.failing.pop(key, None)
            self._races.pop(key, None)
            match outcome:
                case Again():
                    self.queue.add(key, Why.AGAIN)
                case After(seconds):
                    self.queue.add_after(key, seconds)
                case Done():
                    pass

    def _lose_race(self, key: Key) -> None:
        self.metrics.races += 1
        races = self._races[key] = self._races.get(key, 0) + 1
        if races <= RACES_IN_ROW:
            self.queue.add(key, Why.AGAIN)
        else:
            self.queue.add_after(key, RACE_BACKOFF.delay(races - RACES_IN_ROW, self._random), Why.AGAIN)

    async def _fail(self, key: Key, error: VolantError) -> None:
        self.metrics.failures += 1
        before = self.failing.get(key)
        failures = 1 if before is None else before.failures + 1
        self.failing[key] = Failing(failures, str(error))
        delay = self._backoff.delay(failures, self._random)
        log.warning(
            "reconcile_failed", kind=key.kind, name=key.name, error=str(error), failures=failures, retry_s=round(delay, 2)
        )
        try:
            async with asyncio.timeout(self.pass_limit_s):
                await self._controller.report_failure(key, error, failures)
        except (VolantError, TimeoutError) as second:
            log.warning("report_failed", kind=key.kind, name=key.name, error=str(second))
        self.queue.add_after(key, delay, Why.RETRY)
