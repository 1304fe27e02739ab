"""VMs are given nodes, wait when none has room, and leave nodes that are emptied or lost; quotas hold whoever comes first."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from volant.artifact.store import ArtifactStore
from volant.core.clock import HostClock
from volant.core.condition import find_condition
from volant.core.deployment import Budget
from volant.core.errors import InUse, NotFound, QuotaExceeded, WrongState
from volant.core.job import JobSpec
from volant.core.node import BEAT_S, LOST_AFTER_S, NODE_READY, Node, Taint
from volant.core.placement import Placement, Spread, Toleration
from volant.core.quota import QuotaSpec, QuotaStatus
from volant.core.resource import Wanted
from volant.core.vm import SCHEDULED, VM
from volant.host import Hands, prepare_saved
from volant.hypervisor.simulated import SimulatedDriver
from volant.plane import ControlPlane
from volant.reconcile.owner import list_owned
from volant.store.contract import Store
from volant.store.records import list_resources
from volant.store.sqlite import open_store
from volant.volume.saved import SavedStore
from volant.volume.simulated import SimulatedDisks

from .deploying import arrive, deploy, is_whole, vanish
from .host import LIMIT_S, World, check_nothing_left, reach, reach_gone, want

SPEED = 16
"""Seconds of these tests that pass in one of the host's: a node is lost after 40 of them."""


class FastClock(HostClock):
    """The host's clock, faster."""

    def __init__(self) -> None:
        self._start, self._zero = super().now(), super().monotonic()

    def now(self) -> datetime:
        return self._start + (super().now() - self._start) * SPEED

    def monotonic(self) -> float:
        return (super().monotonic() - self._zero) * SPEED

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / SPEED)


async def eventually(look: Callable[[], Any], what: str) -> None:
    """Look until it is so; what is looked at changes by itself."""
    for _ in range(int(LIMIT_S * 100)):
        if await look():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"never: {what}")


async def shrink(plane: ControlPlane, **fields: Any) -> Node:
    """Say how much of the node is given out."""
    return await plane.intents.nodes.edit("here", lambda before: {**before, **fields})


@contextlib.asynccontextmanager
async def small(world: World, memory_mb: int = 1024, **more: Any) -> AsyncIterator[ControlPlane]:
    """A node on which so many MiB can be given out."""
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        node = await plane.intents.nodes.get("here")
        spare = node.status.memory_mb - memory_mb
        await shrink(plane, memory_overcommit=1.0, reserved_memory_mb=spare, **more)
        await eventually(lambda: _holds(plane, memory_mb), "the account has the node as it is now")
        yield plane


async def _holds(plane: ControlPlane, memory_mb: int) -> bool:
    node = await plane.intents.nodes.get("here")
    return plane.leader.placing.account.candidates()[0].whole.memory_mb == memory_mb and bool(node)


def unscheduled(vm: VM) -> bool:
    condition = find_condition(vm.status.conditions, SCHEDULED)
    return condition is not None and condition.reason == "Unschedulable"


async def test_a_vm_without_room_waits_and_is_placed_when_some_is_freed(world: World) -> None:
    async with small(world) as plane:
        for name in ("one", "two"):
            await plane.intents.vms.create(want(name, memory_mb=512))
            await reach(plane, name, lambda vm: vm.status.ready)
        await plane.intents.vms.create(want("three", memory_mb=512))
        waiting = await reach(plane, "three", unscheduled)
        assert waiting.status.phase == "Pending"
        assert waiting.status.message == "no node has a place for it: here: 512 MiB short of memory"
        condition = find_condition(waiting.status.conditions, SCHEDULED)
        assert condition is not None and condition.status == "False" and condition.message == "here: 512 MiB short of memory"
        node = await plane.intents.nodes.get("here")
        assert (node.status.given.memory_mb, node.status.free.memory_mb, node.status.given.vms) == (1024, 0, 2)
        await plane.intents.vms.delete("one")
        placed = await reach(plane, "three", lambda vm: vm.status.ready)
        assert placed.status.reason == "" or placed.status.reason == "Ready"
        events, _ = await plane.intents.events.list(about_name="three")
        assert {"Unschedulable", "Scheduled", "Ready"} <= {event.spec.reason for event in events}
        for name in ("two", "three"):
            await plane.intents.vms.delete(name)
            await reach_gone(plane, name)
        await check_nothing_left(world, plane)
        assert (await plane.intents.nodes.get("here")).status.given.vms == 0


