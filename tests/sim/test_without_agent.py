"""A guest without an agent on the real control plane: what holds of it, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from volant.core.errors import InvalidInput, WrongState
from volant.core.plugin import Plugin
from volant.core.resource import Wanted
from volant.core.snapshot import SnapshotSpec
from volant.core.vm import VM
from volant.intent.follow import follow_resource
from volant.node.door import ExecRequest
from volant.plane import ControlPlane
from volant.store.records import key_of

from .host import World, check_nothing_left, reach, reach_gone, want


def make_manifest(world: World) -> dict[str, Any]:
    manifest = world.manifest()
    medium = manifest.pop("rootfs")
    del manifest["health_check"], manifest["boot"]["initramfs"]
    return {**manifest, "initramfs": medium, "agent": "none"}


def is_ready(vm: VM) -> bool:
    return vm.status.ready


async def exec_in(plane: ControlPlane, vm: VM) -> None:
    async with plane.node.open_exec(vm.uid, ExecRequest(argv=("true",))):
        pass


async def find_pool_message(plane: ControlPlane) -> str:
    plugin = await plane.intents.plugins.get("nginx")
    async with asyncio.timeout(30):
        async for now in follow_resource(plane.store, Plugin, key_of(plugin), plugin.uid):
            if now is not None and now.status.pool.message:
                return now.status.pool.message
    raise AssertionError("the plugin is gone")


async def read_log(plane: ControlPlane, vm: VM) -> None:
    async for _ in plane.node.read_logs(vm.uid):
        pass


async def test_it_runs_as_long_as_its_process_does(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(make_manifest(world))
        await plane.intents.vms.create(want("own"))
        running = await reach(plane, "own", lambda vm: vm.status.phase == "Running")
        assert (running.status.ready, running.status.reason) == (False, "Settling")
        ready = await reach(plane, "own", is_ready)
        assert ready.status.start is not None and ready.status.start.kind == "cold"
        assert ready.status.start.reason == "its guest has no agent that could be told who it is"
        machine = world.host.running[ready.uid].machine
        assert f"ip={ready.status.addresses[0].ip}::192.168.127.1:255.255.255.0:own:eth0:off" in machine.kernel_cmdline
    async with world.plane() as (plane, _):
        # The volantd of before is gone; nothing that it knew is needed.
        again = await reach(plane, "own", is_ready)
        assert again.status.pid == ready.status.pid
        await plane.intents.vms.restart("own")
        restarted = await reach(plane, "own", lambda vm: vm.status.ready and vm.status.run_id != ready.status.run_id)
        assert restarted.status.restarts == 0
        await plane.intents.vms.stop("own")
        stopped = await reach(plane, "own", lambda vm: vm.status.phase == "Stopped")
        assert stopped.status.last_end is not None and stopped.status.last_end.asked
        assert stopped.status.last_end.message == "ended by force: its guest has no agent that could be asked to stop"
        await plane.intents.vms.delete("own")
        await reach_gone(plane, "own")
        await check_nothing_left(world, plane)


async def test_what_needs_an_agent_is_refused_and_hinders_nothing(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(make_manifest(world))
        for spec in ({"env": {"A": "b"}}, {"auto_suspend_s": 60}):
            with pytest.raises(InvalidInput, match="needs an agent"):
                await plane.intents.vms.create(want("own", **spec))
        await plane.intents.vms.create(want("own"))
        vm = await reach(plane, "own", is_ready)
        refused: list[Awaitable[object]] = [
            plane.intents.vms.suspend("own"),
            exec_in(plane, vm),
            read_log(plane, vm),
            plane.node.templates.build_template("nginx", cpu_cores=None, memory_mb=None),
            plane.intents.snapshots.fork("own", ("copy",)),
        ]
        for step in refused:
            with pytest.raises(WrongState, match="no agent"):
                await step
        for memory, said in ((True, "has no agent"), (False, "has no disk")):
            wanted = Wanted(name=f"s-{memory}".lower(), labels={}, spec=SnapshotSpec(vm="own", memory=memory))
            taken = await plane.intents.snapshots.wait(await plane.intents.snapshots.create(wanted), timeout_s=30)
            assert taken is not None and taken.status.phase == "Failed" and said in taken.status.message
        await plane.intents.vms.create(want("fussy", start="template"))
        failed = await reach(plane, "fussy", lambda vm: vm.status.phase == "Failed")
        assert "cannot start from a template: its guest has no agent" in failed.status.message
        await plane.intents.plugins.set_pool("nginx", 2)
        assert await find_pool_message(plane) == "its guest has no agent that could be told who it is"
        assert (await plane.intents.vms.get("own")).status == vm.status
        for name in ("own", "fussy"):
            await plane.intents.vms.delete(name)
            await reach_gone(plane, name)
        for snapshot in (await plane.intents.snapshots.list())[0]:
            await plane.intents.snapshots.delete(snapshot.name)


async def test_one_that_ends_by_itself_is_started_again(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(make_manifest(world))
        await plane.intents.vms.create(want("own"))
        vm = await reach(plane, "own", is_ready)
        world.host.power_off(vm.uid)
        again = await reach(plane, "own", lambda now: now.status.ready and now.status.run_id != vm.status.run_id)
        assert again.status.restarts == 1 and again.status.last_end is not None and again.status.last_end.clean
        await plane.intents.vms.delete("own")
        await reach_gone(plane, "own")
