from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from volant.core.errors import GuestUnreachable, HostError, WrongState
from volant.core.ids import Digest, new_run_id, new_uid
from volant.core.simulated_clock import SimulatedClock
from volant.hypervisor.driver import Ending, Instance
from volant.hypervisor.machine import Files, Machine, Unit
from volant.hypervisor.simulated import SimulatedDriver, SimulatedHost, Step

FILES = Files(kernel=-1, initramfs=-1, disks={}, taps={})


@pytest.fixture
def unit(tmp_path: Path) -> Unit:
    return Unit(uid=new_uid(), state=tmp_path, sockets=tmp_path)


async def launch(host: SimulatedHost, unit: Unit) -> Instance:
    driver = SimulatedDriver(host)
    machine = Machine(
        uid=unit.uid,
        run_id=new_run_id(),
        name="web-1",
        slot=0,
        hypervisor="simulated",
        cpu_cores=1,
        memory_mib=128,
        kernel=Digest("sha256:" + "1" * 64),
        initramfs=Digest("sha256:" + "2" * 64),
        kernel_cmdline="",
    )
    return await driver.launch(unit, await driver.resolve(machine), FILES)


async def test_a_launch_takes_its_time_on_the_clock_it_was_given(unit: Unit) -> None:
    clock = SimulatedClock()
    launching = asyncio.ensure_future(launch(SimulatedHost(clock, launch_delay_s=2.0), unit))
    await clock.advance(1.9)
    assert not launching.done()
    await clock.advance(0.1)
    assert (await launching).started_at == clock.now().timestamp()


async def test_a_launch_under_way_holds_the_lock(unit: Unit) -> None:
    clock = SimulatedClock()
    host = SimulatedHost(clock, launch_delay_s=1.0)
    launching = asyncio.ensure_future(launch(host, unit))
    await clock.advance(0.5)
    with pytest.raises(WrongState):
        await launch(host, unit)
    await clock.advance(0.5)
    await launching


@pytest.mark.parametrize("step", ["launching", "locked", "recorded", "started"])
async def test_a_fault_at_any_step_leaves_nothing(unit: Unit, step: Step) -> None:
    def fail(at: Step, machine: Machine) -> None:
        if at == step:
            raise HostError(f"a fault at {step}")

    host = SimulatedHost(SimulatedClock(), fault=fail)
    with pytest.raises(HostError, match=step):
        await launch(host, unit)
    assert not host.running
    assert not host.is_locked(unit.uid)
    assert await SimulatedDriver(host).adopt(unit) is None


async def test_a_launch_that_is_cancelled_leaves_nothing(unit: Unit) -> None:
    clock = SimulatedClock()
    host = SimulatedHost(clock, launch_delay_s=1.0)
    launching = asyncio.ensure_future(launch(host, unit))
    await clock.advance(0.5)
    launching.cancel()
    await asyncio.wait([launching])
    assert not host.is_locked(unit.uid)
    assert not (unit.state / "machine.json").exists()


async def test_a_guest_that_powers_off_is_heard(unit: Unit) -> None:
    guest = SimpleNamespace(on_power_off=None)
    host = SimulatedHost(SimulatedClock(), agent_factory=lambda machine, saved=None: SimpleNamespace(guest=guest))  # type: ignore[arg-type, return-value]  # never called here
    instance = await launch(host, unit)
    guest.on_power_off()
    assert (await instance.wait_ended()).kind == "powered_off"
    assert unit.uid in host.running, "its process stays until it is cleared"
    await instance.destroy()
    assert unit.uid not in host.running


async def test_after_a_power_cut_a_run_is_lost(unit: Unit) -> None:
    host = SimulatedHost(SimulatedClock())
    await launch(host, unit)
    host.reboot()
    found = await SimulatedDriver(host).adopt(unit)
    assert isinstance(found, Ending) and found.kind == "lost"


async def test_a_guest_without_an_agent_cannot_be_reached(unit: Unit) -> None:
    instance = await launch(SimulatedHost(SimulatedClock()), unit)
    with pytest.raises(GuestUnreachable, match="no agent"):
        await instance.connect_agent()


async def test_only_what_runs_can_be_told_to_end(unit: Unit) -> None:
    host = SimulatedHost(SimulatedClock())
    with pytest.raises(WrongState):
        host.power_off(unit.uid)
    await launch(host, unit)
    host.crash(unit.uid, exit_status=1)
    with pytest.raises(WrongState):
        host.crash(unit.uid, exit_status=1)


async def test_a_reset_is_told_from_a_power_off(unit: Unit) -> None:
    host = SimulatedHost(SimulatedClock())
    instance = await launch(host, unit)
    host.reset(unit.uid)
    assert (await instance.wait_ended()).kind == "reset"


async def test_a_connection_is_closed_by_a_pause_that_comes_at_once(unit: Unit) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    host = SimulatedHost(SimulatedClock(), agent_factory=lambda machine, saved=None: serve)
    instance = await launch(host, unit)
    reader, writer = await instance.connect_agent()
    await instance.pause()
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