async def test_a_deleted_vm_that_never_had_a_place_leaves_nothing(world: World) -> None:
    async with small(world, 256) as plane:
        await plane.intents.vms.create(want("big", memory_mb=512))
        await reach(plane, "big", unscheduled)
        await plane.intents.vms.delete("big")
        await reach_gone(plane, "big")
        await check_nothing_left(world, plane)


@pytest.mark.parametrize("how", ["stop", "suspend"])
async def test_what_is_at_rest_holds_no_room_and_asks_again(world: World, how: str) -> None:
    async with small(world, 512) as plane:
        vms = plane.intents.vms
        await vms.create(want("one", memory_mb=512))
        await reach(plane, "one", lambda vm: vm.status.ready)
        await (vms.stop("one") if how == "stop" else vms.suspend("one"))
        resting = await reach(plane, "one", lambda vm: vm.status.phase in ("Stopped", "Suspended"))
        condition = find_condition(resting.status.conditions, SCHEDULED)
        assert condition is not None and condition.reason == "AtRest"
        await vms.create(want("two", memory_mb=512))
        await reach(plane, "two", lambda vm: vm.status.ready)
        await (vms.start("one") if how == "stop" else vms.resume("one"))
        waiting = await reach(plane, "one", unscheduled)
        assert waiting.status.slot == resting.status.slot
        assert "here: 512 MiB short of memory" in waiting.status.message
        await vms.stop("two")
        again = await reach(plane, "one", lambda vm: vm.status.ready)
        assert again.status.slot == resting.status.slot


async def test_one_that_waits_to_start_again_is_stopped_and_deleted_at_once(world: World) -> None:
    async with small(world, 512) as plane:
        vms = plane.intents.vms
        await vms.create(want("one", memory_mb=512))
        await reach(plane, "one", lambda vm: vm.status.ready)
        await vms.stop("one")
        await reach(plane, "one", lambda vm: vm.status.phase == "Stopped")
        await vms.create(want("two", memory_mb=512))
        await reach(plane, "two", lambda vm: vm.status.ready)
        await vms.start("one")
        await reach(plane, "one", unscheduled)
        await vms.stop("one")
        await reach(plane, "one", lambda vm: vm.status.phase == "Stopped")
        await vms.start("one")
        await reach(plane, "one", unscheduled)
        await vms.delete("one")
        await reach_gone(plane, "one")


async def test_many_at_once_never_get_more_than_there_is(world: World) -> None:
    async with small(world, 1024) as plane:
        await asyncio.gather(*(plane.intents.vms.create(want(f"vm-{i}", memory_mb=256)) for i in range(10)))

        async def settled() -> bool:
            vms, _ = await plane.intents.vms.list()
            return all(vm.status.ready or unscheduled(vm) for vm in vms)

        await eventually(settled, "each runs or waits")
        vms, _ = await plane.intents.vms.list()
        assert sum(vm.status.ready for vm in vms) == 4


