"""What is asked becomes what is, whatever happens on the host in between."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator

import pytest

from volant.core.ids import Digest
from volant.core.vm import ExtraDisk

from .host import World, check_nothing_left, reach, reach_gone, want


async def test_a_new_volantd_adopts_without_a_flap(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        await plane.intents.vms.create(want("web"))
        before = await reach(plane, "web", lambda vm: vm.status.ready)
    async with world.plane() as (plane, _):
        seen = []

        async def watch() -> None:
            async for vm in plane.intents.vms.watch("web"):
                assert vm is not None
                seen.append((vm.status.phase, vm.status.ready, vm.status.pid, vm.status.restarts))

        watching = asyncio.create_task(watch())
        await asyncio.sleep(1.0)
        watching.cancel()
        after = await plane.intents.vms.get("web")
        assert set(seen) == {("Running", True, before.status.pid, 0)}
        assert after.status.conditions == before.status.conditions
        assert after.status.started_at == before.status.started_at


@pytest.mark.parametrize("how", ["crash", "power_off", "reset", "reboot"])
async def test_an_end_nobody_asked_for_is_followed_by_a_start(world: World, how: str) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        vm = await plane.intents.vms.create(want("web"))
        first = await reach(plane, "web", lambda vm: vm.status.ready)
        if how == "crash":
            world.host.crash(vm.uid, signal=9)
        elif how == "reboot":
            world.host.reboot()
        else:
            getattr(world.host, how)(vm.uid)
        again = await reach(plane, "web", lambda vm: vm.status.ready and vm.status.run_id != first.status.run_id)
        assert again.status.restarts == 1
        assert again.status.addresses == first.status.addresses
        assert again.status.last_end is not None and not again.status.last_end.asked
        reasons = [event.spec.reason for event in (await plane.intents.events.list(about_name="web"))[0]]
        assert "Ended" in reasons


async def test_an_end_while_volantd_was_away_is_accounted_for(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        vm = await plane.intents.vms.create(want("web"))
        await reach(plane, "web", lambda vm: vm.status.ready)
    world.host.crash(vm.uid, signal=9)
    async with world.plane() as (plane, _):
        again = await reach(plane, "web", lambda vm: vm.status.ready and vm.status.restarts == 1)
        assert again.status.last_end is not None and again.status.last_end.kind == "crashed"


async def test_fifty_at_once(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        await asyncio.gather(*(plane.intents.vms.create(want(f"vm-{i}")) for i in range(50)))
        made = [await reach(plane, f"vm-{i}", lambda vm: vm.status.ready) for i in range(50)]
        assert len({vm.status.slot for vm in made}) == 50
        assert len({vm.status.addresses[0].ip for vm in made}) == 50
        await asyncio.gather(*(plane.intents.vms.delete(f"vm-{i}") for i in range(50)))
        for i in range(50):
            await reach_gone(plane, f"vm-{i}")
        await check_nothing_left(world, plane)


async def test_deleting_works_from_every_phase(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        for turns in (0, 1, 2, 5, 10, 20, 50, 100):
            await plane.intents.vms.create(want("web"))
            for _ in range(turns):
                await asyncio.sleep(0.001)
            await plane.intents.vms.delete("web")
            await reach_gone(plane, "web")
        await check_nothing_left(world, plane)


async def test_what_nobody_answers_for_is_swept(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        await plane.intents.vms.create(want("web"))
        await reach(plane, "web", lambda vm: vm.status.ready)
        stray = world.places.unit("f" * 32)  # type: ignore[arg-type]  # a uid by its shape
        stray.state.mkdir(parents=True)
        (stray.state / "disk.img").write_bytes(b"x")
        await check_nothing_left(world, plane)
        assert (await plane.intents.vms.get("web")).status.ready, "what is wanted stays"
        assert not stray.state.exists()


async def test_a_guest_that_does_not_answer_is_ended_by_force(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        vm = await plane.intents.vms.create(want("web", stop_grace_s=0))
        await reach(plane, "web", lambda vm: vm.status.ready)
        process = world.host.find(vm.uid)
        assert process is not None
        process.serve_agent.guest.misbehaviour = "silent"  # type: ignore[union-attr]  # the simulated agent has a guest
        await plane.intents.vms.stop("web")
        stopped = await reach(plane, "web", lambda vm: vm.status.phase == "Stopped")
        assert stopped.status.last_end is not None and stopped.status.last_end.kind == "killed"
        assert stopped.status.last_end.asked
        assert not world.host.running


async def test_a_damaged_file_starts_nothing(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        kept = next(path for path in (world.root / "artifacts").rglob("*") if path.is_file())
        kept.chmod(0o644)
        kept.write_bytes(b"something else")
        await plane.intents.vms.create(want("web"))
        vm = await reach(plane, "web", lambda vm: vm.status.phase == "Failed")
        assert vm.status.reason == "StartFailed" and world.digest[:20] in vm.status.message
        assert not world.host.running
        await plane.intents.vms.delete("web")
        await reach_gone(plane, "web")


async def test_a_removed_plugin_takes_its_files_with_it(world: World) -> None:
    async with world.plane() as (plane, _):
        plugin, _ = await plane.intents.plugins.install(world.manifest())
        await plane.intents.plugins.install(world.manifest("other"))
        await plane.intents.plugins.wait(plugin, timeout_s=10)
        assert await plane.intents.plugins.wait(await plane.intents.plugins.remove("nginx"), timeout_s=10) is None
        assert plane.hands.artifacts.has(world.digest), "the other one needs it"
        assert await plane.intents.plugins.wait(await plane.intents.plugins.remove("other"), timeout_s=10) is None
        assert not plane.hands.artifacts.has(world.digest)


async def test_a_file_that_a_vm_has_as_a_disk_of_its_own_outlives_the_plugin_that_brought_it(world: World) -> None:
    other = Digest("sha256:" + hashlib.sha256(b"another file").hexdigest())

    async def content() -> AsyncIterator[bytes]:
        yield b"another file"

    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        await plane.hands.artifacts.put(content(), other)
        brought = json.loads(json.dumps(world.manifest("bringer")).replace(world.digest, other))
        plugin, _ = await plane.intents.plugins.install(brought)
        await plane.intents.plugins.wait(plugin, timeout_s=10)
        disk = ExtraDisk(name="extra", artifact=other, readonly=True)
        await plane.intents.vms.create(want("web", disks=(disk,)))
        await plane.intents.plugins.remove("bringer")
        await plane.intents.plugins.wait_gone("bringer", timeout_s=10)
        assert plane.hands.artifacts.has(other)
        await reach(plane, "web", lambda vm: vm.status.ready)
