from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from volant.core.errors import StaleRevision, VolantError
from volant.core.simulated_clock import SimulatedClock
from volant.reconcile.backoff import Backoff
from volant.reconcile.engine import Engine
from volant.reconcile.outcome import After, Again, Done, Outcome
from volant.store.cache import Cache
from volant.store.contract import Create, Delete, Key, Store, Update
from volant.store.sqlite import open_store

KEY = Key("Thing", "default", "a")
DATA = {"meta": {"name": "a"}}


class Scripted:
    """A controller that answers from a list and then with Done."""

    kind = "Thing"

    def __init__(self, *answers: Outcome | Exception) -> None:
        self.answers = list(answers)
        self.passes: list[Key] = []
        self.failures: list[int] = []
        self.changed = asyncio.Event()

    async def reconcile(self, key: Key) -> Outcome:
        self.passes.append(key)
        self.changed.set()
        answer = self.answers.pop(0) if self.answers else Done()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def report_failure(self, key: Key, error: VolantError, failures: int) -> None:
        self.failures.append(failures)

    async def wait(self, satisfied: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not satisfied():
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def running(
    tmp_path: Path,
    controller: Scripted,
    *,
    resync_s: float = 1000,
    first: dict[str, Any] = DATA,
    concerns: Callable[[Key, dict[str, Any] | None], bool] | None = None,
) -> AsyncIterator[tuple[Store, SimulatedClock]]:
    clock = SimulatedClock()
    async with open_store(tmp_path / "volant.db", clock) as store:
        await store.transact([Create(KEY, first)])
        cache = Cache(store, ["Thing"], clock)
        engine = Engine(
            controller,
            cache,
            clock,
            resync_s=resync_s,
            backoff=Backoff(first_s=1, factor=2, cap_s=4, jitter=0),
            random_source=random.Random(1),
            concerns=concerns,
        )
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(cache.run()), group.create_task(engine.run())]
            await controller.wait(lambda: bool(controller.passes))
            yield store, clock
            for task in tasks:
                task.cancel()


async def test_what_is_there_at_the_start_is_looked_at_and_changes_are(tmp_path: Path) -> None:
    controller = Scripted()
    async with running(tmp_path, controller) as (store, _):
        await store.transact([Update(KEY, {"meta": {"name": "a", "labels": {}}})])
        await controller.wait(lambda: len(controller.passes) == 2)
        await store.transact([Delete(KEY)])
        await controller.wait(lambda: len(controller.passes) == 3)
    assert set(controller.passes) == {KEY}


async def test_again_looks_at_once_and_after_looks_later(tmp_path: Path) -> None:
    controller = Scripted(Again(), After(10))
    async with running(tmp_path, controller) as (_, clock):
        await controller.wait(lambda: len(controller.passes) == 2)
        await clock.advance(9)
        assert len(controller.passes) == 2
        await clock.advance(2)
        await controller.wait(lambda: len(controller.passes) == 3)


async def test_failures_back_off_and_a_success_forgives(tmp_path: Path) -> None:
    broken = VolantError("no")
    controller = Scripted(broken, broken, broken, broken, Done(), broken)
    async with running(tmp_path, controller) as (store, clock):
        for passes, delay in ((1, 1), (2, 2), (3, 4), (4, 4)):
            await controller.wait(lambda passes=passes: len(controller.failures) == passes)  # type: ignore[misc]
            await clock.advance(delay - 0.5)
            assert len(controller.passes) == passes
            await clock.advance(0.5)
            await controller.wait(lambda passes=passes: len(controller.passes) == passes + 1)  # type: ignore[misc]
        await store.transact([Update(KEY, {"meta": {"name": "b"}})])
        await controller.wait(lambda: len(controller.passes) == 6)
    assert controller.failures == [1, 2, 3, 4, 1]


async def test_a_bug_in_one_pass_is_a_failure_like_any_other(tmp_path: Path) -> None:
    controller = Scripted(ZeroDivisionError("oops"))
    async with running(tmp_path, controller) as (_, clock):
        await clock.advance(1.1)
        await controller.wait(lambda: len(controller.passes) == 2)
    assert controller.failures == [1]


async def test_losing_a_race_is_no_failure(tmp_path: Path) -> None:
    controller = Scripted(StaleRevision("somebody wrote"))
    async with running(tmp_path, controller):
        await controller.wait(lambda: len(controller.passes) == 2)
    assert controller.failures == []


async def test_a_missed_change_costs_a_resync_period(tmp_path: Path) -> None:
    controller = Scripted()
    async with running(tmp_path, controller, resync_s=30) as (_, clock):
        assert len(controller.passes) == 1
        await clock.advance(40)
        await controller.wait(lambda: len(controller.passes) >= 2)


@pytest.mark.parametrize(("failures", "delay"), [(1, 1), (2, 2), (3, 4), (4, 8), (60, 8), (2000, 8)])
def test_backoff_is_capped(failures: int, delay: float) -> None:
    backoff = Backoff(first_s=1, factor=2, cap_s=8, jitter=0)
    assert backoff.delay(failures, random.Random(1)) == delay


async def test_what_does_not_concern_is_looked_at_neither_for_a_change_nor_in_a_round(tmp_path: Path) -> None:
    controller = Scripted()
    other = Key("Thing", "default", "b")

    def concerns(key: Key, data: dict[str, Any] | None) -> bool:
        return data is not None and bool(data.get("wants"))

    async with running(tmp_path, controller, resync_s=10, concerns=concerns, first={**DATA, "wants": True}) as (store, clock):
        await store.transact([Create(other, DATA)])
        await store.transact([Update(KEY, DATA)])
        await store.transact([Update(other, {**DATA, "wants": True})])
        await controller.wait(lambda: other in controller.passes)
        await store.transact([Delete(other), Update(KEY, {**DATA, "wants": True})])
        await controller.wait(lambda: controller.passes.count(KEY) == 2)
        await clock.advance(30)
        await controller.wait(lambda: controller.passes.count(KEY) > 2)
    assert controller.passes.count(other) == 1