async def test_taints_labels_and_cordons_say_who_may_be_there(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        await shrink(plane, taints=[{"key": "gpu", "value": "yes"}], labels={"zone": "a"})
        await plane.intents.vms.create(want("plain"))
        assert (await reach(plane, "plain", unscheduled)).status.message.endswith("here: tainted gpu=yes")
        tolerant = Placement(tolerations=(Toleration(key="gpu"),), nodes="zone=a")
        await plane.intents.vms.create(want("tolerant", placement=tolerant))
        await reach(plane, "tolerant", lambda vm: vm.status.ready)
        elsewhere = Placement(tolerations=(Toleration(key="gpu"),), nodes="zone=b")
        await plane.intents.vms.create(want("elsewhere", placement=elsewhere))
        assert (await reach(plane, "elsewhere", unscheduled)).status.message.endswith("here: its labels are not zone=b")
        await shrink(plane, taints=[], unschedulable=True)
        await reach(plane, "plain", lambda vm: vm.status.message.endswith("here: cordoned"))
        await shrink(plane, unschedulable=False)
        await reach(plane, "plain", lambda vm: vm.status.ready)


async def test_what_an_operator_decided_outlives_a_new_volantd(world: World) -> None:
    async with world.plane() as (plane, _):
        await shrink(plane, cpu_overcommit=2.0, labels={"zone": "a"}, unschedulable=True)
    async with world.plane() as (plane, _):
        node = await plane.intents.nodes.get("here")
        assert (node.spec.cpu_overcommit, node.meta.labels, node.spec.unschedulable) == (2.0, {"zone": "a"}, True)
        with pytest.raises(WrongState):
            await plane.intents.nodes.delete("here")


class Cluster:
    """Two hosts on one store. Either volantd may come and go; its VMs stay."""

    def __init__(self, root: Path, clock: FastClock, store: Store) -> None:
        self.clock = clock
        self.store = store
        self.worlds: dict[str, World] = {}
        for name in ("a", "b"):
            world = World(root / name)
            world.root.mkdir()
            world.config = msgspec.structs.replace(world.config, node=name)
            self.worlds[name] = world

    @contextlib.asynccontextmanager
    async def plane(self, name: str) -> AsyncIterator[ControlPlane]:
        world = self.worlds[name]
        hands = Hands(
            driver=SimulatedDriver(world.host, capabilities=world.capabilities),
            fabric=world.fabric,
            disks=SimulatedDisks(before=lambda step: None),
            artifacts=ArtifactStore(world.root / "artifacts"),
            places=world.places,
            templates=SavedStore(world.places.templates),
            snapshots=SavedStore(world.places.snapshots),
        )
        await prepare_saved(hands)
        await hands.fabric.open()
        plane = ControlPlane(world.config, self.store, self.clock, hands)
        try:
            await plane.register()
            async with plane.running():
                yield plane
        finally:
            await hands.fabric.close()


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    clock = FastClock()
    async with open_store(tmp_path / "volant.db", clock) as store:
        made = Cluster(tmp_path, clock, store)
        for world in made.worlds.values():
            await world.prepare()
        yield made
        for world in made.worlds.values():
            await world.host.close()


def nodes_of(plane: ControlPlane, uid: Any) -> list[str]:
    return sorted(vm.status.node for vm in list_owned(plane.cache, uid) if not vm.deleting)


async def test_replicas_are_spread_and_leave_a_node_that_is_lost(cluster: Cluster) -> None:
    spread = Placement(spread=(Spread(when="require"),))
    async with cluster.plane("a") as a:
        await a.intents.plugins.install(cluster.worlds["a"].manifest())
        async with cluster.plane("b") as b:
            deployment = await deploy(a, replicas=4, vm=want("x", start="cold", placement=spread).spec)
            await arrive(a, is_whole(4))
            assert nodes_of(a, deployment.uid) == ["a", "a", "b", "b"]
            await a.intents.vms.create(want("alone", start="cold", placement=Placement(node="b")))
            await reach(a, "alone", lambda vm: vm.status.ready)
            former = {vm.uid for vm in list_owned(a.cache, deployment.uid) if vm.status.node == "b"}
            assert len(b.cache.list("Node")) == 2
        # b's volantd is gone; what it started runs on, and nobody hears of it.
        assert former <= set(cluster.worlds["b"].host.running)
        lost = await _until_lost(a, "b")
        condition = find_condition(lost.status.conditions, NODE_READY)
        assert condition is not None and condition.status == "Unknown"
        # Places of a node that is gone are none to spread over.
        await arrive(a, lambda one: is_whole(4)(one) and nodes_of(a, one.uid) == ["a"] * 4)
        events, _ = await a.intents.events.list(about_name="web")
        assert "NodeLost" in {event.spec.reason for event in events}
        alone = await reach(a, "alone", lambda vm: vm.status.reason == "NodeLost")
        assert alone.status.message == "its node is lost" and not alone.status.ready and alone.status.node == "b"
        await _check_claims(cluster.store)
        async with cluster.plane("b"):
            # What no record answers for any more ends there; what one does goes on as if nothing had been.
            await eventually(lambda: _swept(cluster, former), "what was given up is swept on b")
            await reach(a, "alone", lambda vm: vm.status.ready)
            assert len(cluster.worlds["b"].host.running) == 1


async def test_a_node_that_is_lost_can_be_removed_with_what_it_had(cluster: Cluster) -> None:
    async with cluster.plane("a") as a:
        await a.intents.plugins.install(cluster.worlds["a"].manifest())
        async with cluster.plane("b"):
            await a.intents.vms.create(want("alone", start="cold", placement=Placement(node="b")))
            await a.intents.vms.create(want("going", start="cold", placement=Placement(node="b")))
            for name in ("alone", "going"):
                await reach(a, name, lambda vm: vm.status.ready)
        await _until_lost(a, "b")
        # Deleting works from every phase, so that of a VM whose node will never say anything about it, too.
        await a.intents.vms.delete("going")
        await reach_gone(a, "going")
        with pytest.raises(InUse):
            await a.intents.nodes.delete("b")
        node = await a.intents.nodes.delete("b", force=True)
        assert await a.intents.nodes.wait_gone(node, timeout_s=LIMIT_S) is None
        with pytest.raises(NotFound):
            await a.intents.vms.get("alone")
        await _check_claims(cluster.store)


async def test_the_keeper_that_was_away_itself_declares_nobody_lost(cluster: Cluster) -> None:
    async with cluster.plane("a") as a, cluster.plane("b"):
        keeper = a.leader.node_keeper
        from volant.reconcile.placement.watch import SilenceWatch

        watch = SilenceWatch(BEAT_S / 2)
        await keeper.look(watch)
        watch._looked_at = a.clock.monotonic() - 10 * LOST_AFTER_S
        watch._heard = {name: (moment, since - 10 * LOST_AFTER_S) for name, (moment, since) in watch._heard.items()}
        await keeper.look(watch)
        for node in (await list_resources(cluster.store, Node, ""))[0]:
            condition = find_condition(node.status.conditions, NODE_READY)
            assert condition is not None and condition.status == "True"


async def test_a_drain_moves_replicas_within_their_budget(cluster: Cluster) -> None:
    async with cluster.plane("a") as a, cluster.plane("b"):
        await a.intents.plugins.install(cluster.worlds["a"].manifest())
        deployment = await deploy(
            a, replicas=4, budget=Budget(max_unavailable=1), vm=want("x", start="cold").spec, replace_after_s=300
        )
        await arrive(a, is_whole(4))
        await a.intents.vms.create(want("alone", start="cold", placement=Placement(node="b")))
        await reach(a, "alone", lambda vm: vm.status.ready)
        on_b = nodes_of(a, deployment.uid).count("b")
        assert on_b == 2
        first = await a.intents.drains.step("b")
        assert len(first.moved) == 1 and len(first.blocked) == 2
        assert {one.vm: "--stop" in one.reason for one in first.blocked}["alone"]
        fewest = 4
        async with asyncio.timeout(LIMIT_S):
            while True:
                step = await a.intents.drains.step("b", stop=True)
                available = (await a.intents.deployments.get("web")).status.available
                fewest = min(fewest, available)
                if not (step.moved or step.stopped or step.going or step.blocked):
                    break
                await asyncio.sleep(0.02)
        assert fewest >= 3
        await arrive(a, is_whole(4))
        assert nodes_of(a, deployment.uid) == ["a"] * 4
        alone = await a.intents.vms.get("alone")
        assert alone.spec.power == "stopped" and alone.status.node == "b"
        assert (await a.intents.nodes.get("b")).spec.unschedulable


async def test_a_taint_that_evicts_keeps_to_the_budget(cluster: Cluster) -> None:
    async with cluster.plane("a") as a, cluster.plane("b"):
        await a.intents.plugins.install(cluster.worlds["a"].manifest())
        deployment = await deploy(a, replicas=4, budget=Budget(max_unavailable=1), vm=want("x", start="cold").spec)
        await arrive(a, is_whole(4))
        await a.intents.nodes.edit("b", lambda before: {**before, "taints": [{"key": "old", "effect": "NoExecute"}]})
        await arrive(a, lambda one: is_whole(4)(one) and nodes_of(a, one.uid) == ["a"] * 4)
        events, _ = await a.intents.events.list(about_name="web")
        said = [event.spec.message for event in events if event.spec.reason == "Evicted"]
        assert len(said) == 2 and all("from b: tainted old" in message for message in said)
        assert Taint(key="old", effect="NoExecute") in (await a.intents.nodes.get("b")).spec.taints
        assert deployment.uid


async def _until_lost(plane: ControlPlane, name: str) -> Node:
    async def is_lost() -> bool:
        condition = find_condition((await plane.intents.nodes.get(name)).status.conditions, NODE_READY)
        return condition is not None and condition.status != "True"

    await eventually(is_lost, f"{name} is lost")
    return await plane.intents.nodes.get(name)


async def _swept(cluster: Cluster, uids: set[Any]) -> bool:
    return not uids & set(cluster.worlds["b"].host.running)


async def _check_claims(store: Store) -> None:
    """No claim without a VM."""

    async def agree() -> bool:
        vms, _ = await list_resources(store, VM, None)
        claims = (await store.list("Claim")).items
        return {claim.data["spec"]["owner_uid"] for claim in claims} == {vm.uid for vm in vms}

    await eventually(agree, "every claim has its VM, and every VM its claims")


# Quotas


def limits(name: str = "lab", **spec: Any) -> Wanted[QuotaSpec]:
    return Wanted(name=name, labels={}, spec=QuotaSpec(**spec))


async def used(plane: ControlPlane, name: str = "lab") -> QuotaStatus:
    return (await plane.intents.quotas.get(name)).status


async def test_a_quota_holds_however_many_come_at_once(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        await plane.intents.vms.create(want("before", memory_mb=128))
        made = await plane.intents.quotas.create(limits(vms=5, memory_mb=1024))
        assert (made.status.vms, made.status.memory_mb) == (1, 128)
        asked = [plane.intents.vms.create(want(f"vm-{i}", memory_mb=128)) for i in range(20)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert sum(isinstance(answer, VM) for answer in answers) == 4
        refused = [answer for answer in answers if not isinstance(answer, VM)]
        assert all(isinstance(answer, QuotaExceeded) for answer in refused)
        assert "needs 1 VMs more, and the quota 'lab' allows 5, of which 5 are used" in str(refused[0])
        vms, _ = await plane.intents.vms.list()
        assert len(vms) == 5 and (await used(plane)).vms == 5
        await asyncio.gather(*(plane.intents.vms.delete(vm.name) for vm in vms))
        for vm in vms:
            await reach_gone(plane, vm.name)
        assert await used(plane) == QuotaStatus()
        await check_nothing_left(world, plane)


async def test_a_change_uses_more_or_less(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        await plane.intents.quotas.create(limits(memory_mb=512))
        await plane.intents.vms.create(want("web", memory_mb=256, power="stopped"))
        change = plane.intents.configuration.edit
        await change("web", lambda before: {**before, "memory_mb": 512})
        assert (await used(plane)).memory_mb == 512
        with pytest.raises(QuotaExceeded):
            await change("web", lambda before: {**before, "memory_mb": 768})
        assert (await plane.intents.vms.get("web")).spec.memory_mb == 512
        await plane.intents.quotas.edit("lab", lambda before: {**before, "memory_mb": 256})
        # More is used than is allowed now: what shrinks still may, though it stays over.
        await change("web", lambda before: {**before, "memory_mb": 384})
        assert (await used(plane)).memory_mb == 384
        with pytest.raises(QuotaExceeded):
            await plane.intents.vms.create(want("other", memory_mb=32))


async def test_clones_of_a_pool_count_once_they_are_taken(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        await plane.intents.quotas.create(limits(vms=1))
        await plane.intents.plugins.set_pool("nginx", 2)

        async def parked() -> bool:
            return [pool.parked for pool in await plane.intents.pools.list()] == [2]

        await eventually(parked, "two clones are parked")
        assert (await used(plane)).vms == 0
        taken = await plane.intents.vms.create(want("web"))
        assert taken.status.start is not None and taken.status.start.kind == "pool"
        assert (await used(plane)).vms == 1
        with pytest.raises(QuotaExceeded):
            await plane.intents.vms.create(want("second"))


async def test_a_drift_is_mended_when_a_leader_begins(world: World) -> None:
    async with world.plane() as (plane, store):
        await plane.intents.plugins.install(world.manifest())
        await plane.intents.vms.create(want("web", power="stopped"))
        quota = await plane.intents.quotas.create(limits(vms=5))
        wrong = msgspec.structs.replace(quota, status=QuotaStatus(vms=4))
        from volant.store.records import update_of

        await store.transact([update_of(wrong)])
    async with world.plane() as (plane, _):

        async def right() -> bool:
            return (await used(plane)).vms == 1

        await eventually(right, "the quota says what there is")


async def test_deployments_and_jobs_count_until_they_are_gone(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        await plane.intents.quotas.create(limits(deployments=1, jobs=1))
        await deploy(plane, replicas=0)
        job = JobSpec(vm=want("x").spec, suspended=True)
        await plane.intents.jobs.create(Wanted(name="once", labels={}, spec=job))
        assert (await used(plane)).deployments == (await used(plane)).jobs == 1
        with pytest.raises(QuotaExceeded):
            await deploy(plane, "other", replicas=0)
        with pytest.raises(QuotaExceeded):
            await plane.intents.jobs.create(Wanted(name="twice", labels={}, spec=job))
        await vanish(plane)
        deleted = await plane.intents.jobs.delete("once")
        assert await plane.intents.jobs.wait(deleted, timeout_s=LIMIT_S) is None
        assert await used(plane) == QuotaStatus()
