"""Finding again what runs, or ran, in a unit."""

from __future__ import annotations

import asyncio

from volant.core.errors import HostError, Unavailable
from volant.hypervisor.cgroup import NO_GROUPS, ControlGroups
from volant.hypervisor.driver import Ending
from volant.hypervisor.ending import EXIT, MACHINE, PROCESS, explain_exit, read_ending, write_ending
from volant.hypervisor.lock import is_locked
from volant.hypervisor.machine import Machine, Unit
from volant.hypervisor.process import ExitRecord, ProcessRecord, open_process, read_boot_id
from volant.hypervisor.qemu.instance import KILLED_S, QemuInstance
from volant.hypervisor.qemu.launch import LOOK_PERIOD_S, START_TIMEOUT_S, find_started_at
from volant.hypervisor.qemu.monitor import Monitor
from volant.hypervisor.record import read_record


async def adopt(unit: Unit, cgroups: ControlGroups = NO_GROUPS) -> QemuInstance | Ending | None:
    """As Driver.adopt.

    Raises:
        HostError: the lock is held and nothing that holds it shows itself.
    """
    machine = read_record(unit.state / MACHINE, Machine)
    if machine is None:
        return None
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            # While the lock is held there is a holder, and it is running a VM, beginning to, or writing its last words.
            while is_locked(unit.state):
                instance = _find(unit, machine, cgroups)
                if instance is not None:
                    return await _keep(unit, instance)
                await asyncio.sleep(LOOK_PERIOD_S)
    except TimeoutError as error:
        raise HostError(
            f"the lock of {machine.name} is held, and no VM process shows itself",
            hint=f"find out who holds it with: fuser -v {unit.state}/lock",
        ) from error
    ending = await _explain(unit, machine)
    group = cgroups.find(unit.uid)
    if group is not None:
        if ending is not None and (told := group.explain(ending)) is not ending:
            # The group that shows it goes now.
            write_ending(unit.state, machine.run_id, told)
            ending = told
        await asyncio.to_thread(group.remove)
    return ending


async def _keep(unit: Unit, instance: QemuInstance) -> QemuInstance | Ending:
    """``instance``, unless it still waits for the state that an earlier volantd was about to give it."""
    monitor = Monitor(unit.sockets)
    try:
        is_loading = await monitor.query_status() == "inmigrate"
    except (Unavailable, HostError):
        # Whether it answers is for its watcher to find out; a busy one is no reason to end it.
        is_loading = False
    finally:
        await monitor.close()
    if not is_loading:
        return instance
    await instance.destroy()
    await instance.close()
    return Ending(kind="lost", message="volantd ended while it was being restored")


def _find(unit: Unit, machine: Machine, cgroups: ControlGroups) -> QemuInstance | None:
    record = read_record(unit.state / PROCESS, ProcessRecord)
    if record is None or record.boot_id != read_boot_id():
        return None
    process = open_process(record.pid, record.start_time)
    if process is None:
        return None
    holder = open_process(record.holder_pid, record.holder_start_time)
    if holder is None or process.is_dead:
        process.close()
        if holder is not None:
            holder.close()
        return None
    return QemuInstance(
        unit, machine, process, holder, Monitor(unit.sockets), find_started_at(unit.state), cgroups.find(unit.uid)
    )


async def _explain(unit: Unit, machine: Machine) -> Ending | None:
    """What came of a run whose lock is free."""
    known = read_ending(unit.state, machine.run_id)
    if known is not None:
        return known
    exit_record = read_record(unit.state / EXIT, ExitRecord)
    if exit_record is not None:
        return explain_exit(unit.state, exit_record)
    record = read_record(unit.state / PROCESS, ProcessRecord)
    if record is None:
        # The volantd that wrote machine.json ended before it had started anything.
        return None
    if record.boot_id != read_boot_id():
        return Ending(kind="lost", message="the host was rebooted")
    await _clear_orphan(record)
    return Ending(kind="lost", message=f"the VM process (pid {record.pid}) and its holder are gone and left no account")


async def _clear_orphan(record: ProcessRecord) -> None:
    """The kernel kills a VM process with its holder; it may need a moment more than the lock."""
    process = open_process(record.pid, record.start_time)
    if process is None:
        return
    try:
        process.kill()
        async with asyncio.timeout(KILLED_S):
            await process.wait_dead()
    except TimeoutError as error:
        raise HostError(f"process {record.pid}, left by a holder that is gone, cannot be ended") from error
    finally:
        process.close()
