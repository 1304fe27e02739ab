"""volantd is killed at every write and at every step on the host; the next one converges and nothing leaks."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from volant.core.errors import AlreadyExists, HostError, NotFound
from volant.plane import ControlPlane

from .crash import crashing
from .host import Crash, World, check_nothing_left, reach, reach_gone, want


async def run_life(world: World, plane: ControlPlane) -> None:
    """Install, create, stop, start, delete; asking again for what was not acknowledged."""
    intents = plane.intents
    await intents.plugins.install(world.manifest())
    # A life that was cut short may have got as far as the stop, or the delete.
    if any(vm.deleting for vm in (await intents.vms.list())[0]):
        await reach_gone(plane, "web")
    with contextlib.suppress(AlreadyExists):
        await intents.vms.create(want("web"))
    await intents.vms.start("web")
    await reach(plane, "web", lambda vm: vm.status.ready)
    await intents.vms.stop("web")
    await reach(plane, "web", lambda vm: vm.status.phase == "Stopped")
    await intents.vms.start("web")
    await reach(plane, "web", lambda vm: vm.status.ready)
    await end_life(plane)


async def end_life(plane: ControlPlane) -> None:
    with contextlib.suppress(NotFound):
        await plane.intents.vms.delete("web")
    await reach_gone(plane, "web")


async def count_writes(tmp_path: Path) -> int:
    world = World(tmp_path / "count")
    world.root.mkdir()
    await world.prepare()
    async with world.plane() as (plane, store):
        await run_life(world, plane)
        writes = store.writes
    await world.host.close()
    return writes


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_killed_at_every_write(tmp_path: Path, after: bool) -> None:
    total = await count_writes(tmp_path)
    assert total > 10
    for crash_at in range(1, total + 1):
        world = World(tmp_path / f"crash-{crash_at}")
        world.root.mkdir()
        await world.prepare()
        with crashing():
            async with world.plane(crash_at, after=after) as (plane, _):
                await run_life(world, plane)
        async with world.plane() as (plane, _):
            await run_life(world, plane)
            await check_nothing_left(world, plane)
            assert await plane.intents.vms.list() == ([], (await plane.store.list("VM")).revision)
        await world.host.close()


STEPS = (
    "disk create",
    "disk format",
    "disk rename",
    "launch launching",
    "launch locked",
    "launch recorded",
    "launch started",
)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("how", ["killed", "failing"])
async def test_killed_or_failing_at_every_step_on_the_host(world: World, step: str, how: str) -> None:
    hits = 0

    def fault(name: str) -> None:
        nonlocal hits
        if name == step and hits == 0:
            hits += 1
            raise Crash(name) if how == "killed" else HostError(f"the host refuses at {name}")

    world.fault = fault
    with crashing():
        async with world.plane() as (plane, _):
            await plane.intents.plugins.install(world.manifest())
            await plane.intents.vms.create(want("web"))
            vm = await reach(plane, "web", lambda vm: vm.status.ready)
            assert how == "failing"
            reasons = {event.spec.reason for event in (await plane.intents.events.list(about_name="web"))[0]}
            assert "StartFailed" in reasons, "the reason is told"
            assert vm.status.restarts == 0
    assert hits == 1
    async with world.plane() as (plane, _):
        await reach(plane, "web", lambda vm: vm.status.ready)
        await end_life(plane)
        await check_nothing_left(world, plane)
