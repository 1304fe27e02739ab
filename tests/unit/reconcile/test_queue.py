from __future__ import annotations

import asyncio

from volant.core.simulated_clock import SimulatedClock
from volant.reconcile.queue import WorkQueue
from volant.store.contract import Key

A, B = Key("VM", "default", "a"), Key("VM", "default", "b")


async def test_a_key_is_in_line_once() -> None:
    queue = WorkQueue(SimulatedClock())
    queue.add(A)
    queue.add(B)
    queue.add(A)
    assert queue.waiting() == [A, B]


async def test_a_key_being_worked_on_waits_for_its_worker() -> None:
    queue = WorkQueue(SimulatedClock())
    queue.add(A)
    assert await queue.take() == A
    queue.add(A)
    queue.add(A)
    assert queue.waiting() == []
    assert not queue.idle
    queue.finish(A)
    assert queue.waiting() == [A]


async def test_take_waits_for_a_key() -> None:
    queue = WorkQueue(SimulatedClock())
    taking = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    assert not taking.done()
    queue.add(B)
    assert await taking == B


async def test_later_is_kept_and_sooner_wins() -> None:
    clock = SimulatedClock()
    queue = WorkQueue(clock)
    async with asyncio.TaskGroup() as group:
        timers = group.create_task(queue.run_timers())
        queue.add_after(A, 10)
        queue.add_after(A, 5)
        queue.add_after(A, 20)
        await clock.advance(4.9)
        assert queue.waiting() == []
        await clock.advance(0.2)
        assert queue.waiting() == [A]
        assert await queue.take() == A
        queue.finish(A)
        await clock.advance(60)
        assert queue.waiting() == [], "the later looks were the same look"
        timers.cancel()
