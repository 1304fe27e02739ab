"""A run from launch to its end, and what it leaves."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from volant.core.errors import GuestUnreachable, HostError, WrongState
from volant.hypervisor.driver import Driver, Ending, Instance
from volant.hypervisor.machine import Machine, Unit
from volant.hypervisor.record import read_record

from .hypervisor_hosts import PATIENCE_S, Host, open_for_launch, reach_guest


async def wait_ended(instance: Instance) -> Ending:
    async with asyncio.timeout(PATIENCE_S):
        return await instance.wait_ended()


async def test_resolve_fills_in_what_a_record_needs_and_keeps_the_rest(host: Host, driver: Driver, unit: Unit) -> None:
    asked = host.make_machine(unit, kernel_cmdline="volant.rootfs_device=rootfs")
    resolved = await driver.resolve(asked)
    assert resolved.hypervisor == driver.name
    assert resolved.hypervisor_version == driver.version != ""
    assert resolved.machine_type and resolved.cpu_model
    assert "volant.rootfs_device=rootfs" in resolved.kernel_cmdline.split()
    assert (resolved.uid, resolved.run_id, resolved.memory_mib) == (asked.uid, asked.run_id, asked.memory_mib)
    assert await driver.resolve(resolved) == resolved


async def test_a_launched_machine_runs_and_is_written_down(host: Host, driver: Driver, unit: Unit) -> None:
    machine = await driver.resolve(host.make_machine(unit))
    before = time.time()
    with open_for_launch(host, machine) as files:
        instance = await driver.launch(unit, machine, files)
    try:
        assert instance.machine == machine
        assert instance.pid > 0
        assert before - 1 <= instance.started_at <= time.time() + 1
        assert read_record(unit.state / "machine.json", Machine) == machine
    finally:
        await instance.destroy()
        await instance.close()


async def test_what_runs_is_not_launched_again(host: Host, driver: Driver, unit: Unit) -> None:
    instance = await host.launch(driver, unit)
    try:
        with pytest.raises(WrongState):
            await host.launch(driver, unit)
        again = await driver.adopt(unit)
        assert not isinstance(again, Ending) and again is not None
        assert again.pid == instance.pid
        assert again.machine == instance.machine
        await again.close()
    finally:
        await instance.destroy()
        await instance.close()
    again = await host.launch(driver, unit)
    await again.destroy()
    await again.close()


async def test_a_killed_process_is_a_crash(host: Host, driver: Driver, unit: Unit) -> None:
    instance = await host.launch(driver, unit)
    host.kill_process(instance)
    ending = await wait_ended(instance)
    assert (ending.kind, ending.signal) == ("crashed", signal.SIGKILL)
    assert await wait_ended(instance) == ending
    with pytest.raises(GuestUnreachable):
        await instance.connect_agent()
    await instance.destroy()
    await instance.close()
    assert await driver.adopt(unit) == ending
    assert not host.find_leftovers(unit)


@pytest.mark.parametrize(("order", "kind"), [("P", "powered_off"), ("R", "reset")])
async def test_how_a_guest_ended_is_told_and_remembered(host: Host, driver: Driver, unit: Unit, order: str, kind: str) -> None:
    instance = await host.launch(driver, unit)
    await host.tell_guest(instance, order)
    ending = await wait_ended(instance)
    assert ending.kind == kind
    await instance.destroy()
    await instance.close()
    assert await driver.adopt(unit) == ending
    assert not host.find_leftovers(unit)


async def test_many_may_wait_and_some_give_up(host: Host, driver: Driver, unit: Unit) -> None:
    instance = await host.launch(driver, unit)
    first, second, third = (asyncio.ensure_future(instance.wait_ended()) for _ in range(3))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    assert first.cancelled()
    host.kill_process(instance)
    async with asyncio.timeout(PATIENCE_S):
        assert await second == await third
    await instance.destroy()
    await instance.close()


async def test_destroying_twice_is_as_once(host: Host, driver: Driver, unit: Unit) -> None:
    instance = await host.launch(driver, unit)
    waiting = asyncio.ensure_future(wait_ended(instance))
    await asyncio.sleep(0)
    await instance.destroy()
    assert not host.find_leftovers(unit)
    await instance.destroy()
    assert (await waiting).kind == "killed"
    await instance.close()
    found = await driver.adopt(unit)
    assert isinstance(found, Ending) and found.kind == "killed"


async def test_a_launch_that_fails_leaves_nothing(host: Host, driver: Driver, unit: Unit) -> None:
    with pytest.raises(HostError, match="kernel"):
        await host.launch(driver, unit, broken=True)
    assert not host.find_leftovers(unit)
    assert not (unit.state / "machine.json").exists()
    assert await driver.adopt(unit) is None
    instance = await host.launch(driver, unit)
    await instance.destroy()
    await instance.close()


async def test_the_agent_is_reached_and_reached_again(host: Host, driver: Driver, unit: Unit) -> None:
    instance = await host.launch(driver, unit)
    for _ in range(2):
        _, writer = await reach_guest(instance)
        writer.close()
        await writer.wait_closed()
    await instance.destroy()
    await instance.close()


async def test_a_unit_that_never_ran_has_no_ending(driver: Driver, unit: Unit) -> None:
    assert await driver.adopt(unit) is None


async def test_what_a_launch_was_given_stays_the_callers(host: Host, driver: Driver, unit: Unit) -> None:
    machine = await driver.resolve(host.make_machine(unit))
    before = len(os.listdir("/proc/self/fd"))
    with open_for_launch(host, machine) as files:
        instance = await driver.launch(unit, machine, files)
    await instance.destroy()
    await instance.close()
    assert len(os.listdir("/proc/self/fd")) == before
