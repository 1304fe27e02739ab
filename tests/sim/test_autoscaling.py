"""Autoscaling of simulated guests, whole: what they do is read by the ways that real ones are, and more of them are made."""

from __future__ import annotations

import asyncio
from typing import Any

from volant.core.autoscale import Autoscale, Metric

from .deployed import METRICS_PORT, Served, ask, deploy, guest_of, list_replicas, wait_deployment
from .host import World, reach


def scaled(*metrics: Metric, **fields: Any) -> Autoscale:
    return Autoscale(**{"max": 4, "interval_s": 1, "down_after_s": 2, **fields}, metrics=metrics)


async def test_busy_processors_make_more_replicas_and_idle_ones_fewer(world: World) -> None:
    Served(world)
    async with world.plane() as (plane, _):
        await deploy(plane, world, 1, vm={"cpu_cores": 2}, autoscale=scaled(Metric(type="cpu", target=50)))
        await wait_deployment(plane, lambda web: web.status.available == 1)
        (vm,) = await list_replicas(plane)
        guest_of(world, vm).use.busy_cores = 1.9
        web = await wait_deployment(plane, lambda web: web.status.autoscale.replicas == 2)
        assert 70 <= (web.status.autoscale.readings[0].value or 0) <= 100
        await wait_deployment(plane, lambda web: web.status.available == 2)
        guest_of(world, vm).use.busy_cores = 0.0
        await wait_deployment(plane, lambda web: web.status.autoscale.replicas == 1)
        await wait_deployment(plane, lambda web: web.status.replicas == 1)
        listing = await plane.store.list("Event")
        said = [stored.data["spec"]["message"] for stored in listing.items if stored.data["spec"]["reason"] == "Scaled"]
        assert len(said) == 2 and any(words.startswith("from 1 to 2: cpu is ") for words in said)


async def test_a_guests_memory_counts(world: World) -> None:
    Served(world)
    async with world.plane() as (plane, _):
        await deploy(plane, world, 1, autoscale=scaled(Metric(type="memory", target=80), down_after_s=3600))
        await wait_deployment(plane, lambda web: web.status.available == 1)
        (vm,) = await list_replicas(plane)
        use = guest_of(world, vm).use
        use.memory_available_kb = 0
        await wait_deployment(plane, lambda web: web.status.available == 2)


async def test_a_workload_says_how_many_it_wants(world: World) -> None:
    Served(world)
    async with world.plane() as (plane, _):
        metric = Metric(type="workload", name="queued", labels={"kind": "mail"}, port=METRICS_PORT, target=10)
        await deploy(plane, world, 1, autoscale=scaled(metric))
        await wait_deployment(plane, lambda web: web.status.available == 1)
        (vm,) = await list_replicas(plane)
        guest_of(world, vm).use.metrics = {'queued{kind="mail"}': 25, 'queued{kind="post"}': 900}
        web = await wait_deployment(plane, lambda web: web.status.autoscale.replicas == 3)
        assert web.status.autoscale.readings[0].value == 25
        await wait_deployment(plane, lambda web: web.status.available == 3)


async def test_what_nobody_connects_to_sleeps_and_goes_on_for_who_does(world: World) -> None:
    Served(world)
    async with world.plane() as (plane, _):
        await deploy(plane, world, 1, autoscale=scaled(min=0, idle_after_s=1))
        await wait_deployment(plane, lambda web: web.status.available == 1)
        (vm,) = await list_replicas(plane)
        assert await ask(world) == vm.uid
        await wait_deployment(plane, lambda web: web.status.phase == "Asleep")
        await reach(plane, "web-0", lambda found: found.status.phase == "Suspended")
        # All of them are held until it is there, and it is woken once.
        assert await asyncio.gather(*(ask(world) for _ in range(50))) == [vm.uid] * 50
        listing = await plane.store.list("Event")
        said = [stored.data["spec"] for stored in listing.items if stored.data["spec"]["reason"] == "Scaled"]
        assert [spec["count"] for spec in said if spec["message"] == "from 0 to 1: somebody connects"] == [1]
        await wait_deployment(plane, lambda web: web.status.phase == "Asleep")


async def test_it_goes_on_over_a_restart_of_volantd(world: World) -> None:
    Served(world)
    async with world.plane() as (plane, _):
        await deploy(plane, world, 3, autoscale=scaled(Metric(type="cpu", target=50), down_after_s=3600))
        await wait_deployment(plane, lambda web: web.status.available == 3)
    async with world.plane() as (plane, _):
        web = await wait_deployment(
            plane, lambda web: any(reading.value is not None for reading in web.status.autoscale.readings)
        )
        assert web.status.autoscale.replicas == 3, "they are idle, but that was not seen for an hour"
