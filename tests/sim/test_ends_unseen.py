"""Runs that end while volantd is away: how they ended is known all the same, of what their guests left behind."""

from __future__ import annotations

from typing import Any

import pytest

from volant.core.vm import VM, EndRecord
from volant.guest.farewell import Farewell, encode_farewell
from volant.guest.protocol import Exit
from volant.guest.simulated import SimulatedGuest
from volant.guest.simulated_agent import make_agent_factory
from volant.guest.simulated_types import Machinelike
from volant.node.unit import read_documents

from .host import World, check_nothing_left, reach, want
from .test_jobs import list_runs, reach_job, run_plane, want_job

DONE = {"code": 0}


def guest_of(world: World, vm: VM) -> SimulatedGuest:
    guest: SimulatedGuest = world.host.running[vm.uid].serve_agent.guest  # type: ignore[union-attr]  # the simulated agent's
    return guest


def print_on_console(world: World, vm: VM, content: bytes) -> None:
    with world.places.console(vm.uid).open("ab") as console:
        console.write(content)


async def start_run(world: World, **spec: Any) -> VM:
    """A volantd starts a job's run, and is away before it ends."""
    async with run_plane(world) as plane:
        await plane.intents.plugins.install(world.manifest())
        job = await plane.intents.jobs.create(want_job("work", "sleep", "600", **spec))
        await reach_job(plane, job, lambda now: now.status.active == 1)
        return await reach(plane, "work-0-0", lambda vm: vm.status.ready)


async def test_a_job_whose_run_ended_well_is_done_and_runs_nothing_twice(world: World) -> None:
    vm = await start_run(world)
    guest_of(world, vm).crash_workload(DONE)
    async with run_plane(world) as plane:
        done = await reach_job(plane, await plane.intents.jobs.get("work"))
        assert (done.status.phase, done.status.succeeded, done.status.failed) == ("Succeeded", 1, 0)
        assert [(run.vm, run.exit_code) for run in done.status.runs] == [("work-0-0", 0)]
        assert await list_runs(plane) == ["work-0-0"]
        await plane.intents.jobs.delete("work")
        assert await plane.intents.jobs.wait(await plane.intents.jobs.get("work"), timeout_s=30) is None
        await check_nothing_left(world, plane)


async def test_a_job_whose_run_failed_knows_its_status(world: World) -> None:
    vm = await start_run(world, retries=0)
    guest_of(world, vm).crash_workload({"code": 7})
    async with run_plane(world) as plane:
        done = await reach_job(plane, await plane.intents.jobs.get("work"))
        assert (done.status.phase, done.status.failed) == ("Failed", 1)
        assert [(run.exit_code, run.message) for run in done.status.runs] == [(7, "exited with code 7")]


async def test_an_agent_of_before_leaves_nothing_and_the_run_has_failed(world: World) -> None:
    class OldGuest(SimulatedGuest):
        @property
        def farewell(self) -> bytes:
            return b""

    def make_guest(machine: Machinelike) -> SimulatedGuest:
        return OldGuest(world.clock)

    world.host.agent_factory = make_agent_factory(world.clock, make_guest)
    vm = await start_run(world, retries=0)
    guest_of(world, vm).crash_workload(DONE)
    async with run_plane(world) as plane:
        done = await reach_job(plane, await plane.intents.jobs.get("work"))
        assert (done.status.phase, done.status.runs[0].exit_code) == ("Failed", None)
        assert "is not known" in done.status.runs[0].message


@pytest.mark.parametrize("told", ["another document's", "none"])
async def test_what_a_workload_prints_itself_is_not_believed(world: World, told: str) -> None:
    vm = await start_run(world, retries=0)
    line = encode_farewell("sha256:" + "0" * 64, Farewell(reason="workload_ended", exit=Exit(code=0)))
    print_on_console(world, vm, line if told != "none" else b"\nkestrel: end  exit=0 reason=workload_ended\n")
    world.host.power_off(vm.uid)
    async with run_plane(world) as plane:
        done = await reach_job(plane, await plane.intents.jobs.get("work"))
        assert (done.status.phase, done.status.runs[0].exit_code) == ("Failed", None)


async def end_of(world: World, name: str, run_id: str) -> tuple[VM, EndRecord]:
    """What the next volantd writes down of that run."""
    async with run_plane(world) as plane:
        vm = await reach(plane, name, lambda vm: vm.status.last_end is not None and vm.status.last_end.run_id == run_id)
        assert vm.status.last_end is not None
        return vm, vm.status.last_end


async def test_a_vm_that_gave_up_stays_down_and_one_that_crashed_is_started_again(world: World) -> None:
    async with run_plane(world) as plane:
        await plane.intents.plugins.install(world.manifest())
        for name in ("tired", "off"):
            await plane.intents.vms.create(want(name, restart_policy="on-failure", start="cold"))
        tired, off = [await reach(plane, name, lambda vm: vm.status.ready) for name in ("tired", "off")]
    guest = guest_of(world, tired)
    assert guest.workload is not None
    guest.crash_workload({"signal": 11})
    guest.shut_down("restart_limit")
    guest_of(world, off).crash_workload(DONE)
    _, end = await end_of(world, "tired", tired.status.run_id)
    assert (end.clean, end.exit_code, end.exit_signal, end.gave_up) == (False, None, 11, True)
    assert end.message == "ended by signal 11; it was restarted as often as it may be"
    vm, end = await end_of(world, "off", off.status.run_id)
    assert (end.clean, end.exit_code, end.gave_up) == (True, 0, False)
    assert vm.status.restarts == 0


async def test_the_line_of_a_run_before_is_not_taken_for_this_ones(world: World) -> None:
    async with run_plane(world) as plane:
        await plane.intents.plugins.install(world.manifest())
        await plane.intents.vms.create(want("web", restart_policy="never", start="cold"))
        first = await reach(plane, "web", lambda vm: vm.status.ready)
        guest_of(world, first).crash_workload({"code": 7})
        ended = await reach(plane, "web", lambda vm: vm.status.last_end is not None)
        assert ended.status.last_end is not None and ended.status.last_end.exit_code == 7
        await plane.intents.vms.start("web")
        second = await reach(plane, "web", lambda vm: vm.status.ready and vm.status.run_id != first.status.run_id)
    assert b" exit=7 reason=workload_ended\n" in world.places.console(first.uid).read_bytes()
    world.host.power_off(second.uid)
    _, end = await end_of(world, "web", second.status.run_id)
    assert (end.clean, end.exit_code, end.message) == (True, None, "the guest switched itself off")


@pytest.mark.parametrize("start", ["cold", "template"])
async def test_a_guest_that_slept_or_was_cloned_is_known_by_what_it_was_told_last(world: World, start: str) -> None:
    async with run_plane(world) as plane:
        await plane.intents.plugins.install(world.manifest())
        await plane.intents.vms.create(want("web", restart_policy="never", start=start))
        await reach(plane, "web", lambda vm: vm.status.ready)
        await plane.intents.vms.suspend("web")
        await reach(plane, "web", lambda vm: vm.status.phase == "Suspended")
        await plane.intents.vms.start("web")
        vm = await reach(plane, "web", lambda vm: vm.status.ready)
    assert read_documents(world.places.unit(vm.uid))
    guest_of(world, vm).crash_workload({"code": 9})
    _, end = await end_of(world, "web", vm.status.run_id)
    assert (end.clean, end.exit_code) == (False, 9)
