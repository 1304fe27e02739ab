from __future__ import annotations

import asyncio
from datetime import timedelta

from volant.core.simulated_clock import SimulatedClock


async def test_sleepers_wake_in_the_order_of_their_due_times() -> None:
    clock = SimulatedClock()
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, *waits_s: float) -> None:
        for wait_s in waits_s:
            await clock.sleep(wait_s)
            woken.append((name, clock.monotonic()))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(sleeper("slow", 3.0))
        tasks.create_task(sleeper("quick", 1.0, 1.0, 2.0))
        await clock.advance(0.5)
        assert woken == []
        assert clock.next_due_s == 0.5
        await clock.advance(3.5)
    assert woken == [("quick", 1.0), ("quick", 2.0), ("slow", 3.0), ("quick", 4.0)]
    assert clock.next_due_s is None


async def test_both_kinds_of_time_pass_together_and_a_cancelled_sleep_is_forgotten() -> None:
    clock = SimulatedClock()
    began = clock.now()
    sleeping = asyncio.ensure_future(clock.sleep(5.0))
    await clock.advance(2.0)
    sleeping.cancel()
    await asyncio.gather(sleeping, return_exceptions=True)
    assert clock.next_due_s is None
    assert (clock.monotonic(), clock.now() - began) == (2.0, timedelta(seconds=2))


async def test_the_shortest_sleep_makes_progress() -> None:
    clock = SimulatedClock()
    await clock.advance(1e9)
    sleeping = asyncio.ensure_future(clock.sleep(1e-12))
    await clock.advance(1.0)
    assert sleeping.done()
