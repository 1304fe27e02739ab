"""The autoscaler on a real registry: what it reads, what it decides, what it writes, and what it does not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from volant.core.autoscale import Autoscale, Metric, MetricReading
from volant.core.errors import StaleRevision
from volant.reconcile.autoscale import readings
from volant.reconcile.balance.balancer import Traffic
from volant.reconcile.outcome import Done
from volant.store.records import update_of

from .scaled_world import KEY, World, open_world

CPU = Metric(type="cpu", target=50)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as made:
        yield made


def scaled(*metrics: Metric, **fields: Any) -> Autoscale:
    return Autoscale(**{"max": 10, "down_after_s": 60, **fields}, metrics=metrics)


async def test_it_begins_with_what_is_asked_for_within_bounds(world: World) -> None:
    await world.add(scaled(CPU, min=3), replicas=1)
    await world.look()
    assert await world.replicas() == 3
    assert await world.events() == [], "nothing was scaled yet"


async def test_busy_replicas_become_more_and_the_event_says_why(world: World) -> None:
    await world.add(scaled(CPU), replicas=2)
    for index in range(2):
        await world.add_replica(index, busy_cores=1.8)  # of two: 90 %
    await world.look()
    assert await world.look_again() == 2, "a rate needs two looks"
    assert (await world.read()).status.autoscale.message.startswith("nothing is known")
    assert await world.look_again() == 4
    status = (await world.read()).status.autoscale
    assert status.readings == (MetricReading(type="cpu", value=90.0, target=50.0),)
    assert status.changed_at == "2026-01-01T00:00:30.000000Z"
    assert await world.events() == ["from 2 to 4: cpu is 90 % a replica, and should be 50 %"]


async def test_idle_replicas_become_fewer_after_the_window_and_not_before(world: World) -> None:
    await world.add(scaled(CPU), replicas=4)
    for index in range(4):
        await world.add_replica(index, busy_cores=0.2)
    await world.look()
    said = [await world.look_again() for _ in range(7)]
    # Looks at 15 s (nothing is known yet, and four are what there is) to 105 s.
    assert said == [4, 4, 4, 4, 1, 1, 1]


async def test_after_a_restart_nothing_is_taken_away_before_a_whole_window(world: World) -> None:
    await world.add(scaled(CPU), replicas=4)
    for index in range(4):
        await world.add_replica(index, busy_cores=0.2)
    await world.look()
    assert [await world.look_again() for _ in range(3)] == [4, 4, 4]
    world.begin()
    await world.look()
    assert [await world.look_again() for _ in range(4)] == [4, 4, 4, 1]


async def test_memory_is_what_the_guest_says(world: World) -> None:
    await world.add(scaled(Metric(type="memory", target=40)), replicas=1)
    vm = await world.add_replica(0)
    world.door.memory_percent[vm.uid] = 80.0
    await world.look()
    assert await world.look_again() == 2


async def test_a_guest_that_does_not_tell_its_memory_changes_nothing(world: World) -> None:
    await world.add(scaled(Metric(type="memory", target=40)), replicas=1)
    await world.add_replica(0)
    await world.look()
    assert await world.look_again() == 1
    status = (await world.read()).status.autoscale
    assert status.readings[0].value is None and "its guest does not tell" in status.readings[0].message


async def test_a_workloads_own_number_is_fetched(world: World) -> None:
    await world.add(scaled(Metric(type="workload", name="queued", labels={"kind": "mail"}, port=9100, target=10)), replicas=2)
    vms = [await world.add_replica(index) for index in range(2)]
    world.door.texts = {vm.uid: b'queued{kind="mail"} 25\nqueued{kind="post"} 999\n' for vm in vms}
    await world.look()
    assert await world.look_again() == 5
    assert world.door.asked == 0, "nobody asked for anything else"
    assert await world.events() == ["from 2 to 5: queued is 25 a replica, and should be 10"]


async def test_a_counter_is_taken_per_second(world: World) -> None:
    metric = Metric(type="workload", name="requests_total", port=80, target=10, per_second=True)
    await world.add(scaled(metric), replicas=1)
    vm = await world.add_replica(0)
    world.door.texts[vm.uid] = b"requests_total 1000\n"
    await world.look()
    assert await world.look_again() == 1
    world.door.texts[vm.uid] = b"requests_total 1450\n"
    assert await world.look_again() == 3
    world.door.texts[vm.uid] = b"requests_total 600\n"  # it began anew at 0
    await world.look_again()
    assert (await world.read()).status.autoscale.readings[0].value == 40.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "nobody listens"),
        (b"queued many\n", "line 1"),
        (b"\xff\x00", "tells no queued"),
        (b"queued NaN\n", "tells no queued"),
    ],
)
async def test_what_a_workload_cannot_tell_changes_nothing_and_says_why(world: World, text: bytes | None, said: str) -> None:
    await world.add(scaled(Metric(type="workload", name="queued", port=80, target=10)), replicas=3)
    vm = await world.add_replica(0)
    if text is not None:
        world.door.texts[vm.uid] = text
    await world.look()
    for _ in range(8):
        assert await world.look_again() == 3
    assert said in (await world.read()).status.autoscale.message


async def test_a_metric_without_a_port_changes_nothing_and_says_so(world: World) -> None:
    await world.add(scaled(Metric(type="workload", name="queued", target=10)), replicas=2, ports=True)
    await world.add_replica(0)
    await world.look()
    assert await world.look_again() == 2
    assert "at which port" in (await world.read()).status.autoscale.message


async def test_connections_are_counted_over_the_whole_deployment(world: World) -> None:
    await world.add(scaled(Metric(type="connections", target=10)), replicas=2, ports=True)
    world.traffic = Traffic(connections=45, held=5, last_active=0.0)
    await world.look()
    assert await world.look_again() == 5


async def test_those_that_are_not_ready_are_left_out(world: World) -> None:
    await world.add(scaled(CPU), replicas=3)
    await world.add_replica(0, busy_cores=1.0)
    await world.add_replica(1, busy_cores=0.0, ready=False)
    await world.add_replica(2, busy_cores=0.0, ready=False)
    await world.look()
    assert [await world.look_again() for _ in range(3)] == [3, 3, 3]
    assert (await world.read()).status.autoscale.readings[0].value == 50.0


async def test_a_run_that_began_anew_is_no_negative_rate(world: World) -> None:
    await world.add(scaled(CPU), replicas=1)
    vm = await world.add_replica(0, busy_cores=1.0)
    await world.look()
    await world.look_again()
    await world.look_again()
    world.door.restart(vm.uid)
    assert await world.look_again() == 1
    assert (await world.read()).status.autoscale.readings[0].value == 50.0


async def test_at_rest_nothing_is_written(world: World) -> None:
    await world.add(scaled(CPU), replicas=2)
    for index in range(2):
        await world.add_replica(index, busy_cores=1.0)
    await world.look()
    for _ in range(2):
        await world.look_again()
    revision = (await world.read()).revision
    for _ in range(20):
        await world.look_again()
    assert (await world.read()).revision == revision


async def test_it_is_not_looked_more_often_than_asked_for(world: World) -> None:
    await world.add(scaled(CPU), replicas=1)
    await world.add_replica(0)
    await world.look()
    await world.look_again()
    asked = world.door.asked
    for _ in range(5):
        await world.look()  # something of the deployment changed
    assert world.door.asked == asked


async def test_bounds_that_change_hold_at_once(world: World) -> None:
    await world.add(scaled(CPU), replicas=2)
    await world.look()
    await world.change(autoscale=scaled(CPU, min=4))
    await world.look()
    assert await world.replicas() == 4
    await world.change(autoscale=scaled(CPU, max=3))
    await world.look()
    assert await world.replicas() == 3


async def test_without_autoscaling_nothing_is_said_any_more(world: World) -> None:
    await world.add(scaled(CPU), replicas=2)
    await world.look()
    await world.change(autoscale=None)
    assert isinstance(await world.look(), Done)
    assert (await world.read()).status.autoscale.replicas is None
    revision = (await world.read()).revision
    assert isinstance(await world.look(), Done)
    assert (await world.read()).revision == revision


async def test_who_is_idle_falls_asleep_and_is_woken(world: World) -> None:
    await world.add(scaled(min=0, idle_after_s=60), replicas=1, ports=True)
    world.traffic = Traffic(connections=0, held=0, last_active=0.0)
    await world.look()
    assert [await world.look_again() for _ in range(4)] == [1, 1, 1, 0]
    assert await world.events() == ["from 1 to 0: no connection for 60 s"]
    assert await world.look_again() == 0
    world.traffic = Traffic(connections=1, held=1, last_active=world.clock.monotonic())
    await world.look()  # at once, and not at the next interval
    assert await world.replicas() == 1
    assert "from 0 to 1: somebody connects" in await world.events()


async def test_who_is_connected_stays_awake(world: World) -> None:
    await world.add(scaled(min=0, idle_after_s=60), replicas=1, ports=True)
    world.traffic = Traffic(connections=1, held=0, last_active=0.0)
    await world.look()
    assert [await world.look_again() for _ in range(8)] == [1] * 8


async def test_a_workload_that_has_work_stays_awake(world: World) -> None:
    await world.add(
        scaled(Metric(type="workload", name="queued", port=80, target=10), min=0, idle_after_s=30), replicas=1, ports=True
    )
    vm = await world.add_replica(0)
    world.traffic = Traffic(connections=0, held=0, last_active=0.0)
    world.door.texts[vm.uid] = b"queued 1\n"
    await world.look()
    assert [await world.look_again() for _ in range(8)] == [1] * 8
    world.door.texts[vm.uid] = b"queued 0\n"
    assert await world.look_again() == 0


async def test_one_that_cannot_be_woken_never_sleeps(world: World) -> None:
    await world.add(scaled(min=0, idle_after_s=30), replicas=1, ports=True)
    world.traffic = Traffic(connections=0, held=0, last_active=0.0)
    await world.look()
    assert [await world.look_again() for _ in range(3)][-1] == 0
    await world.change(ports=())
    world.traffic = None
    await world.look()
    assert await world.replicas() == 1
    assert [await world.look_again() for _ in range(4)] == [1] * 4


async def test_a_minimum_that_rises_wakes_it(world: World) -> None:
    await world.add(scaled(min=0, idle_after_s=30), replicas=1, ports=True)
    world.traffic = Traffic(connections=0, held=0, last_active=0.0)
    await world.look()
    for _ in range(2):
        await world.look_again()
    assert await world.replicas() == 0
    await world.change(autoscale=scaled(min=2))
    await world.look()
    assert await world.replicas() == 2


async def test_a_write_of_somebody_else_in_between_loses_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.add(scaled(Metric(type="connections", target=10)), replicas=1, ports=True)
    world.traffic = Traffic(connections=30, held=0, last_active=0.0)
    await world.look()
    real, races = world.store.transact, []

    async def race(operations: Any) -> int:
        if not races:
            races.append(1)
            before = await world.read()
            status = msgspec.structs.replace(before.status, ready=1)
            await real([update_of(msgspec.structs.replace(before, status=status))])
        return await real(operations)

    monkeypatch.setattr(world.store, "transact", race)
    assert await world.look_again() == 3
    assert (await world.read()).status.ready == 1 and races


async def test_who_is_changed_all_the_time_is_looked_at_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.add(scaled(CPU), replicas=1)

    async def stale(operations: Any) -> int:
        raise StaleRevision("another one was first")

    monkeypatch.setattr(world.store, "transact", stale)
    with pytest.raises(StaleRevision):
        await world.controller.reconcile(KEY)


async def test_replicas_that_never_answer_hold_nobody_up_for_long(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "STATS_LIMIT_S", 0.02)
    monkeypatch.setattr(readings, "LOOK_LIMIT_S", 0.05)
    await world.add(scaled(CPU, max=200), replicas=100)
    for index in range(100):
        await world.add_replica(index)
    world.door.is_silent = True
    await world.look()
    assert await world.look_again() == 100
    reading = (await world.read()).status.autoscale.readings[0]
    assert reading.value is None and "did not tell within" in reading.message and "99 more" in reading.message
