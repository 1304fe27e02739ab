"""What becomes of replicas that fail, or that somebody takes away or changes: each is put right, within its budget."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from volant.core.autoscale import Autoscale
from volant.core.condition import find_condition, is_true
from volant.core.deployment import REPLICA_FAILURE, Budget, Deployment, Strategy
from volant.core.errors import NotFound, OverBudget, StaleRevision
from volant.core.vm import RESTART_REQUIRED, VM, PublishedPort, VMSpec
from volant.store.records import get_resource, update_of

from .crash import crashing
from .deploying import (
    ROLLING,
    Witness,
    arrive,
    change,
    come_back,
    deploy,
    deploying,
    guest_of,
    is_complete,
    is_whole,
    reasons_of,
    replicas_of,
    vanish,
)
from .host import World, check_nothing_left


async def test_a_replica_that_is_deleted_by_hand_is_made_anew_under_its_name(world: World) -> None:
    async with deploying(world) as plane:
        await deploy(plane)
        web = await arrive(plane, is_complete(1))
        gone = replicas_of(plane, web)["web-1"]
        await plane.intents.vms.delete("web-1")
        await come_back(plane, "web-1", lambda vm: vm.uid != gone.uid and vm.status.ready)
        web = await arrive(plane, is_whole())
        assert sorted(replicas_of(plane, web)) == ["web-0", "web-1", "web-2"]
        assert "Replaced" in await reasons_of(plane)


@pytest.mark.parametrize("how", ["stop", "suspend"])
async def test_a_replica_that_is_put_out_by_hand_runs_again(world: World, how: str) -> None:
    async with deploying(world) as plane:
        await deploy(plane)
        web = await arrive(plane, is_complete(1))
        before = replicas_of(plane, web)["web-1"]
        await getattr(plane.intents.vms, how)("web-1")
        again = await come_back(plane, "web-1", lambda vm: vm.status.run_id != before.status.run_id or vm.spec.power == "running")
        assert again.uid == before.uid
        await arrive(plane, is_whole())
        assert "Repaired" in await reasons_of(plane)


async def test_what_was_drained_stands_still_until_its_node_takes_vms_again(world: World) -> None:
    async with deploying(world) as plane:
        await deploy(plane)
        await arrive(plane, is_complete(1))
        assert await plane.intents.system.drain() == 3
        for name in ("web-0", "web-1", "web-2"):
            await come_back(plane, name, lambda vm: vm.status.phase == "Stopped")
        web = await arrive(plane, lambda web: web.status.available == 0)
        # Whatever makes it look again: they were stopped for good.
        await change(plane, replace_after_s=1)
        await arrive(plane, lambda web: web.status.observed_generation == web.meta.generation)
        assert {vm.spec.power for vm in replicas_of(plane, web).values()} == {"stopped"}
        await plane.intents.nodes.edit("here", lambda before: {**before, "unschedulable": False})
        await arrive(plane, is_whole())


async def test_a_replica_that_is_changed_by_hand_is_put_back_and_restarted_if_it_has_to_be(world: World) -> None:
    async with deploying(world) as plane:
        await deploy(plane, strategy=ROLLING)
        web = await arrive(plane, is_complete(1))
        witness = Witness(plane, web)
        before = replicas_of(plane, web)["web-1"]

        def edit(config: dict[str, Any]) -> dict[str, Any]:
            return {**config, "env": {"HACKED": "1"}, "labels": {"mine": "yes"}}

        await plane.intents.configuration.edit("web-1", edit)
        back = await come_back(plane, "web-1", lambda vm: vm.spec.env == {} and vm.meta.labels.get("volant.revision") == "1")
        assert back.meta.labels == {"volant.deployment": "web", "volant.revision": "1", "mine": "yes"}
        await arrive(plane, lambda one: is_whole()(one) and one.status.replicas == 3)
        has_all = lambda vm: vm.status.ready and not is_true(vm.status.conditions, RESTART_REQUIRED)  # noqa: E731
        after = await come_back(plane, "web-1", has_all)
        assert after.uid == before.uid
        assert witness.fewest == 3
        witness.stop()
        assert "Repaired" in await reasons_of(plane)


async def test_a_run_that_lacks_something_is_restarted_with_another_in_its_place(world: World) -> None:
    async with deploying(world) as plane:
        await deploy(plane, strategy=ROLLING, budget=Budget(max_unavailable=1))
        web = await arrive(plane, is_complete(1))
        witness = Witness(plane, web)
        vm = await get_resource(plane.store, VM, "default", "web-1")
        # As if an earlier volantd had put it back, and its run still had what somebody made of it.
        applied = world.places.unit(vm.uid).state / "applied.json"
        document = msgspec.json.decode(applied.read_bytes())
        document["spec"]["env"] = {"HACKED": "1"}
        applied.write_bytes(msgspec.json.encode(document))
        plane.live.forget(vm.uid)
        touched = msgspec.structs.replace(vm.meta, labels={**vm.meta.labels, "touched": "yes"})
        await plane.store.transact([update_of(msgspec.structs.replace(vm, meta=touched))])
        again = await come_back(plane, "web-1", lambda one: one.status.ready and one.status.run_id != vm.status.run_id)
        assert again.uid == vm.uid
        await arrive(plane, lambda one: is_whole()(one) and one.status.replicas == 3)
        assert witness.most == 4 and witness.fewest == 3
        witness.stop()
        assert "Restarted" in await reasons_of(plane)


async def test_a_replica_whose_agent_is_silent_is_replaced(world: World) -> None:
    async with deploying(world) as plane:
        await deploy(plane, vm=VMSpec(plugin="nginx", start="cold", stop_grace_s=0))
        web = await arrive(plane, is_complete(1))
        silent = replicas_of(plane, web)["web-1"]
        guest_of(world, silent).misbehaviour = "silent"
        await come_back(plane, "web-1", lambda vm: vm.uid != silent.uid and vm.status.ready)
        await arrive(plane, is_whole())
        assert "Replaced" in await reasons_of(plane)


async def test_a_replica_that_is_given_up_is_replaced_ever_later_and_does_not_keep_a_good_revision_away(world: World) -> None:
    async with deploying(world) as plane:
        await deploy(plane, replicas=1, vm=VMSpec(plugin="nginx", start="cold", restart_policy="never"))
        web = await arrive(plane, is_complete(1, 1))
        first = replicas_of(plane, web)["web-0"]
        world.host.crash(first.uid, signal=9)
        second = await come_back(plane, "web-0", lambda vm: vm.uid != first.uid and vm.status.ready)
        world.host.crash(second.uid, signal=9)

        def is_told(one: Deployment) -> bool:
            failure = find_condition(one.status.conditions, REPLICA_FAILURE)
            return failure is not None and failure.status == "True" and one.status.replaced == {"0": 1}

        told = await arrive(plane, is_told)
        assert told.status.phase == "Degraded" and "web-0" in told.status.message
        await change(plane, env={"A": "1"})
        await arrive(plane, is_complete(2, 1))


async def test_a_process_that_dies_is_started_again_without_another_vm(world: World) -> None:
    async with deploying(world) as plane:
        await deploy(plane)
        web = await arrive(plane, is_complete(1))
        vm = replicas_of(plane, web)["web-2"]
        world.host.crash(vm.uid, signal=9)
        again = await come_back(plane, "web-2", lambda one: one.status.ready and one.status.restarts == 1)
        assert again.uid == vm.uid
        await arrive(plane, is_whole())


async def test_the_budget_holds_for_what_is_stopped_by_hand(world: World) -> None:
    async with deploying(world) as plane:
        await deploy(plane, budget=Budget(max_unavailable=1), min_ready_s=1)
        web = await arrive(plane, is_complete(1))
        await plane.intents.vms.restart("web-0")
        with pytest.raises(OverBudget, match="2 of 3 replicas are available, and at most 1 may be unavailable") as refused:
            await plane.intents.vms.delete("web-1")
        assert refused.value.hint is not None and "--disrupt" in refused.value.hint
        assert not (await plane.intents.vms.get("web-1")).deleting
        gone = await plane.intents.vms.delete("web-1", disrupt=True)
        assert set((await plane.intents.deployments.get("web")).status.disrupted) >= {gone.uid}
        await arrive(plane, lambda one: is_whole()(one) and not one.status.disrupted)
        await plane.intents.vms.stop("web-2")
        assert web.uid


async def test_a_deployment_that_nobody_needs_sleeps_and_wakes(world: World) -> None:
    async with deploying(world) as plane:
        autoscale = Autoscale(min=0, max=3, idle_after_s=3600, interval_s=3600)
        await deploy(plane, replicas=2, autoscale=autoscale, ports=(PublishedPort(port=80, host_port=18_199),))
        web = await arrive(plane, lambda one: is_complete(1, 2)(one) and one.status.autoscale.replicas == 2)

        async def say(replicas: int) -> None:
            # What the autoscaler writes.
            while True:
                one = await plane.intents.deployments.get("web")
                said = msgspec.structs.replace(one.status.autoscale, replicas=replicas)
                status = msgspec.structs.replace(one.status, autoscale=said)
                try:
                    await plane.store.transact([update_of(msgspec.structs.replace(one, status=status))])
                except StaleRevision:
                    continue
                return

        await say(0)
        asleep = await arrive(plane, lambda one: one.status.phase == "Asleep" and one.status.replicas == 1)
        (only,) = replicas_of(plane, asleep).values()
        assert only.name == "web-0" and only.spec.power == "suspended"
        await come_back(plane, "web-0", lambda vm: vm.status.phase == "Suspended")
        await say(2)
        web = await arrive(plane, is_whole(2))
        assert replicas_of(plane, web)["web-0"].uid == only.uid, "it went on"
        assert await reasons_of(plane) >= {"Asleep", "Woken"}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("crash_at", range(1, 60, 4))
async def test_a_killed_volantd_goes_on_from_what_is(world: World, crash_at: int, after: bool) -> None:
    with crashing():
        async with world.plane(crash_at + 6, after=after) as (plane, _):
            await plane.intents.plugins.install(world.manifest())
            await deploy(plane, strategy=Strategy(max_surge=1, max_unavailable=0))
            await arrive(plane, is_complete(1))
            await change(plane, env={"A": "1"})
            await arrive(plane, is_complete(2))
    async with world.plane() as (plane, _):
        try:
            current = await plane.intents.deployments.get("web")
        except NotFound:
            return  # it was never written down
        web = await arrive(plane, is_complete(current.spec.target))
        assert sorted(replicas_of(plane, web)) == ["web-0", "web-1", "web-2"]
        await vanish(plane)
        await check_nothing_left(world, plane)
