"""What an engine says of itself, how it is run again, and how it keeps from hurrying for nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

from volant.core.errors import StaleRevision, VolantError
from volant.core.queue import Why
from volant.core.simulated_clock import SimulatedClock
from volant.reconcile.backoff import Backoff
from volant.reconcile.engine import RACES_IN_ROW, Engine
from volant.reconcile.metrics import BOUNDS_S, PassMetrics
from volant.reconcile.outcome import After, Done, Outcome
from volant.store.cache import Cache
from volant.store.contract import Create, Key
from volant.store.sqlite import open_store


def key_of(name: str) -> Key:
    return Key("Thing", "default", name)


class ThingController:
    """Fails for ``bad``, hangs for ``slow``, plans for ``later``, and is always too late for ``racy``."""

    kind = "Thing"

    def __init__(self) -> None:
        self.passes: list[str] = []
        self.go_on = asyncio.Event()

    async def reconcile(self, key: Key) -> Outcome:
        self.passes.append(key.name)
        match key.name:
            case "bad":
                raise VolantError("it is bad")
            case "slow":
                await self.go_on.wait()
            case "later":
                return After(500)
            case "racy":
                raise StaleRevision("somebody wrote")
        return Done()

    async def report_failure(self, key: Key, error: VolantError, failures: int) -> None:
        return


async def test_each_key_is_told_with_why_it_waits(tmp_path: Path) -> None:
    clock = SimulatedClock()
    controller = ThingController()
    async with open_store(tmp_path / "volant.db", clock) as store, asyncio.timeout(20):
        meta = {"meta": {"owner": "somebody"}}
        await store.transact([Create(key_of(name), meta) for name in ("bad", "slow", "later", "good")])
        cache = Cache(store, ["Thing"], clock)
        engine = Engine(
            controller,
            cache,
            clock,
            workers=1,
            backoff=Backoff(first_s=40, cap_s=40, jitter=0),
            resync_s=10_000,
            pass_limit_s=10_000,
        )
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(cache.run()), group.create_task(engine.run())]
            await cache.wait_synced()
            while "slow" not in controller.passes:
                await clock.advance(0)
            engine.look(key_of("good"))
            await clock.advance(30)
            keys = {key.name: key for key in engine.describe_keys(10).keys}
            assert (keys["slow"].state, keys["slow"].hung, keys["slow"].for_s) == ("in_hand", False, 30)
            assert keys["slow"].owner == "somebody"
            assert keys["good"].state == "ready"
            assert (keys["bad"].state, keys["bad"].why, keys["bad"].failures) == ("planned", Why.RETRY, 1)
            assert (keys["bad"].error, keys["bad"].due_in_s) == ("it is bad", 10)
            assert (keys["later"].why, keys["later"].due_in_s) == (Why.PLANNED, 470)
            await clock.advance(40)
            queue = engine.describe()
            assert (queue.name, queue.kind, queue.running, queue.hung, queue.failing) == ("thing", "Thing", True, 1, 1)
            assert queue.waiting == queue.tenants[0].waiting == 2, "the good one, and the bad one's turn has come again"
            assert queue.oldest_wait_s == 70
            assert engine.describe_keys(1).left_out == 3
            controller.go_on.set()
            await clock.advance(0)
            assert engine.describe().seconds_max == 70
            for task in tasks:
                task.cancel()


async def test_an_engine_runs_again_as_if_for_the_first_time(tmp_path: Path) -> None:
    clock = SimulatedClock()
    controller = ThingController()
    async with open_store(tmp_path / "volant.db", clock) as store, asyncio.timeout(20):
        await store.transact([Create(key_of("good"), {"meta": {}}), Create(key_of("bad"), {"meta": {}})])
        cache = Cache(store, ["Thing"], clock)
        engine = Engine(controller, cache, clock, backoff=Backoff(first_s=1000, jitter=0))
        async with asyncio.TaskGroup() as group:
            following = group.create_task(cache.run())
            for _ in range(3):
                controller.passes.clear()
                running = asyncio.create_task(engine.run())
                while len(controller.passes) < 2:
                    await clock.advance(0)
                running.cancel()
                await asyncio.wait({running})
                assert sorted(controller.passes) == ["bad", "good"]
                assert engine.queue.idle
                assert not engine.describe().running
                assert engine.describe().planned == engine.describe().failing == 0
            following.cancel()


async def test_whoever_always_loses_takes_breath(tmp_path: Path) -> None:
    clock = SimulatedClock()
    controller = ThingController()
    async with open_store(tmp_path / "volant.db", clock) as store, asyncio.timeout(20):
        await store.transact([Create(key_of("racy"), {"meta": {}})])
        cache = Cache(store, ["Thing"], clock)
        engine = Engine(controller, cache, clock)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(cache.run()), group.create_task(engine.run())]
            while len(controller.passes) <= RACES_IN_ROW:
                await clock.advance(0)
            assert len(controller.passes) == RACES_IN_ROW + 1
            await clock.advance(10)
            assert len(controller.passes) < RACES_IN_ROW + 25
            assert engine.describe().races == len(controller.passes)
            for task in tasks:
                task.cancel()


def test_passes_are_counted_by_how_long_they_took() -> None:
    metrics = PassMetrics()
    for seconds in (0.0005, BOUNDS_S[0], 0.3, 1000.0):
        metrics.record(seconds)
    counts = {bucket.le_s: bucket.count for bucket in metrics.histogram}
    assert (counts[0.001], counts[0.5], counts[None]) == (2, 1, 1)
    assert (metrics.passes, metrics.seconds_max) == (4, 1000.0)
