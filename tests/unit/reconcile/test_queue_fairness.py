"""Turns and rates: nobody waits for ever for somebody who is busy."""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from volant.core.queue import Why
from volant.core.simulated_clock import SimulatedClock
from volant.reconcile.fair_queue import PATIENT_TURN, FairQueue, Place
from volant.reconcile.queue import WorkQueue
from volant.reconcile.rate import Limits
from volant.store.contract import Key


def key_of(project: str, name: str) -> Key:
    return Key("VM", project, name)


def anybody(project: str) -> bool:
    return True


def pop_all(queue: FairQueue) -> list[Key]:
    found = []
    while (popped := queue.pop(anybody)) is not None:
        found.append(popped[0])
    return found


def test_a_busy_project_does_not_keep_others_waiting() -> None:
    queue = FairQueue()
    for number in range(1_000):
        queue.push(key_of("busy", f"a{number}"), Place("busy"))
    queue.push(key_of("calm", "b"), Place("calm"))
    assert key_of("calm", "b") in pop_all(queue)[:2]


def test_a_deployment_takes_turns_with_a_single_vm() -> None:
    queue = FairQueue()
    for number in range(1_000):
        queue.push(key_of("p", f"web-{number}"), Place("p", owner="deployment"))
    queue.push(key_of("p", "db"), Place("p"))
    assert key_of("p", "db") in pop_all(queue)[:2]


def test_what_changed_comes_before_what_is_looked_at_in_case_and_that_is_not_left_for_ever() -> None:
    queue = FairQueue()
    queue.push(key_of("p", "resync"), Place("p", patient=True))
    for number in range(100):
        queue.push(key_of("p", f"a{number}"), Place("p"))
    order = pop_all(queue)
    assert order.index(key_of("p", "resync")) == PATIENT_TURN - 1


def test_a_change_of_what_waits_patiently_hurries_it() -> None:
    queue = FairQueue()
    for name in ("a", "b", "c"):
        queue.push(key_of("p", name), Place("p", patient=True))
    queue.push(key_of("p", "c"), Place("p"))
    assert [key.name for key in pop_all(queue)] == ["c", "a", "b"]


def test_what_ends_stays_so_however_it_is_asked_for() -> None:
    queue = FairQueue()
    key = key_of("p", "a")
    queue.push(key, Place("p", patient=True))
    queue.push(key, Place("p", ending=True, patient=True))
    queue.push(key, Place("p"))
    popped = queue.pop(lambda project: False)
    assert popped is not None
    assert popped == (key, Place("p", ending=True))


pushes = st.lists(
    st.tuples(
        st.sampled_from(("p", "q", "r")),
        st.sampled_from(("", "one", "two")),
        st.integers(0, 5),
        st.booleans(),
        st.booleans(),
    ),
    max_size=60,
)


@given(pushes)
def test_every_key_comes_once_and_no_project_gets_more_than_its_turns(
    pushed: list[tuple[str, str, int, bool, bool]],
) -> None:
    queue = FairQueue()
    keys = set()
    for project, owner, number, ending, patient in pushed:
        key = key_of(project, f"{owner}{number}")
        keys.add(key)
        queue.push(key, Place(project, owner, ending, patient))
        assert key in queue
    assert sum(queue.depths().values()) == len(queue) == len(keys)
    assert set(queue.keys()) == keys
    order = pop_all(queue)
    assert Counter(order) == Counter(keys)
    assert len(queue) == 0
    assert queue.depths() == {}


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 30), min_size=2))
def test_projects_are_served_in_turns(counts: dict[str, int]) -> None:
    queue = FairQueue()
    for project, count in counts.items():
        for number in range(count):
            queue.push(key_of(project, f"{number}"), Place(project))
    served: Counter[str] = Counter()
    for key in pop_all(queue):
        served[key.project] += 1
        behind = [served[project] for project, count in counts.items() if served[project] < count]
        assert all(served[key.project] - each <= 1 for each in behind), "somebody got two turns while another waited"


async def test_a_tenants_rate_holds_back_that_tenant_only_and_never_a_delete() -> None:
    clock = SimulatedClock()
    ending: set[Key] = set()
    limits = Limits(passes_s=1_000, burst=1_000, tenant_passes_s=1, tenant_burst=2)
    queue = WorkQueue(clock, lambda key: Place(key.project, ending=key in ending), limits)
    async with asyncio.TaskGroup() as group:
        timers = group.create_task(queue.run_timers())
        taken: list[str] = []

        async def work() -> None:
            while True:
                key = await queue.take()
                taken.append(key.name)
                queue.finish(key)

        worker = group.create_task(work())
        for number in range(5):
            queue.add(key_of("busy", f"a{number}"))
        queue.add(key_of("calm", "b"))
        await clock.advance(0.01)
        assert sorted(taken) == ["a0", "a1", "b"]
        assert queue.is_limited("busy")
        assert not queue.is_limited("calm")
        ending.add(key_of("busy", "a4"))
        queue.add(key_of("busy", "a4"))
        await clock.advance(0.01)
        assert taken[-1] == "a4"
        await clock.advance(1)
        assert taken[-1] == "a2"
        await clock.advance(1)
        assert taken[-1] == "a3"
        assert len(taken) == 6
        worker.cancel()
        timers.cancel()


async def test_the_rate_of_all_holds_back_all_but_deletes() -> None:
    clock = SimulatedClock()
    limits = Limits(passes_s=2, burst=2)
    queue = WorkQueue(clock, lambda key: Place(key.project, ending=key.name == "gone"), limits)
    for project in ("p", "q", "r"):
        queue.add(key_of(project, "a"))
    queue.add(key_of("p", "gone"))
    async with asyncio.TaskGroup() as group:
        timers = group.create_task(queue.run_timers())
        for _ in range(3):
            queue.finish(await queue.take())
        taking = group.create_task(queue.take())
        await clock.advance(0.4)
        assert not taking.done()
        await clock.advance(0.2)
        assert taking.done()
        timers.cancel()


async def test_a_worker_that_is_cancelled_as_its_key_comes_gives_it_back() -> None:
    queue = WorkQueue(SimulatedClock())
    taking = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    queue.add(key_of("p", "a"))
    taking.cancel()
    await asyncio.wait({taking})
    assert taking.cancelled()
    assert queue.waiting() == [key_of("p", "a")]
    assert await queue.take() == key_of("p", "a")


async def test_a_worker_that_went_away_is_not_waited_for() -> None:
    queue = WorkQueue(SimulatedClock())
    taking = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    taking.cancel()
    await asyncio.wait({taking})
    queue.add(key_of("p", "a"))
    assert await queue.take() == key_of("p", "a")


async def test_a_resync_does_not_hasten_what_fails_and_a_change_does() -> None:
    queue = WorkQueue(SimulatedClock())
    key = key_of("p", "a")
    queue.add_after(key, 30, Why.RETRY)
    queue.add(key, Why.RESYNC)
    assert queue.waiting() == []
    queue.add(key)
    assert queue.waiting() == [key]
    assert queue.ready()[key].why is Why.CHANGE
    assert not queue.planned()


async def test_looks_that_are_planned_anew_leave_nothing_behind() -> None:
    queue = WorkQueue(SimulatedClock())
    key = key_of("p", "a")
    for _ in range(10_000):
        queue.add_after(key, 60)
        queue.forget(key)
    assert len(queue._timers) < 1_000
