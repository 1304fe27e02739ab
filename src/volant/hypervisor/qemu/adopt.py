"""Finding again what runs, or ran, in a unit."""

from __future__ import annotations

import asyncio

from volant.core.errors import HostError, Unavailable
from volant.hypervisor.adoption import adopt_unit
from volant.hypervisor.cgroup import NO_GROUPS, ControlGroups
from volant.hypervisor.driver import Ending
from volant.hypervisor.ending import EXIT, PROCESS, explain_exit, read_ending
from volant.hypervisor.machine import Machine, Unit
from volant.hypervisor.process import ExitRecord, ProcessRecord, open_process, read_boot_id
from volant.hypervisor.qemu.instance import KILLED_S, QemuInstance
from volant.hypervisor.qemu.launch import find_started_at
from volant.hypervisor.qemu.monitor import Monitor
from volant.hypervisor.record import read_record


async def adopt(unit: Unit, cgroups: ControlGroups = NO_GROUPS) -> QemuInstance | Ending | None:
    """As Driver.adopt. Raises HostError: the lock is held and nothing that holds it shows itself."""
    return await adopt_unit(unit, cgroups, find=_find, keep=_keep, explain=_explain)


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
