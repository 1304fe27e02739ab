"""Versions of a plugin on the real control plane: VMs, pools, templates and restarts of volantd over an upgrade."""

from __future__ import annotations

from pathlib import Path

import pytest

from volant.core.vm import VM
from volant.intent.follow import follow_resource
from volant.plane import ControlPlane
from volant.store.records import key_of

from .host import World, check_nothing_left, reach, reach_gone, want


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    await made.prepare()
    return made


def is_ready(vm: VM) -> bool:
    return vm.status.ready


def is_stopped(vm: VM) -> bool:
    return vm.status.phase == "Stopped"


async def wait_pool(plane: ControlPlane, name: str, parked: int) -> None:
    plugin = await plane.intents.plugins.get(name)
    async for current in follow_resource(plane.store, type(plugin), key_of(plugin), plugin.uid):
        if current is not None and current.status.pool.parked == parked:
            return


async def test_a_vm_stays_on_its_version_over_restarts_of_itself_and_of_volantd(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        await plane.intents.vms.create(want("old"))
        await reach(plane, "old", is_ready)
        await plane.intents.plugins.install({**world.manifest(), "version": "2.0"})
        await plane.intents.vms.create(want("new"))
        await reach(plane, "new", is_ready)
    async with world.plane() as (plane, _):
        for name in ("old", "new"):
            await plane.intents.vms.stop(name)
            await reach(plane, name, is_stopped)
            await plane.intents.vms.start(name)
            await reach(plane, name, is_ready)
        versions = {name: (await plane.intents.vms.get(name)).status.plugin_version for name in ("old", "new")}
        assert versions == {"old": world.manifest()["version"], "new": "2.0"}
        # The last VM of a version that is being removed takes it along.
        gone = f"nginx@{versions['old']}"
        await plane.intents.plugins.remove(gone, force=True)
        await reach_gone(plane, "old")
        await plane.intents.plugins.wait_gone(gone, timeout_s=30)
        assert [one.spec.version for one in await plane.intents.plugins.versions.list("nginx")] == ["2.0"]
        await plane.intents.plugins.remove("nginx", force=True)
        await reach_gone(plane, "new")
        await plane.intents.plugins.wait_gone("nginx", timeout_s=30)
        await check_nothing_left(world, plane)


async def test_the_pool_is_made_anew_of_what_the_name_means_now(world: World) -> None:
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install({**world.manifest(), "start": {"pool": 2}})
        await wait_pool(plane, "nginx", 2)
        await plane.intents.plugins.install({**world.manifest(), "version": "2.0", "start": {"pool": 2}})
        await wait_pool(plane, "nginx", 2)
        vm = await plane.intents.vms.create(want("web"))
        assert vm.status.start is not None and vm.status.start.kind == "pool"
        assert (vm.status.plugin_version, vm.status.plugin_uid) == ("2.0", (await plane.intents.plugins.get("nginx")).uid)
        old = await plane.intents.plugins.get(f"nginx@{world.manifest()['version']}")
        assert old.wanted_pool == 0
        await plane.intents.plugins.versions.set_enabled("nginx", False)
        await wait_pool(plane, "nginx", 0)
