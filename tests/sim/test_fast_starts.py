"""Templates, sleep, snapshots, forks and pools on the real control plane: that they work, and that nothing of them is lost or
left when volantd is killed at any step."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

from volant.core.errors import AlreadyExists, HostError, NotFound
from volant.core.resource import Wanted
from volant.core.snapshot import Snapshot, SnapshotSpec
from volant.core.vm import VM
from volant.guest.document import decode_document
from volant.intent.follow import follow_resource
from volant.plane import ControlPlane
from volant.store.records import key_of, list_resources
from volant.volume.saved import is_saved

from .crash import crashing
from .host import Crash, World, check_nothing_left, reach, reach_gone, want


def is_ready(vm: VM) -> bool:
    return vm.status.ready


def is_asleep(vm: VM) -> bool:
    return vm.status.phase == "Suspended"


async def make_ready(plane: ControlPlane, name: str, **spec: Any) -> VM:
    with contextlib.suppress(AlreadyExists):
        await plane.intents.vms.create(want(name, **spec))
    return await reach(plane, name, is_ready)


async def take_snapshot(plane: ControlPlane, name: str, vm: str, *, memory: bool = True) -> Snapshot:
    snapshot = await plane.intents.snapshots.create(Wanted(name=name, labels={}, spec=SnapshotSpec(vm=vm, memory=memory)))
    taken = await plane.intents.snapshots.wait(snapshot, timeout_s=30)
    assert taken is not None
    return taken


def guest_of(world: World, vm: VM) -> Any:
    process = world.host.find(vm.uid)
    assert process is not None
    return process.serve_agent.guest  # type: ignore[union-attr]  # the simulated agent's


def hostname_of(world: World, vm: VM) -> str:
    return decode_document(guest_of(world, vm)._document).hostname


async def test_the_first_vm_leaves_a_template_and_the_second_starts_from_it(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        first = await make_ready(plane, "web")
        second = await make_ready(plane, "web2")
        assert first.status.start is not None and second.status.start is not None
        assert (first.status.start.kind, first.status.start.reason) == ("cold", "there was no template yet")
        assert second.status.start.kind == "template"
        (template,) = await plane.desk.list_templates()
        assert (template.key, template.users, template.kind) == (second.status.template, 1, "booted")
        assert guest_of(world, first).boot_id != guest_of(world, second).boot_id
        assert guest_of(world, first).secret != guest_of(world, second).secret


async def test_many_at_once_wait_for_one_template(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        for number in range(20):
            await plane.intents.vms.create(want(f"web-{number}"))
        kinds = []
        for number in range(20):
            vm = await reach(plane, f"web-{number}", is_ready)
            assert vm.status.start is not None
            kinds.append(vm.status.start.kind)
        assert kinds.count("cold") == 1 and kinds.count("template") == 19
        assert len(await plane.desk.list_templates()) == 1


async def test_a_damaged_template_is_a_cold_start_with_the_reason(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        await make_ready(plane, "web")
        await make_ready(plane, "web1")
        (template,) = await plane.desk.list_templates()
    (world.places.templates / template.key / "guest.json").write_bytes(b"{}")
    async with world.plane() as (plane, _):
        vm = await make_ready(plane, "web2")
        assert vm.status.start is not None
        assert vm.status.start.kind == "cold" and "damaged" in vm.status.start.reason
        events, _ = await plane.intents.events.list(about_name="web2")
        assert any("damaged" in event.spec.message for event in events)
        third = await make_ready(plane, "web3")
        assert third.status.template == template.key, "the cold start left a whole one behind"


async def test_a_vm_that_must_start_from_a_template_waits_for_it(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        vm = await make_ready(plane, "web", start="template")
        assert vm.status.start is not None and vm.status.start.kind == "template"
        cold = await make_ready(plane, "cold", start="cold")
        assert cold.status.start is not None and cold.status.start.kind == "cold"
        await plane.sweeper.sweep()
        assert set(world.host.running) == {vm.uid, cold.uid}, "what built the template is gone"


async def test_a_ready_template_holds_a_workload_that_runs(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install({**world.manifest(), "start": {"template": "ready"}})
        vm = await make_ready(plane, "web", start="template")
        (template,) = [one for one in await plane.desk.list_templates() if one.kind == "ready"]
        assert vm.status.template == template.key
        assert vm.status.workload.restarts == 0
        other = await make_ready(plane, "other", start="template", env={"A": "b"})
        assert other.status.template not in ("", template.key), "another environment was not in the template"


async def test_a_snapshot_and_a_suspend_at_once_take_turns(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        before = await make_ready(plane, "web")
        for round_ in range(12):

            async def suspend(turns: int) -> None:
                # So much later, so that it falls into one part after the other of what takes the snapshot.
                for _ in range(turns):
                    await asyncio.sleep(0)
                await plane.intents.vms.suspend("web")

            taken, _ = await asyncio.gather(take_snapshot(plane, f"snap-{round_}", "web"), suspend(round_ * 25))
            assert taken.status.phase == "Ready", taken.status.message
            asleep = await reach(plane, "web", is_asleep)
            assert asleep.uid not in world.host.running
            await plane.intents.vms.resume("web")
            assert (await reach(plane, "web", is_ready)).status.run_id == before.status.run_id


async def test_what_failed_to_be_taken_leaves_nothing(world: World) -> None:
    def fault(name: str) -> None:
        if name == "launch resuming":
            raise HostError("the host refuses")

    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        await make_ready(plane, "web")
        await make_ready(plane, "web2")
        world.fault = fault
        taken = await take_snapshot(plane, "snap", "web")
        world.fault = lambda name: None
        assert (taken.status.phase, taken.status.message) == ("Failed", "the host refuses")
        assert not list(world.places.snapshots.glob(".*"))


async def test_a_suspended_vm_costs_no_process_and_goes_on_as_itself(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        before = await make_ready(plane, "web")
        boot_id = guest_of(world, before).boot_id
        await plane.intents.vms.suspend("web")
        asleep = await reach(plane, "web", is_asleep)
        assert asleep.status.suspended is not None and asleep.status.pid is None
        assert before.uid not in world.host.running
    async with world.plane() as (plane, _):
        await reach(plane, "web", is_asleep)
        await plane.intents.vms.resume("web")
        after = await reach(plane, "web", is_ready)
        assert after.status.addresses == before.status.addresses
        assert after.status.run_id == before.status.run_id
        assert after.status.start is not None and after.status.start.kind == "resume"
        assert guest_of(world, after).boot_id == boot_id
        assert not is_saved(world.places.saved(after.uid))


async def test_a_suspended_vm_outlives_a_reboot_of_the_host(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        vm = await make_ready(plane, "web")
        await plane.intents.vms.suspend("web")
        await reach(plane, "web", is_asleep)
    world.host.reboot()
    async with world.plane() as (plane, _):
        await plane.intents.vms.resume("web")
        again = await reach(plane, "web", is_ready)
        assert (again.status.run_id, again.status.restarts) == (vm.status.run_id, 0)


async def test_a_suspended_vm_is_stopped_in_an_orderly_way(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        await make_ready(plane, "web")
        await plane.intents.vms.suspend("web")
        await reach(plane, "web", is_asleep)
        await plane.intents.vms.stop("web")
        vm = await reach(plane, "web", lambda vm: vm.status.phase == "Stopped")
        assert vm.status.last_end is not None and vm.status.last_end.asked
        await plane.intents.vms.start("web")
        await reach(plane, "web", is_ready)


async def test_what_cannot_be_restored_is_booted_with_the_reason(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        vm = await make_ready(plane, "web")
        await plane.intents.vms.suspend("web")
        await reach(plane, "web", is_asleep)
        (world.places.saved(vm.uid) / "machine.json").write_text("{}")
        await plane.intents.vms.resume("web")
        booted = await reach(plane, "web", is_ready)
        assert booted.status.run_id != vm.status.run_id
        events, _ = await plane.intents.events.list(about_name="web")
        assert any(event.spec.reason == "NotRestored" for event in events)


async def test_a_snapshot_is_restored_as_another_machine_and_in_place(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        await make_ready(plane, "base")
        vm = await make_ready(plane, "web")
        taken = await take_snapshot(plane, "before", "web")
        assert (taken.status.phase, taken.status.template) == ("Ready", vm.status.template)
        assert (await plane.intents.vms.get("web")).status.run_id == vm.status.run_id, "it goes on"
        copy = await make_ready(plane, "copy", snapshot="before")
        assert copy.status.start is not None and copy.status.start.kind == "snapshot"
        assert hostname_of(world, copy) == "copy"
        assert guest_of(world, copy).secret != guest_of(world, vm).secret
        restored = await plane.intents.vms.restore("web", "before")
        back = await reach(
            plane, "web", lambda now: now.status.ready and now.status.snapshot_token == restored.spec.snapshot_token
        )
        assert (back.uid, back.status.addresses) == (vm.uid, vm.status.addresses)
        assert back.status.run_id != vm.status.run_id
        await plane.intents.snapshots.delete("before")
        await plane.sweeper.sweep()


async def test_a_template_stays_while_a_snapshot_stands_on_it(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        await make_ready(plane, "base")
        await make_ready(plane, "web")
        taken = await take_snapshot(plane, "kept", "web")
        for name in ("base", "web"):
            await plane.intents.vms.delete(name)
            await reach_gone(plane, name)
        assert await plane.desk.prune_templates() == []
        gone = await plane.intents.snapshots.delete("kept")
        assert await plane.intents.snapshots.wait(gone, timeout_s=30) is None
        assert [template.key for template in await plane.desk.prune_templates()] == [taken.status.template]


async def test_forks_are_new_machines_and_leave_nothing(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        parent = await make_ready(plane, "web")
        await plane.intents.snapshots.fork("web", ("web-1", "web-2", "web-3"))
        vms = [parent] + [await reach(plane, name, is_ready) for name in ("web-1", "web-2", "web-3")]
        assert len({vm.status.addresses[0].ip for vm in vms}) == 4
        assert {hostname_of(world, vm) for vm in vms} == {vm.name for vm in vms}
        assert len({guest_of(world, vm).boot_id for vm in vms}) == 4
        # The snapshot between them goes with its last user.
        snapshots, _ = await list_resources(plane.store, Snapshot, "default")
        for snapshot in snapshots:
            assert snapshot.spec.transient
            async for left in follow_resource(plane.store, Snapshot, key_of(snapshot), snapshot.uid):
                if left is None:
                    break
        await reach(plane, "web", is_ready)


async def test_a_create_takes_a_parked_clone_and_the_pool_is_filled_again(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install({**world.manifest(), "start": {"pool": 2}})
        await wait_pool(plane, 2)
        assert await plane.intents.vms.list() == ([], (await plane.store.list("VM")).revision)
        with pytest.raises(NotFound):
            await plane.intents.vms.get(next(iter((await plane.store.list("VM")).items)).key.name)
        parked = set(world.host.running)
        vm = await make_ready(plane, "web")
        assert vm.status.start is not None and vm.status.start.kind == "pool"
        assert vm.uid in parked
        assert hostname_of(world, vm) == "web"
        await wait_pool(plane, 2)
        await plane.intents.plugins.set_pool("nginx", 0)
        await wait_pool(plane, 0)
        assert set(world.host.running) == {vm.uid}
        await plane.intents.vms.delete("web")
        await reach_gone(plane, "web")
        await check_nothing_left(world, plane)


async def test_a_pool_is_given_up_when_memory_is_short(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install({**world.manifest(), "start": {"pool": 2}})
        await wait_pool(plane, 2)
        plane.pool_controller.free_share = lambda: 0.01
        plane.pools.look((await plane.store.list("Plugin")).items[0].key)
        await wait_pool(plane, 0)
        plugin = await plane.intents.plugins.get("nginx")
        assert "short of memory" in plugin.status.pool.message
        # A create does without it.
        vm = await make_ready(plane, "web")
        assert vm.status.start is not None and vm.status.start.kind == "template"


async def wait_pool(plane: ControlPlane, parked: int) -> None:
    """Return once so many clones are parked, and no more are there."""
    async with plane.store.watch((await plane.store.list("VM")).revision, ["VM", "Plugin"]) as batches:
        while True:
            found = [item for item in (await plane.store.list("VM")).items if item.data["spec"]["power"] == "parked"]
            if len(found) == parked and all(item.data["status"]["phase"] == "Parked" for item in found):
                return
            await anext(aiter(batches))


async def run_fast_life(world: World, plane: ControlPlane) -> None:
    """Everything of this module once; asking again for what was not acknowledged."""
    intents = plane.intents
    await intents.plugins.install(world.manifest())
    # A life that was cut short may have got as far as its end.
    for vm in (await intents.vms.list())[0]:
        if vm.deleting:
            await reach_gone(plane, vm.name)
    await make_ready(plane, "base")
    with contextlib.suppress(NotFound):
        await intents.vms.resume("web")
    await make_ready(plane, "web")
    await intents.vms.suspend("web")
    await reach(plane, "web", is_asleep)
    await intents.vms.resume("web")
    await reach(plane, "web", is_ready)
    with contextlib.suppress(NotFound):
        gone = await intents.snapshots.delete("snap")
        await intents.snapshots.wait(gone, timeout_s=30)
    taken = await take_snapshot(plane, "snap", "web")
    assert taken.status.phase == "Ready"
    await make_ready(plane, "copy", snapshot="snap")


async def end_fast_life(world: World, plane: ControlPlane) -> None:
    for name in ("base", "web", "copy"):
        with contextlib.suppress(NotFound):
            await plane.intents.vms.delete(name)
            await reach_gone(plane, name)
    for snapshot in (await plane.intents.snapshots.list())[0]:
        gone = await plane.intents.snapshots.delete(snapshot.name)
        assert await plane.intents.snapshots.wait(gone, timeout_s=30) is None
    await check_nothing_left(world, plane)
    for root in (world.places.templates, world.places.snapshots):
        assert not [path for path in root.iterdir() if path.name.startswith(".")], "nothing half made is left"
    assert not list(world.places.snapshots.iterdir())
    await plane.desk.prune_templates()
    assert not list(world.places.templates.iterdir())


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_killed_at_every_write(tmp_path: Path, after: bool) -> None:
    counting = World(tmp_path / "count")
    counting.root.mkdir()
    await counting.prepare()
    async with counting.plane() as (plane, store):
        await run_fast_life(counting, plane)
        await end_fast_life(counting, plane)
        total = store.writes
    await counting.host.close()
    assert total > 30
    # Each run of the suite takes every fourth of them, each half of it others; VOLANT_SIM_EVERY=1 takes them all.
    every = int(os.environ.get("VOLANT_SIM_EVERY", "4"))
    for crash_at in range(1 + (every // 2 if after else 0), total + 1, every):
        world = World(tmp_path / f"crash-{crash_at}")
        world.root.mkdir()
        await world.prepare()
        with crashing():
            async with world.plane(crash_at, after=after) as (plane, _):
                await run_fast_life(world, plane)
                await end_fast_life(world, plane)
        async with world.plane() as (plane, _):
            await run_fast_life(world, plane)
            await end_fast_life(world, plane)
        await world.host.close()


STEPS = ("launch pausing", "launch saving", "launch saved", "launch resuming", "launch started", "launch recorded", "disk copy")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("how", "nth"), [("killed", 1), ("killed", 2), ("failing", 1)])
async def test_killed_or_failing_at_every_step_on_the_host(world: World, step: str, how: str, nth: int) -> None:
    hits = 0

    def fault(name: str) -> None:
        nonlocal hits
        if name == step:
            hits += 1
            if hits == nth:
                raise Crash(name) if how == "killed" else HostError(f"the host refuses at {name}")

    world.fault = fault
    with crashing():
        async with world.plane() as (plane, _):
            # What fails once may be told as failed, such as a snapshot; it must leave nothing that stands in the way.
            with contextlib.suppress(AssertionError):
                await run_fast_life(world, plane)
    world.fault = lambda name: None
    async with world.plane() as (plane, _):
        await run_fast_life(world, plane)
        await end_fast_life(world, plane)
