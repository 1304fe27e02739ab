"""What changes while a machine runs: devices that come and go, the balloon; and what passed through them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from volant.core.errors import InvalidInput, Unavailable, WrongState
from volant.hypervisor.driver import MIN_GUEST_MIB, Capability, Counters, Driver, Ending, Instance
from volant.hypervisor.machine import BlockDevice, Machine, NetworkDevice, Unit
from volant.hypervisor.record import read_record

from .hypervisor_hosts import PATIENCE_S, Host, QemuSide, reach_guest

DISK = BlockDevice(serial="disk1", bus=1, readonly=False)
FURTHER = BlockDevice(serial="further", bus=3, readonly=False)
CARD = NetworkDevice(mac="52:54:00:00:00:77", tap="vtnew", bus=4)
LOOK_S = 0.05


async def ask(instance: Instance, letter: str) -> str:
    reader, writer = await reach_guest(instance)
    writer.write(letter.encode())
    async with asyncio.timeout(PATIENCE_S):
        answer = await reader.readuntil(b".")
    writer.close()
    return answer.decode().rstrip(".")


async def wait_counters(instance: Instance, is_so: Callable[[Counters], bool]) -> Counters:
    async with asyncio.timeout(PATIENCE_S):
        while not is_so(found := await instance.read_counters()):  # noqa: ASYNC110  # another process: there is no event of ours
            await asyncio.sleep(LOOK_S)
    return found


def must_have(driver: Driver, capability: Capability) -> None:
    if capability not in driver.capabilities:
        pytest.skip(f"{driver.name} says that it has no {capability}")


async def test_what_a_driver_lacks_it_refuses_and_changes_nothing(host: Host, driver: Driver, unit: Unit) -> None:
    instance = await host.launch(driver, unit)
    before = instance.machine
    if Capability.HOTPLUG not in driver.capabilities:
        with host.open_disk(FURTHER) as descriptor:
            with pytest.raises(WrongState, match="fixed while it runs"):
                await instance.add_disk(FURTHER, descriptor)
            with pytest.raises(WrongState):
                await instance.remove_network(CARD.tap)
    assert instance.machine == before
    await instance.destroy()
    with pytest.raises(WrongState):
        await instance.set_memory(MIN_GUEST_MIB)
    with pytest.raises(Unavailable):
        await instance.read_counters()
    await instance.close()


async def test_a_disk_comes_and_goes(host: Host, driver: Driver, unit: Unit) -> None:
    must_have(driver, Capability.HOTPLUG)
    instance = await host.launch(driver, unit, host.make_machine(unit, disks=(DISK,)))
    try:
        with host.open_disk(FURTHER) as descriptor:
            await instance.add_disk(FURTHER, descriptor)
            await instance.add_disk(FURTHER, descriptor)
            with pytest.raises(WrongState, match="another disk"):
                await instance.add_disk(msgspec.structs.replace(FURTHER, readonly=True), descriptor)
            with pytest.raises(WrongState, match="taken"):
                await instance.add_disk(msgspec.structs.replace(FURTHER, serial="other"), descriptor)
        assert instance.machine.disks == (DISK, FURTHER)
        assert read_record(unit.state / "machine.json", Machine) == instance.machine
        assert set((await instance.read_counters()).disks) == {DISK.serial, FURTHER.serial}
        adopted = await (await host.open_driver()).adopt(unit)
        assert adopted is not None and not isinstance(adopted, Ending)
        assert adopted.machine == instance.machine
        await adopted.remove_disk(FURTHER.serial)
        await adopted.remove_disk(FURTHER.serial)
        assert adopted.machine.disks == (DISK,)
        await adopted.close()
        assert read_record(unit.state / "machine.json", Machine) == adopted.machine
    finally:
        await instance.destroy()
        await instance.close()


async def test_a_card_comes_and_goes(host: Host, driver: Driver, unit: Unit) -> None:
    must_have(driver, Capability.HOTPLUG)
    instance = await host.launch(driver, unit)
    try:
        with host.open_tap(CARD.tap) as tap:
            await instance.add_network(CARD, tap)
            await instance.add_network(CARD, tap)
            with pytest.raises(WrongState, match="another card"):
                await instance.add_network(msgspec.structs.replace(CARD, bus=5), tap)
        assert instance.machine.networks == (CARD,)
        assert read_record(unit.state / "machine.json", Machine) == instance.machine
        await instance.remove_network(CARD.tap)
        await instance.remove_network(CARD.tap)
        assert instance.machine.networks == ()
    finally:
        await instance.destroy()
        await instance.close()


async def test_a_balloon_leaves_the_guest_what_it_is_told_to(host: Host, driver: Driver, unit: Unit) -> None:
    must_have(driver, Capability.BALLOON)
    instance = await host.launch(driver, unit)
    try:
        _, writer = await reach_guest(instance)
        writer.close()
        assert instance.machine.balloon >= 0
        assert (await instance.read_counters()).memory_mib == 128
        for wrong in (MIN_GUEST_MIB - 1, 129):
            with pytest.raises(InvalidInput):
                await instance.set_memory(wrong)
        await instance.set_memory(96)
        await wait_counters(instance, lambda counters: counters.memory_mib == 96)
        adopted = await (await host.open_driver()).adopt(unit)
        assert adopted is not None and not isinstance(adopted, Ending)
        await instance.close()
        instance = adopted
        assert (await wait_counters(instance, lambda counters: True)).memory_mib == 96
        await instance.set_memory(128)
        await wait_counters(instance, lambda counters: counters.memory_mib == 128)
    finally:
        await instance.destroy()
        await instance.close()


async def test_every_device_has_counters(host: Host, driver: Driver, unit: Unit) -> None:
    instance = await host.launch(driver, unit, host.make_machine(unit, disks=(DISK,)))
    try:
        counters = await instance.read_counters()
        assert set(counters.disks) == {DISK.serial}
        assert counters.networks == {}
        assert counters.memory_mib == 128
    finally:
        await instance.destroy()
        await instance.close()


async def test_a_record_of_an_earlier_version_is_read_and_has_no_balloon(host: Host, driver: Driver, unit: Unit) -> None:
    machine = host.make_machine(unit)
    fields = msgspec.json.decode(msgspec.json.encode(machine))
    for name in ("balloon", "channel"):
        del fields[name]
    old = msgspec.json.decode(msgspec.json.encode(fields), type=Machine)
    assert (old.balloon, old.channel) == (-1, "virtio-serial")
    assert old == machine


@pytest.mark.vm
async def test_a_guest_that_runs_short_takes_its_memory_back(qemu: QemuSide) -> None:
    driver = await qemu.open_driver()
    unit = qemu.make_unit()
    instance = await qemu.launch(driver, unit, qemu.make_machine(unit))
    try:
        had_kb = int(await ask(instance, "M"))
        assert 128 * 1024 - had_kb > MIN_GUEST_MIB * 1024, "the kernel itself has more than it is to be left"
        await instance.set_memory(MIN_GUEST_MIB)
        await wait_counters(instance, lambda counters: counters.memory_mib < 80)
        assert await ask(instance, "fN") == "1f", "it took 4 MiB more, and nothing was ended for it"
    finally:
        await instance.destroy()
        await instance.close()


@pytest.mark.vm
async def test_memory_and_disk_are_as_the_guest_says(qemu: QemuSide) -> None:
    driver = await qemu.open_driver()
    unit = qemu.make_unit()
    instance = await qemu.launch(driver, unit, qemu.make_machine(unit, disks=(DISK,)))
    try:
        had_kb = int(await ask(instance, "M"))
        await instance.set_memory(96)
        await wait_counters(instance, lambda counters: counters.memory_mib == 96)
        assert 24 * 1024 <= had_kb - int(await ask(instance, "M")) <= 40 * 1024
        assert (await instance.read_counters()).disks[DISK.serial].written_bytes == 0
        assert await ask(instance, "W") == "w"
        found = (await instance.read_counters()).disks[DISK.serial]
        assert found.written_bytes == 1 << 18 and found.writes >= 1
        await instance.set_memory(128)
        await wait_counters(instance, lambda counters: counters.memory_mib == 128)
    finally:
        await instance.destroy()
        await instance.close()
