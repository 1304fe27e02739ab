"""The engine under every controller: look when something changed, look again now and then, back off when it fails.

A controller is level-triggered: a change only says *look*, so a change that is missed costs one resync period.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from typing import Protocol

import structlog

from volant.core.clock import Clock
from volant.core.errors import StaleRevision, VolantError
from volant.reconcile.backoff import Backoff
from volant.reconcile.outcome import After, Again, Done, Outcome
from volant.reconcile.queue import WorkQueue
from volant.store.cache import Cache
from volant.store.contract import Change, Key, Stored

log = structlog.get_logger()


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


class Engine:
    """Runs one controller: a queue, workers, resync, backoff."""

    def __init__(
        self,
        controller: Controller,
        cache: Cache,
        clock: Clock,
        *,
        workers: int = 8,
        resync_s: float = 60.0,
        pass_limit_s: float = 180.0,
        backoff: Backoff | None = None,
        random_source: random.Random | None = None,
    ) -> None:
        self._controller = controller
        self._cache = cache
        self._clock = clock
        self._workers = workers
        self._resync_s = resync_s
        self._pass_limit_s = pass_limit_s
        self._backoff = backoff or Backoff()
        self._random = random_source or random.Random()  # noqa: S311  # spreads retries, keeps no secret
        self._failures: dict[Key, int] = {}
        self.queue = WorkQueue(clock)

    def look(self, key: Key, *, after_s: float = 0.0) -> None:
        """Ask for a look at ``key``: what a watcher of the outside world calls."""
        if after_s:
            self.queue.add_after(key, after_s)
        else:
            self.queue.add(key)

    async def run(self) -> None:
        """A task body; runs until cancelled. The cache must be run by somebody."""
        self._cache.subscribe(self._on_change)
        await self._cache.wait_synced()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.queue.run_timers())
            group.create_task(self._resync())
            for _ in range(self._workers):
                group.create_task(self._work())

    def _on_change(self, change: Change, old: Stored | None) -> None:
        if change.key.kind == self._controller.kind:
            self.queue.add(change.key)

    def _keys(self) -> Iterable[Key]:
        return (stored.key for stored in self._cache.list(self._controller.kind))

    async def _resync(self) -> None:
        while True:
            for key in self._keys():
                self.queue.add(key)
            await self._clock.sleep(self._resync_s * (0.9 + 0.2 * self._random.random()))

    async def _work(self) -> None:
        while True:
            key = await self.queue.take()
            try:
                await self._pass(key)
            finally:
                self.queue.finish(key)

    async def _pass(self, key: Key) -> None:
        try:
            async with asyncio.timeout(self._pass_limit_s):
                outcome = await self._controller.reconcile(key)
        except StaleRevision:
            self.queue.add(key)
        except VolantError as error:
            await self._fail(key, error)
        except TimeoutError:
            await self._fail(key, VolantError(f"one pass took longer than {self._pass_limit_s:g} s"))
        except Exception as error:  # the edge: one key's bug must not end the others
            log.exception("reconcile_bug", kind=key.kind, name=key.name)
            await self._fail(key, VolantError(f"internal error: {type(error).__name__}: {error}"))
        else:
            self._failures.pop(key, None)
            match outcome:
                case Again():
                    self.queue.add(key)
                case After(seconds):
                    self.queue.add_after(key, seconds)
                case Done():
                    pass

    async def _fail(self, key: Key, error: VolantError) -> None:
        failures = self._failures.get(key, 0) + 1
        self._failures[key] = failures
        delay = self._backoff.delay(failures, self._random)
        log.warning(
            "reconcile_failed", kind=key.kind, name=key.name, error=str(error), failures=failures, retry_s=round(delay, 2)
        )
        try:
            async with asyncio.timeout(self._pass_limit_s):
                await self._controller.report_failure(key, error, failures)
        except (VolantError, TimeoutError) as second:
            log.warning("report_failed", kind=key.kind, name=key.name, error=str(second))
        self.queue.add_after(key, delay)
