"""Deployments on a simulated host: the strategies, their names and bounds, what goes back, and what ends."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from volant.core.condition import find_condition
from volant.core.deployment import PROGRESSING, REPLICA_FAILURE, CanaryStep, Deployment, Strategy
from volant.core.resource import Wanted
from volant.core.vm import VMSpec
from volant.guest.simulated import SimulatedGuest
from volant.guest.simulated_agent import make_agent_factory
from volant.hypervisor.simulated import SimulatedHost

from .deploying import (
    ROLLING,
    Witness,
    arrive,
    change,
    come_back,
    deploy,
    deploying,
    is_complete,
    is_whole,
    reasons_of,
    replicas_of,
    until,
    vanish,
)
from .host import World, check_nothing_left

UNHEALTHY_MB = 100
"""A guest with so much memory never passes its health check."""

BAD = VMSpec(plugin="nginx", start="cold", memory_mb=UNHEALTHY_MB)


def let_some_fail(world: World) -> None:
    def make(machine: Any) -> SimulatedGuest:
        return SimulatedGuest(world.clock, healthy_after_s=1e6 if machine.memory_mib == UNHEALTHY_MB else 0.0)

    world.host = SimulatedHost(world.clock, agent_factory=make_agent_factory(world.clock, make))


def is_rolled_back(deployment: Deployment) -> bool:
    return deployment.status.rollout.phase == "RolledBack" and deployment.status.phase == "Available"


async def test_a_rolling_update_keeps_names_and_bounds_and_deleting_leaves_nothing(world: World) -> None:
    async with deploying(world) as plane:
        web = await arrive(plane, is_complete(1), (await deploy(plane, strategy=ROLLING)).name)
        assert sorted(replicas_of(plane, web)) == ["web-0", "web-1", "web-2"]
        first = {vm.uid for vm in replicas_of(plane, web).values()}
        witness = Witness(plane, web)
        await change(plane, env={"A": "1"})
        web = await arrive(plane, is_complete(2))
        assert (witness.most, witness.fewest) == (4, 3)
        after = replicas_of(plane, web)
        assert sorted(after) == ["web-0", "web-1", "web-2"] and not first & {vm.uid for vm in after.values()}
        assert {vm.meta.labels["volant.revision"] for vm in after.values()} == {"2"}
        assert {vm.spec.env["A"] for vm in after.values()} == {"1"}
        assert await reasons_of(plane) >= {"ScaledUp", "RolloutStarted", "RolloutComplete"}
        witness.stop()
        await vanish(plane)
        await check_nothing_left(world, plane)
        assert not (await plane.store.list("DeploymentRevision")).items


async def test_without_a_surge_one_at_a_time_is_down(world: World) -> None:
    async with deploying(world) as plane:
        await deploy(plane, strategy=Strategy(max_surge=0, max_unavailable=0))
        web = await arrive(plane, is_complete(1))
        witness = Witness(plane, web)
        await change(plane, env={"A": "1"})
        await arrive(plane, is_complete(2))
        assert (witness.most, witness.fewest) == (3, 2)
        witness.stop()


async def test_scaling_makes_the_lowest_and_takes_the_highest(world: World) -> None:
    async with deploying(world) as plane:
        await deploy(plane, replicas=2)
        await arrive(plane, is_complete(1, 2))
        await plane.intents.deployments.scale("web", 6)
        web = await arrive(plane, is_whole(6))
        assert sorted(replicas_of(plane, web)) == [f"web-{index}" for index in range(6)]
        await plane.intents.deployments.scale("web", 1)
        web = await arrive(plane, lambda one: is_whole(1)(one) and one.status.replicas == 1)
        assert list(replicas_of(plane, web)) == ["web-0"]
        await plane.intents.deployments.scale("web", 0)
        web = await arrive(plane, lambda one: one.status.replicas == 0)
        assert await reasons_of(plane) >= {"ScaledUp", "ScaledDown"}


async def test_recreate_has_no_two_revisions_at_a_time(world: World) -> None:
    async with deploying(world) as plane:
        await deploy(plane, strategy=Strategy(type="recreate"))
        web = await arrive(plane, is_complete(1))
        both = []

        def look(_change: object, _old: object) -> None:
            both.append({vm.meta.labels["volant.revision"] for vm in replicas_of(plane, web).values()})

        end = plane.cache.subscribe(look)
        await change(plane, env={"A": "1"})
        await arrive(plane, is_complete(2))
        end()
        assert {"1", "2"} not in both


async def test_blue_green_serves_the_new_set_when_all_of_it_is_there(world: World) -> None:
    async with deploying(world) as plane:
        strategy = Strategy(type="blue-green", keep_old_s=1)
        await deploy(plane, replicas=2, strategy=strategy)
        web = await arrive(plane, is_complete(1, 2))
        witness = Witness(plane, web)
        served = []
        end = plane.cache.subscribe(
            lambda change, old: served.append(change.data["status"]["serving"]) if change.key.kind == "Deployment" else None
        )
        await change(plane, env={"A": "1"})
        switched = await arrive(plane, lambda one: one.status.rollout.phase == "Switched")
        assert (switched.status.serving, switched.status.replicas, switched.status.available) == (2, 4, 4)
        web = await arrive(plane, is_complete(2, 2))
        assert (witness.most, witness.fewest) == (4, 2)
        assert sorted(replicas_of(plane, web)) == ["web-2", "web-3"], "names stay where they are"
        assert [number for number, _ in itertools.groupby(served)] == [0, 1, 2, 0]
        end()
        witness.stop()


async def test_blue_green_by_hand_waits_for_somebody(world: World) -> None:
    async with deploying(world) as plane:
        await deploy(plane, replicas=1, strategy=Strategy(type="blue-green", promote="manual", keep_old_s=0))
        await arrive(plane, is_complete(1, 1))
        await change(plane, env={"A": "1"})
        waiting = await arrive(plane, lambda one: one.status.rollout.phase == "Waiting")
        assert waiting.status.serving == 1
        await plane.intents.deployments.resume("web")
        await arrive(plane, is_complete(2, 1))
        assert "Waiting" in await reasons_of(plane)


async def test_a_canary_goes_by_steps(world: World) -> None:
    async with deploying(world) as plane:
        steps = (CanaryStep(replicas=1), CanaryStep(replicas="50%", pause_s=0))
        await deploy(plane, replicas=4, strategy=Strategy(type="canary", max_surge=1, steps=steps))
        web = await arrive(plane, is_complete(1, 4))
        await change(plane, env={"A": "1"})
        await arrive(plane, lambda one: one.status.rollout.phase == "Waiting" and one.status.rollout.step == 0)
        web = await arrive(plane, lambda one: one.status.replicas == 4)
        labels = sorted(vm.meta.labels["volant.revision"] for vm in replicas_of(plane, web).values())
        assert labels == ["1", "1", "1", "2"]
        await plane.intents.deployments.resume("web")
        web = await arrive(plane, is_complete(2, 4))
        assert sorted(replicas_of(plane, web)) == [f"web-{index}" for index in range(4)]
        assert "Promoted" in await reasons_of(plane)


async def test_a_canary_that_falls_takes_the_rollout_back(world: World) -> None:
    async with deploying(world) as plane:
        steps = (CanaryStep(replicas=1),)
        await deploy(plane, strategy=Strategy(type="canary", max_surge=1, steps=steps))
        before = await arrive(plane, is_complete(1))
        kept = {vm.uid for vm in replicas_of(plane, before).values()}
        await change(plane, env={"A": "1"})
        web = await arrive(plane, lambda one: one.status.rollout.phase == "Waiting" and one.status.replicas == 3)
        canary = next(vm for vm in replicas_of(plane, web).values() if vm.meta.labels["volant.revision"] == "2")
        world.host.crash(canary.uid, signal=9)
        back = await arrive(plane, is_rolled_back)
        assert (back.spec.target, back.spec.vm.env) == (3, {})
        after = replicas_of(plane, back)
        assert len({vm.uid for vm in after.values()} & kept) == 2, "those that were never replaced are the same"
        for name in after:
            await come_back(plane, name, lambda vm: vm.meta.labels["volant.revision"] == "3")
        assert "RolledBack" in await reasons_of(plane)


async def test_a_rollout_without_progress_goes_back_by_itself(world: World) -> None:
    let_some_fail(world)
    async with deploying(world) as plane:
        await deploy(plane, strategy=ROLLING, progress_deadline_s=1)
        web = await arrive(plane, is_complete(1))
        witness = Witness(plane, web)
        await change(plane, vm=BAD)
        back = await arrive(plane, is_rolled_back)
        assert witness.fewest == 3, "what served goes on serving"
        assert back.spec.vm.memory_mb != UNHEALTHY_MB and back.spec.target == 3
        assert "made no progress for 1 s" in back.status.rollout.message
        assert sorted(replicas_of(plane, back)) == ["web-0", "web-1", "web-2"]
        history = await plane.intents.deployments.revisions("web")
        assert "rollback to 1" in history[0].revision.spec.reason
        witness.stop()


async def test_a_first_rollout_that_fails_says_so_and_a_better_one_mends_it(world: World) -> None:
    let_some_fail(world)
    async with deploying(world) as plane:
        await deploy(plane, replicas=2, vm=BAD, progress_deadline_s=1)
        failed = await arrive(plane, lambda one: one.status.phase == "Failed")
        progressing = find_condition(failed.status.conditions, PROGRESSING)
        assert progressing is not None and progressing.status == "False"
        await change(plane, vm=VMSpec(plugin="nginx", start="cold"))
        await arrive(plane, is_complete(2, 2))


async def test_a_pause_stops_the_rollout_and_not_the_healing(world: World) -> None:
    async with deploying(world) as plane:
        await deploy(plane, strategy=ROLLING, min_ready_s=1)
        await arrive(plane, is_complete(1))
        await change(plane, env={"A": "1"})
        await arrive(plane, lambda one: one.status.updated >= 1)
        await plane.intents.deployments.pause("web")
        web = await arrive(plane, lambda one: one.status.phase == "Paused" and one.status.available == 3)
        old = next(vm for vm in replicas_of(plane, web).values() if vm.meta.labels["volant.revision"] == "1")
        await plane.intents.vms.delete(old.name)
        await come_back(
            plane, old.name, lambda vm: vm.uid != old.uid and vm.status.ready and vm.meta.labels["volant.revision"] == "1"
        )
        assert (await plane.intents.deployments.get("web")).status.phase == "Paused"
        await plane.intents.deployments.resume("web")
        await arrive(plane, is_complete(2))


async def test_min_ready_is_waited_for(world: World) -> None:
    async with deploying(world) as plane:
        await deploy(plane, replicas=1, min_ready_s=1)
        early = await arrive(plane, lambda one: one.status.ready == 1)
        assert early.status.available == 0 and early.status.rollout.phase == "Progressing"
        await arrive(plane, is_complete(1, 1))


async def test_a_name_that_somebody_else_has_is_told_and_left_alone(world: World) -> None:
    async with deploying(world) as plane:
        other = await plane.intents.vms.create(Wanted(name="web-1", labels={}, spec=VMSpec(plugin="nginx")))
        await deploy(plane)

        def is_told(one: Deployment) -> bool:
            failure = find_condition(one.status.conditions, REPLICA_FAILURE)
            return failure is not None and failure.status == "True" and "web-1" in failure.message and one.status.ready == 2

        await arrive(plane, is_told)
        assert (await plane.intents.vms.get("web-1")).uid == other.uid
        await plane.intents.vms.delete("web-1")
        await arrive(plane, is_complete(1))


async def test_revisions_beyond_the_limit_go_and_those_in_use_stay(world: World) -> None:
    async with deploying(world) as plane:
        await deploy(plane, replicas=1, history_limit=2)
        for number in range(1, 5):
            await arrive(plane, is_complete(number, 1))
            await change(plane, env={"N": str(number)})
        await arrive(plane, is_complete(5, 1))
        await until(plane, lambda: len(plane.cache.list("DeploymentRevision")) == 2)
        found = plane.cache.list("DeploymentRevision")
        assert sorted(stored.data["spec"]["number"] for stored in found) == [4, 5]


async def test_deleting_ends_in_every_phase(world: World) -> None:
    let_some_fail(world)
    async with deploying(world) as plane:
        for turns in (0, 1, 3, 10, 40):
            await deploy(plane, replicas=4)
            for _ in range(turns):
                await asyncio.sleep(0.005)
            await vanish(plane)
        await deploy(plane, replicas=2, vm=BAD)
        await arrive(plane, lambda one: one.status.replicas == 2)
        await vanish(plane)
        await check_nothing_left(world, plane)


async def test_a_hundred_and_twenty_are_there_soon(world: World) -> None:
    async with deploying(world) as plane:
        await deploy(plane, replicas=120)
        await arrive(plane, is_complete(1, 120))
        writes = (await plane.store.list("Deployment")).revision
        deployment = await plane.intents.deployments.get("web")
        await asyncio.sleep(0.5)
        assert (await plane.intents.deployments.get("web")).revision == deployment.revision, f"it rests ({writes})"
        await vanish(plane)
