"""Configuration on a simulated host: what a run takes while it goes on, what waits for a restart, and volantd killed anywhere."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from volant.core.condition import find_condition, is_true
from volant.core.errors import NotFound, WrongState
from volant.core.patch import merge_patch
from volant.core.resource import Wanted
from volant.core.snapshot import SnapshotSpec
from volant.core.vm import RESTART_REQUIRED, VM, ExtraDisk
from volant.hypervisor.driver import Capability
from volant.hypervisor.simulated import ALL_CAPABILITIES
from volant.plane import ControlPlane

from .crash import crashing
from .host import Crash, World, check_nothing_left, reach, reach_gone, want


async def change(plane: ControlPlane, name: str = "web", **fields: Any) -> VM:
    return await plane.intents.configuration.edit(name, lambda before: merge_patch(before, fields))


async def settled(plane: ControlPlane, vm: VM) -> VM:
    """``vm`` once its host has looked at it as it is asked for now."""
    return await reach(plane, vm.name, lambda now: now.status.observed_generation >= vm.meta.generation)


async def ready(plane: ControlPlane, world: World, name: str = "web", **spec: Any) -> VM:
    await plane.intents.plugins.install(world.manifest())
    await plane.intents.vms.create(want(name, memory_mb=256, **spec))
    return await reach(plane, name, lambda vm: vm.status.ready)


def waiting(vm: VM) -> str:
    condition = find_condition(vm.status.conditions, RESTART_REQUIRED)
    return condition.message if condition is not None and condition.status == "True" else ""


async def wait_told(world: World, vm: VM, addresses: list[str]) -> None:
    """Return once the guest was told of cards with these addresses, and of no other."""
    guest = world.host.running[vm.uid].serve_agent.guest  # type: ignore[union-attr]  # it has one: the factory is the suite's
    async with asyncio.timeout(20):
        while [card.address for card in guest.network.interfaces] != addresses:
            await guest.wait_changed(guest.version)


def guest_memory(world: World, vm: VM) -> int:
    return world.host.running[vm.uid].memory_mib


async def test_memory_goes_down_and_back_up_live(world: World) -> None:
    async with world.plane() as (plane, _):
        vm = await ready(plane, world)
        for memory_mb in (128, 200, 256):
            vm = await settled(plane, await change(plane, memory_mb=memory_mb))
            assert (guest_memory(world, vm), waiting(vm)) == (memory_mb, "")
        assert vm.status.ready and vm.status.restarts == 0
        reasons = {event.spec.reason for event in (await plane.intents.events.list(about_name="web"))[0]}
        assert "Configured" in reasons


async def test_more_memory_than_it_booted_with_waits_for_a_restart(world: World) -> None:
    async with world.plane() as (plane, _):
        vm = await ready(plane, world)
        run = vm.status.run_id
        vm = await settled(plane, await change(plane, memory_mb=300))
        assert waiting(vm).startswith("memory_mb (") and guest_memory(world, vm) == 256
        await plane.intents.vms.restart("web")
        vm = await reach(plane, "web", lambda now: now.status.ready and now.status.run_id != run and not waiting(now))
        assert guest_memory(world, vm) == 300
        assert not is_true(vm.status.conditions, RESTART_REQUIRED)


async def test_without_a_balloon_memory_waits_too(world: World) -> None:
    world.capabilities = ALL_CAPABILITIES - {Capability.BALLOON}
    async with world.plane() as (plane, _):
        await ready(plane, world)
        assert "memory_mb" in waiting(await settled(plane, await change(plane, memory_mb=128)))


async def test_what_only_a_restart_gives_is_named_and_taken_back(world: World) -> None:
    async with world.plane() as (plane, _):
        await ready(plane, world)
        vm = await settled(plane, await change(plane, env={"A": "b"}, kernel_cmdline="quiet", auto_suspend_s=3600))
        assert waiting(vm) == "env; kernel_cmdline"
        vm = await settled(plane, await change(plane, env=None, kernel_cmdline=None))
        assert waiting(vm) == "" and vm.status.restarts == 0
        condition = find_condition(vm.status.conditions, RESTART_REQUIRED)
        assert condition is not None and condition.status == "False"


async def test_an_override_reaches_the_machine(world: World) -> None:
    async with world.plane() as (plane, _):
        vm = await ready(plane, world, kernel_cmdline="loglevel=7 nokaslr")
        assert "loglevel=7 nokaslr" in world.host.running[vm.uid].machine.kernel_cmdline


async def test_disks_come_and_go_live(world: World) -> None:
    async with world.plane() as (plane, _):
        vm = await ready(plane, world)
        vm = await settled(plane, await change(plane, disks=[{"name": "extra", "size_mb": 8}]))
        assert waiting(vm) == ""
        assert "extra" in {disk.serial for disk in world.host.running[vm.uid].machine.disks}
        path = world.places.units / vm.uid / "disk-extra.img"
        assert path.exists()
        vm = await settled(plane, await change(plane, disks=[]))
        assert "extra" not in {disk.serial for disk in world.host.running[vm.uid].machine.disks}
        assert not path.exists() and waiting(vm) == ""


async def test_without_hotplug_a_disk_waits_and_is_cleared_away_by_the_next_run(world: World) -> None:
    world.capabilities = ALL_CAPABILITIES - {Capability.HOTPLUG}
    async with world.plane() as (plane, _):
        vm = await ready(plane, world, disks=(ExtraDisk(name="old", size_mb=8),))
        path = world.places.units / vm.uid / "disk-old.img"
        assert path.exists()
        assert "disks" in waiting(await settled(plane, await change(plane, disks=[])))
        assert path.exists(), "the run has it open"
        run = vm.status.run_id
        await plane.intents.vms.restart("web")
        await reach(plane, "web", lambda now: now.status.ready and now.status.run_id != run)
        assert not path.exists()


async def test_the_next_volantd_knows_what_the_run_has(world: World) -> None:
    async with world.plane() as (plane, _):
        vm = await ready(plane, world)
        await settled(plane, await change(plane, memory_mb=128, env={"A": "b"}))
    async with world.plane() as (plane, _):
        vm = await settled(plane, await change(plane, labels={"x": "y"}))
        assert waiting(vm) == "env" and guest_memory(world, vm) == 128
        assert waiting(await settled(plane, await change(plane, env=None))) == ""


async def test_a_change_made_while_volantd_was_down_is_seen(world: World) -> None:
    """As by a volantd that was killed after the write and before it did anything about it."""
    async with world.plane() as (plane, _):
        await ready(plane, world)
    async with world.plane(crash_at=None) as (plane, store):
        plane.vms.look = lambda *_, **__: None  # type: ignore[method-assign]  # a controller that never comes to it
        await change(plane, memory_mb=64, cpu_cores=1, env={"A": "b"})
        del store
    async with world.plane() as (plane, _):
        vm = await reach(plane, "web", lambda now: waiting(now) == "env")
        assert guest_memory(world, vm) == 64


async def test_what_sleeps_wakes_in_its_own_shape(world: World) -> None:
    async with world.plane() as (plane, _):
        await ready(plane, world)
        await plane.intents.vms.suspend("web")
        await reach(plane, "web", lambda now: now.status.phase == "Suspended")
        vm = await settled(plane, await change(plane, memory_mb=512, env={"A": "b"}))
        assert "memory_mb" in waiting(vm) and "env" in waiting(vm), "it is told before it wakes"
        await plane.intents.vms.resume("web")
        vm = await reach(plane, "web", lambda now: now.status.ready)
        assert vm.status.start is not None and vm.status.start.kind == "resume"
        assert world.host.running[vm.uid].machine.memory_mib == 256
        assert waiting(vm).startswith("memory_mb") and waiting(vm).endswith("env")


async def test_a_snapshot_brings_back_its_size_and_knows_what_its_run_had(world: World) -> None:
    async with world.plane() as (plane, _):
        await ready(plane, world, env={"A": "old"})
        snapshot = await plane.intents.snapshots.create(Wanted(name="s", labels={}, spec=SnapshotSpec(vm="web", memory=True)))
        taken = await plane.intents.snapshots.wait(snapshot, timeout_s=20)
        assert taken is not None and taken.status.phase == "Ready"
        await change(plane, memory_mb=512, env={"A": "new"})
        token = (await plane.intents.vms.restore("web", "s")).spec.snapshot_token
        vm = await reach(plane, "web", lambda now: now.status.ready and now.status.snapshot_token == token)
        assert vm.spec.memory_mb == 256 and vm.spec.env == {"A": "new"}
        assert waiting(vm) == "env", "what runs was started with the old one"


@pytest.mark.parametrize("phase", ["Running", "Suspended", "Stopped", "Starting", "Pending"])
@pytest.mark.parametrize("force", [False, True], ids=["asked", "forced"])
async def test_delete_works_from_every_phase(world: World, phase: str, force: bool) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        await plane.intents.vms.create(want("web", memory_mb=256, power="stopped" if phase == "Stopped" else "running"))
        if phase in ("Running", "Suspended"):
            await reach(plane, "web", lambda vm: vm.status.ready)
        if phase == "Suspended":
            await plane.intents.vms.suspend("web")
        if phase != "Pending":
            await reach(plane, "web", lambda vm: vm.status.phase == phase)
        await plane.intents.vms.delete("web", force=force)
        await reach_gone(plane, "web")
        await check_nothing_left(world, plane)
        assert (await plane.store.list("VMRevision")).items == ()


async def test_a_forced_stop_asks_nobody_and_gives_up_what_sleeps(world: World) -> None:
    async with world.plane() as (plane, _):
        await ready(plane, world)
        await plane.intents.vms.stop("web", force=True)
        vm = await reach(plane, "web", lambda now: now.status.phase == "Stopped")
        assert vm.status.last_end is not None and vm.status.last_end.kind == "killed" and vm.status.last_end.asked
        await plane.intents.vms.start("web")
        await reach(plane, "web", lambda now: now.status.ready)
        await plane.intents.vms.suspend("web")
        await reach(plane, "web", lambda now: now.status.phase == "Suspended")
        await plane.intents.vms.stop("web", force=True)
        vm = await reach(plane, "web", lambda now: now.status.phase == "Stopped")
        assert vm.status.suspended is None and not world.places.saved(vm.uid).exists()
        await plane.intents.vms.start("web")
        vm = await reach(plane, "web", lambda now: now.status.ready)
        assert vm.status.start is not None and vm.status.start.kind in ("cold", "template")


# Killed anywhere


async def run_changes(world: World, plane: ControlPlane) -> None:
    """A VM and its changes; what an earlier, killed, volantd was acknowledged of stays."""
    intents = plane.intents
    await intents.plugins.install(world.manifest())
    try:
        await intents.vms.get("web")
    except NotFound:
        await intents.vms.create(want("web", memory_mb=256))
    await reach(plane, "web", lambda vm: vm.status.ready)
    await settled(plane, await change(plane, memory_mb=128, env={"A": "b"}))
    await settled(plane, await change(plane, disks=[{"name": "extra", "size_mb": 8}]))
    await settled(plane, await intents.configuration.rollback("web", 1))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_killed_at_every_write_of_a_change(tmp_path: Path, after: bool) -> None:
    world = World(tmp_path / "count")
    world.root.mkdir()
    await world.prepare()
    async with world.plane() as (plane, store):
        await run_changes(world, plane)
        total = store.writes
    await world.host.close()
    for crash_at in range(3, total + 1):
        world = World(tmp_path / f"crash-{crash_at}")
        world.root.mkdir()
        await world.prepare()
        acknowledged: list[VM] = []
        with crashing():
            async with world.plane(crash_at, after=after) as (plane, _):
                await _remember(plane, acknowledged)
                await run_changes(world, plane)
        async with world.plane() as (plane, _):
            if acknowledged:
                kept = {each.spec.number: each for each in await plane.intents.configuration.history("web")}
                for vm in acknowledged:
                    assert kept[vm.meta.generation].spec.config["memory_mb"] == vm.spec.memory_mb, "nothing acknowledged is lost"
            await run_changes(world, plane)
            vm = await reach(plane, "web", lambda now: now.status.ready and waiting(now) == "")
            assert (guest_memory(world, vm), vm.spec.disks) == (256, ())
            numbers = [each.spec.number for each in await plane.intents.configuration.history("web")]
            assert numbers == sorted(set(numbers), reverse=True) and numbers[-1] == 1
            await plane.intents.vms.delete("web")
            await reach_gone(plane, "web")
            await check_nothing_left(world, plane)
            assert (await plane.store.list("VMRevision")).items == ()
        await world.host.close()


async def _remember(plane: ControlPlane, acknowledged: list[VM]) -> None:
    """Note every change that was answered."""
    write = plane.intents.vms.write_change

    async def write_and_note(*arguments: Any, **options: Any) -> VM:
        vm: VM = await write(*arguments, **options)
        acknowledged.append(vm)
        return vm

    plane.intents.vms.write_change = write_and_note  # type: ignore[method-assign]  # a spy


@pytest.mark.parametrize("how", ["killed", "failing"])
async def test_killed_or_refused_while_the_run_is_told(world: World, how: str) -> None:
    hits = 0

    def fault(name: str) -> None:
        nonlocal hits
        if name == "launch changing" and hits == 0:
            hits += 1
            raise Crash(name) if how == "killed" else WrongState("the hypervisor has none of it")

    world.fault = fault
    with crashing():
        async with world.plane() as (plane, _):
            await ready(plane, world)
            vm = await settled(plane, await change(plane, memory_mb=128))
            assert how == "failing" and waiting(vm) == "memory_mb (the hypervisor has none of it)"
    assert hits == 1
    async with world.plane() as (plane, _):
        asked = await plane.intents.vms.get("web")
        vm = await reach(plane, "web", lambda now: now.status.observed_generation >= asked.meta.generation and not waiting(now))
        assert guest_memory(world, vm) == 128, "the next volantd tries once more"


async def test_limits_are_kept_from_now_on(world: World) -> None:
    async with world.plane() as (plane, _):
        vm = await ready(plane, world)
        vm = await settled(plane, await change(plane, limits={"pids": 64}))
        assert waiting(vm) == ""
        held = world.host.running[vm.uid].limits
        assert held is not None and held.pids == 64


async def test_a_policy_of_restarts_reaches_the_guest(world: World) -> None:
    async with world.plane() as (plane, _):
        vm = await ready(plane, world)
        pid = vm.status.workload.pid
        vm = await settled(plane, await change(plane, restart_policy="never"))
        assert waiting(vm) == "" and vm.status.workload.pid == pid
        vm = await settled(plane, await change(plane, restart_policy=None))
        assert vm.spec.restart_policy == "always" and waiting(vm) == ""


async def test_a_fork_has_what_its_parent_ran_with(world: World) -> None:
    async with world.plane() as (plane, _):
        await ready(plane, world, kernel_cmdline="quiet", ports=())
        await settled(plane, await change(plane, env={"A": "new"}))
        await plane.intents.snapshots.fork("web", ("twin",))
        twin = await reach(plane, "twin", lambda now: now.status.ready)
        assert (twin.spec.kernel_cmdline, twin.spec.env) == ("quiet", {"A": "new"})
        assert waiting(twin) == "env", "its workload is a copy of one that was started without"


async def test_what_is_taken_from_a_pool_lacks_nothing(world: World) -> None:
    async with world.plane() as (plane, _):
        manifest = {**world.manifest(), "resources": {"memory_mb": 256}}
        await plane.intents.plugins.install(manifest)
        await plane.intents.plugins.set_pool("nginx", 1)
        while not any(vm.data["status"]["phase"] == "Parked" for vm in plane.cache.list("VM")):
            await plane.cache.wait_revision(plane.cache.revision + 1)
        await plane.intents.vms.create(want("web"))
        vm = await reach(plane, "web", lambda now: now.status.ready)
        assert vm.status.start is not None and vm.status.start.kind == "pool" and waiting(vm) == ""
        vm = await settled(plane, await change(plane, memory_mb=128))
        assert (guest_memory(world, vm), waiting(vm)) == (128, "")
        assert [each.spec.number for each in await plane.intents.configuration.history("web")] == [2, 1]
        await plane.intents.plugins.set_pool("nginx", 0)


async def test_a_card_comes_live_and_the_guest_is_told(world: World) -> None:
    async with world.plane() as (plane, _):
        vm = await ready(plane, world)
        run = vm.status.run_id
        vm = await settled(plane, await change(plane, extra_networks=["default"]))
        assert waiting(vm) == "" and vm.status.run_id == run
        machine = world.host.running[vm.uid].machine
        assert [nic.mac for nic in machine.networks] == [address.mac for address in vm.status.addresses]
        await wait_told(world, vm, [f"{address.ip}/{address.prefix_length}" for address in vm.status.addresses])
        with pytest.raises(WrongState, match="not taken away or changed while it runs"):
            await change(plane, extra_networks=[])
    async with world.plane() as (plane, _):
        vm = await reach(plane, "web", lambda now: now.status.ready)
        assert (waiting(vm), vm.status.run_id) == ("", run)


async def test_without_hotplug_a_card_waits_and_nothing_of_it_is_in_what_is_saved(world: World) -> None:
    world.capabilities = ALL_CAPABILITIES - {Capability.HOTPLUG}
    async with world.plane() as (plane, _):
        vm = await ready(plane, world)
        vm = await settled(plane, await change(plane, extra_networks=["default"], cpu_cores=2))
        assert "extra_networks" in waiting(vm) and vm.status.ready
        await wait_told(world, vm, [f"{vm.status.addresses[0].ip}/{vm.status.addresses[0].prefix_length}"])
        asked = Wanted(name="saved", labels={}, spec=SnapshotSpec(vm="web", memory=True))
        snapshot = await plane.intents.snapshots.wait(await plane.intents.snapshots.create(asked), timeout_s=20)
        assert snapshot is not None
        assert (snapshot.status.phase, snapshot.status.cpu_cores, snapshot.status.extra_networks) == ("Ready", 1, ())
        await plane.intents.vms.suspend("web")
        await reach(plane, "web", lambda now: now.status.phase == "Suspended")
        await plane.intents.vms.resume("web")
        vm = await reach(plane, "web", lambda now: now.status.ready)
        assert len(world.host.running[vm.uid].machine.networks) == 1 and "extra_networks" in waiting(vm)
        await plane.intents.vms.restart("web")
        vm = await reach(plane, "web", lambda now: now.status.ready and now.status.run_id != vm.status.run_id)
        await wait_told(world, vm, [f"{address.ip}/{address.prefix_length}" for address in vm.status.addresses])
        assert len(vm.status.addresses) == 2 and waiting(vm) == ""
