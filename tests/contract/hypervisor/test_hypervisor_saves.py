"""Pausing, saving and restoring, asked of every driver that says it can."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from volant.core.errors import GuestUnreachable, Unavailable, WrongState
from volant.hypervisor.driver import SAVED, Capability, Driver, Instance, NotRestorable, Saved
from volant.hypervisor.machine import BlockDevice, Machine
from volant.hypervisor.record import read_record

from .hypervisor_hosts import PATIENCE_S, Host, QemuSide, open_for_launch, reach_guest

SILENCE_S = 0.5


@contextlib.asynccontextmanager
async def launched(host: Host, driver: Driver, **changes: object) -> AsyncIterator[Instance]:
    unit = host.make_unit()
    instance = await host.launch(driver, unit, host.make_machine(unit, **changes))
    try:
        yield instance
    finally:
        await instance.destroy()
        await instance.close()


@contextlib.asynccontextmanager
async def restored(
    host: Host, driver: Driver, saved: Path, under: Path | None = None, **changes: object
) -> AsyncIterator[Instance]:
    unit = host.make_unit()
    machine = await driver.resolve(host.make_machine(unit, **changes))
    with open_for_launch(host, machine) as files:
        instance = await driver.restore(unit, machine, files, saved, under)
    try:
        yield instance
    finally:
        await instance.destroy()
        await instance.close()


async def save(instance: Instance, directory: Path) -> Saved:
    directory.mkdir()  # noqa: ASYNC240  # a test may wait for its own disk
    await instance.pause()
    return await instance.save(directory)


async def greet(instance: Instance) -> None:
    """Return once the guest has answered."""
    _, writer = await reach_guest(instance)
    writer.close()
    await writer.wait_closed()


async def tell(instance: Instance, orders: str) -> None:
    _, writer = await reach_guest(instance)
    writer.write(orders.encode())
    await writer.drain()
    writer.close()


async def ask_count(instance: Instance) -> str:
    """How often it was asked, and what its ballast holds."""
    reader, writer = await reach_guest(instance)
    writer.write(b"N")
    async with asyncio.timeout(PATIENCE_S):
        answer = await reader.readuntil(b".")
    writer.close()
    return answer.decode().rstrip(".")


def test_every_driver_says_what_it_can(driver: Driver) -> None:
    assert driver.capabilities >= {Capability.PAUSE, Capability.SNAPSHOT, Capability.RESTORE_IN_PLACE, Capability.BALLOON}


async def test_a_paused_guest_answers_nothing_and_goes_on(host: Host, driver: Driver) -> None:
    async with launched(host, driver) as instance:
        await greet(instance)
        assert await instance.query_state() == "running"
        await instance.pause()
        assert await instance.query_state() == "paused"
        with pytest.raises((TimeoutError, GuestUnreachable)):
            async with asyncio.timeout(SILENCE_S):
                await greet(instance)
        await instance.resume()
        await greet(instance)
        assert await instance.query_state() == "running"


async def test_saving_shows_to_nobody(host: Host, driver: Driver, tmp_path: Path) -> None:
    async with launched(host, driver) as instance:
        await greet(instance)
        saved = await save(instance, tmp_path / "saved")
        assert saved.is_whole and saved.machine == instance.machine
        assert read_record(tmp_path / "saved" / SAVED, Saved) == saved
        await instance.resume()
        await greet(instance)


async def test_what_was_saved_is_restored_paused_and_as_another_unit(host: Host, driver: Driver, tmp_path: Path) -> None:
    async with launched(host, driver) as instance:
        await greet(instance)
        await save(instance, tmp_path / "saved")
    async with restored(host, driver, tmp_path / "saved") as again:
        assert await again.query_state() == "paused"
        await again.resume()
        await greet(again)


async def test_a_driver_that_shares_no_memory_takes_no_base(host: Host, driver: Driver, tmp_path: Path) -> None:
    if Capability.SHARED_MEMORY in driver.capabilities:
        pytest.skip(f"{driver.name} shares memory")
    async with launched(host, driver) as instance:
        await save(instance, tmp_path / "base")
    unit = host.make_unit()
    machine = await driver.resolve(host.make_machine(unit, base="b" * 64))
    with open_for_launch(host, machine) as files, pytest.raises(NotRestorable, match="shares no memory"):
        await driver.restore(unit, machine, files, tmp_path / "base")
    assert not host.find_leftovers(unit)


async def test_many_stand_on_one_base_and_one_of_them_is_saved(host: Host, driver: Driver, tmp_path: Path) -> None:
    if Capability.SHARED_MEMORY not in driver.capabilities:
        pytest.skip(f"{driver.name} says that it shares no memory")
    base = tmp_path / "base"
    async with launched(host, driver) as instance:
        await greet(instance)
        await save(instance, base)
    async with restored(host, driver, base, base="b" * 64) as one, restored(host, driver, base, base="b" * 64) as two:
        for clone in (one, two):
            await clone.resume()
            await greet(clone)
        saved = await save(one, tmp_path / "one")
        assert not saved.is_whole and saved.machine.base == "b" * 64
        await greet(two)
    async with restored(host, driver, tmp_path / "one", base, base="b" * 64) as again:
        await again.resume()
        await greet(again)


async def test_another_shape_is_never_restored(host: Host, driver: Driver, tmp_path: Path) -> None:
    async with launched(host, driver) as instance:
        await save(instance, tmp_path / "saved")
    for changes in ({"memory_mib": 192}, {"cpu_cores": 2}):
        unit = host.make_unit()
        machine = await driver.resolve(host.make_machine(unit, **changes))
        with open_for_launch(host, machine) as files, pytest.raises(NotRestorable):
            await driver.restore(unit, machine, files, tmp_path / "saved")
        assert not host.find_leftovers(unit)


async def test_nothing_is_not_restored(host: Host, driver: Driver, tmp_path: Path) -> None:
    unit = host.make_unit()
    machine = await driver.resolve(host.make_machine(unit))
    with open_for_launch(host, machine) as files, pytest.raises(NotRestorable):
        await driver.restore(unit, machine, files, tmp_path)
    assert not host.find_leftovers(unit)


async def test_one_that_ended_is_neither_paused_nor_saved(host: Host, driver: Driver, tmp_path: Path) -> None:
    async with launched(host, driver) as instance:
        await greet(instance)
        await instance.destroy()
        assert await instance.query_state() == "ended"
        with pytest.raises(WrongState):
            await instance.pause()


async def test_what_runs_in_a_unit_is_not_restored_over(host: Host, driver: Driver, tmp_path: Path) -> None:
    async with launched(host, driver) as instance:
        await greet(instance)
        await save(instance, tmp_path / "saved")
        machine: Machine = instance.machine
        unit = host.unit_of(machine)
        with open_for_launch(host, machine) as files, pytest.raises(WrongState):
            await driver.restore(unit, machine, files, tmp_path / "saved")


@pytest.mark.vm
async def test_memory_is_what_it_was_in_the_original_its_clones_and_theirs(qemu: QemuSide, tmp_path: Path) -> None:
    driver = await qemu.open_driver()
    base = tmp_path / "base"
    async with launched(qemu, driver) as instance:
        await tell(instance, "f")
        assert await ask_count(instance) == "1f"
        whole = await save(instance, base)
        assert whole.memory_bytes > 4 << 20
        await instance.resume()
        assert await ask_count(instance) == "2f", "the original goes on from where it was"
    async with restored(qemu, driver, base, base="b" * 64) as one, restored(qemu, driver, base, base="b" * 64) as two:
        for clone in (one, two):
            await clone.resume()
        assert (await ask_count(one), await ask_count(two)) == ("2f", "2f")
        use = await one.measure_memory()
        assert use.guest_shared_bytes > use.guest_private_bytes > 0
        await tell(one, "g")
        assert (await ask_count(one), await ask_count(two)) == ("3g", "3f"), "what one writes the other never sees"
        grown = await one.measure_memory()
        assert grown.guest_private_bytes >= use.guest_private_bytes + (4 << 20)
        part = await save(one, tmp_path / "one")
        assert 4 << 20 <= part.memory_bytes < whole.memory_bytes
        await tell(two, "z")
        assert (await ask_count(two))[-1] == "0"
        zeros = await save(two, tmp_path / "two")
        assert zeros.memory_bytes >= 4 << 20, "a page of zeros is not the base's"
    async with restored(qemu, driver, tmp_path / "one", base, base="b" * 64) as again:
        await again.resume()
        assert await ask_count(again) == "4g"
    async with restored(qemu, driver, tmp_path / "two", base, base="b" * 64) as again:
        await again.resume()
        assert (await ask_count(again))[-1] == "0"


async def test_what_was_saved_before_there_were_balloons_goes_on_without(host: Host, driver: Driver, tmp_path: Path) -> None:
    unit = host.make_unit()
    old = msgspec.structs.replace(await driver.resolve(host.make_machine(unit)), balloon=-1)
    with open_for_launch(host, old) as files:
        instance = await driver.launch(unit, old, files)
    try:
        await greet(instance)
        assert (await instance.read_counters()).memory_mib == old.memory_mib
        with pytest.raises(WrongState, match="without a balloon"):
            await instance.set_memory(64)
        await save(instance, tmp_path / "saved")
    finally:
        await instance.destroy()
        await instance.close()
    async with restored(host, driver, tmp_path / "saved") as again:
        assert again.machine.balloon == -1
        await again.resume()
        await greet(again)


@pytest.mark.vm
async def test_too_many_devices_for_a_microvm_are_said_to_be_so(qemu: QemuSide) -> None:
    driver = await qemu.open_driver()
    disks = tuple(BlockDevice(serial=f"disk{bus}", bus=bus, readonly=False) for bus in (0, 1, 2, 3, 4, 5, 8))
    with pytest.raises(Unavailable, match="more than the 6 disks and network cards"):
        await driver.resolve(qemu.make_machine(qemu.make_unit(), disks=disks))


@pytest.mark.vm
async def test_a_base_outlives_the_driver_in_the_clones_that_stand_on_it(qemu: QemuSide, tmp_path: Path) -> None:
    base = tmp_path / "base"
    first = await qemu.open_driver()
    async with launched(qemu, first) as instance:
        await greet(instance)
        await save(instance, base)
    async with restored(qemu, first, base, base="b" * 64) as clone:
        await first.release_bases(set())
        second = await qemu.open_driver()
        assert not second.is_base_held("b" * 64)
        adopted = await second.adopt(qemu.unit_of(clone.machine))
        assert adopted is not None
        assert second.is_base_held("b" * 64), "taken again from the process that maps it"
        (base / "memory").unlink()
        async with restored(qemu, second, base, base="b" * 64) as another:
            await another.resume()
            await greet(another)
        await second.release_bases(set())
        assert not second.is_base_held("b" * 64)


@pytest.mark.vm
@pytest.mark.parametrize("name", ["hypervisor_build", "accelerator", "cpu_model"])
async def test_what_another_hypervisor_saved_is_never_restored(qemu: QemuSide, tmp_path: Path, name: str) -> None:
    driver = await qemu.open_driver()
    async with launched(qemu, driver) as instance:
        await save(instance, tmp_path / "saved")
    unit = qemu.make_unit()
    machine = await driver.resolve(qemu.make_machine(unit))
    other = msgspec.structs.replace(machine, **{name: "kvm" if name == "accelerator" else "another"})
    with open_for_launch(qemu, other) as files, pytest.raises(NotRestorable, match=r"another|kvm"):
        await driver.restore(unit, other, files, tmp_path / "saved")
