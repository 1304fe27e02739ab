"""Saving a paused machine and putting one back.

The devices are saved apart from the memory (QMP's xen-save-devices-state, which any machine type offers): 9 KB in a millisecond.
The memory is written by us, page by page, because a migration stream would hold all of a clone's.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from volant.core.errors import HostError, Unavailable
from volant.hypervisor.driver import SAVED, NotRestorable, Saved
from volant.hypervisor.machine import Machine
from volant.hypervisor.process import Process
from volant.hypervisor.qemu import pages
from volant.hypervisor.qemu.memory import MIB, OWN, base_name, find_mapping, find_memory
from volant.hypervisor.qemu.monitor import Monitor
from volant.hypervisor.record import read_record, write_record

STATE = "state"
STATE_MAX_BYTES = 64 << 20
LOAD_TIMEOUT_S = 10.0
LOOK_PERIOD_S = 0.001

_FDSET = 1000
"""Disks have the numbers from 1."""


async def save_machine(machine: Machine, process: Process, monitor: Monitor, directory: Path) -> Saved:
    """As Instance.save."""
    state_bytes = await _save_state(monitor, directory / STATE)
    memory_bytes = await asyncio.to_thread(_save_memory, machine, process.pid, directory)
    saved = Saved(machine=machine, is_whole=not machine.base, memory_bytes=memory_bytes, state_bytes=state_bytes)
    write_record(directory / SAVED, saved)
    return saved


def read_saved(directory: Path, machine: Machine) -> Saved:
    """What lies in ``directory``, provided that ``machine`` can go on from it.

    Raises:
        NotRestorable: nothing does, or another hypervisor wrote it, or it is of another machine.
    """
    saved = read_record(directory / SAVED, Saved)
    if saved is None:
        raise NotRestorable(f"nothing that was saved lies in {directory}")
    for name in ("hypervisor_version", "hypervisor_build", "machine_type", "accelerator", "cpu_model", "cpu_cores", "memory_mib"):
        was, is_ = getattr(saved.machine, name), getattr(machine, name)
        if was != is_:
            raise NotRestorable(f"it was saved with {name.replace('_', ' ')} {was}, and this is {is_}")
    if _places(saved.machine) != _places(machine):
        raise NotRestorable("it was saved with other devices")
    for was_disk, disk in zip(saved.machine.disks, machine.disks, strict=True):
        if was_disk.content != disk.content:
            raise NotRestorable(f"its disk {disk.serial!r} held something else when it was saved")
    if not saved.is_whole and saved.machine.base != machine.base:
        raise NotRestorable("the memory that it stands on is another")
    return saved


async def load_machine(machine: Machine, process: Process, monitor: Monitor, saved: Path, state: int) -> None:
    """Put the devices of ``saved`` into a process that waits for them, which holds ``state`` under that number.

    Memory that stands on a base is completed first: devices look into it while they are loaded.

    Raises:
        Unavailable, HostError: it could not be; the process is of no use then.
    """
    if machine.base and not _is_base(saved, machine):
        size_bytes = machine.memory_mib * MIB
        address = await asyncio.to_thread(find_mapping, process.pid, base_name(machine.base))
        await asyncio.to_thread(pages.read_into_process, saved, process.pid, address, size_bytes)
    await monitor.execute("migrate-incoming", {"uri": f"fd:{state}"})
    async with asyncio.timeout(LOAD_TIMEOUT_S):
        # Loading takes a few milliseconds, and only the run state tells its end.
        while await monitor.query_status() == "inmigrate":  # noqa: ASYNC110  # another process: there is no event of ours
            await asyncio.sleep(LOOK_PERIOD_S)


def _is_base(saved: Path, machine: Machine) -> bool:
    record = read_record(saved / SAVED, Saved)
    return record is not None and record.is_whole


def _places(machine: Machine) -> tuple[object, ...]:
    return (
        tuple((disk.serial, disk.bus, disk.readonly) for disk in machine.disks),
        tuple(network.bus for network in machine.networks),
    )


async def _save_state(monitor: Monitor, path: Path) -> int:
    """QEMU keeps what it was given to write to for as long as it runs, and the file is others' to start from: so it gets memory,
    and what lies there when it has finished is copied."""
    memory = os.memfd_create("volant-state", os.MFD_CLOEXEC)
    try:
        # It takes from a set only what was opened for exactly what it wants.
        handed = os.open(f"/proc/self/fd/{memory}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            await monitor.execute("add-fd", {"fdset-id": _FDSET}, descriptor=handed)
        finally:
            os.close(handed)
        try:
            # live=false keeps the disks ours: the guest may go on here.
            await monitor.execute("xen-save-devices-state", {"filename": f"/dev/fdset/{_FDSET}", "live": False})
        finally:
            await monitor.execute("remove-fd", {"fdset-id": _FDSET})
        size = await asyncio.to_thread(_copy_state, memory, path)
        os.ftruncate(memory, 0)
    finally:
        os.close(memory)
    return size


def _copy_state(memory: int, path: Path) -> int:
    size = os.fstat(memory).st_size
    if size == 0:
        raise HostError("the VM process saved nothing of its devices")
    if size > STATE_MAX_BYTES:
        raise HostError(f"the VM process says that its devices are {size} bytes, which cannot be")
    content = os.pread(memory, size, 0)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    return len(content)


def _save_memory(machine: Machine, pid: int, directory: Path) -> int:
    if machine.base:
        address = find_mapping(pid, base_name(machine.base))
        return pages.save_private(pid, address, machine.memory_mib * MIB, directory)
    memory = find_memory(pid, OWN)
    if memory is None:
        raise Unavailable(f"process {pid} holds no memory of a guest")
    try:
        return pages.save_own(memory, directory)
    finally:
        os.close(memory)
