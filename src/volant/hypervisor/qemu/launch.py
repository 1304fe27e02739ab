"""Starting a VM process under its holder. Everything that either works with is opened here and inherited; when anything goes
wrong, nothing is left but the logs."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from volant.core.errors import HostError, Unavailable
from volant.hypervisor.cgroup import NO_GROUPS, ControlGroups, Group, find_devices
from volant.hypervisor.ending import ENDING, EXIT, MACHINE, PROCESS, QEMU_LOG, read_tail
from volant.hypervisor.jail import QEMU_DATA, Jail, find_places
from volant.hypervisor.lock import take_lock
from volant.hypervisor.machine import Files, Machine, Unit
from volant.hypervisor.process import ExitRecord, Process, ProcessRecord, open_process
from volant.hypervisor.qemu.command import BINARY, Descriptors, build_command
from volant.hypervisor.qemu.instance import KILLED_S, QemuInstance
from volant.hypervisor.qemu.kvm import DEVICE as KVM
from volant.hypervisor.qemu.memory import OWN, create_memory
from volant.hypervisor.qemu.monitor import Monitor
from volant.hypervisor.qemu.pages import read_into_memory
from volant.hypervisor.qemu.save import STATE, load_machine
from volant.hypervisor.record import read_record, write_record
from volant.hypervisor.socket import AGENT, CONSOLE, QMP, bind_socket, remove_sockets
from volant.run import spawn

START_TIMEOUT_S = 10.0
LOOK_PERIOD_S = 0.005
CONSOLE_LOG_MAX_BYTES = 4 << 20


class Saving(msgspec.Struct, frozen=True):
    """Where a machine is restored from; ``base`` is a descriptor of the sealed memory it stands on, -1 for none."""

    directory: Path
    base: int = -1


class Launcher(msgspec.Struct, frozen=True, kw_only=True):
    """What every launch on this host has in common. ``kvm_group`` may open /dev/kvm; None where everybody may."""

    holder: Path
    binary: str = BINARY
    kvm_group: int | None = None
    cgroups: ControlGroups = NO_GROUPS

    async def launch(self, unit: Unit, machine: Machine, files: Files, saved: Saving | None = None) -> QemuInstance:
        """As Driver.launch, and with ``saved`` as Driver.restore."""
        if saved is None:
            _check_readable(files.kernel, "kernel", machine)
            _check_readable(files.initramfs, "initramfs", machine)
        with ExitStack() as opened:

            def keep(descriptor: int) -> int:
                opened.callback(os.close, descriptor)
                return descriptor

            lock = keep(take_lock(unit.state))
            memory = keep(create_memory(OWN, machine.memory_mib)) if saved is None or saved.base < 0 else saved.base
            state = -1
            if saved is not None:
                state = keep(os.open(saved.directory / STATE, os.O_RDONLY | os.O_CLOEXEC))
                if saved.base < 0:
                    await asyncio.to_thread(read_into_memory, saved.directory, memory)
            clear_run(unit)
            write_record(unit.state / MACHINE, machine)
            log_size = _size_of(unit.state / QEMU_LOG)
            monitor = Monitor(unit.sockets)
            holder: Process | None = None
            process: Process | None = None
            group: Group | None = None
            try:
                group = await asyncio.to_thread(self.cgroups.make, machine, find_devices(files.disks.values()))
                cgroups = opened.enter_context(group.opened())
                holder = self._start(unit, machine, files, lock, memory, state, cgroups, opened)
                async with asyncio.timeout(START_TIMEOUT_S):
                    record = await _await_start(unit, monitor, holder)
                    process = open_process(record.pid, record.start_time)
                    if process is None:
                        raise _NotStarted("it ended as soon as it had started")
                    if saved is not None:
                        await _load(machine, process, holder, monitor, saved.directory, state)
                return QemuInstance(unit, machine, process, holder, monitor, find_started_at(unit.state), group)
            except BaseException as error:
                await monitor.close()
                if process is not None:
                    process.close()
                if holder is not None:
                    await _end(unit, holder)
                why = _explain_failure(error, unit.state, log_size)
                if group is not None:
                    why = group.explain_failure(why)
                    group.remove()
                clear_run(unit)
                (unit.state / MACHINE).unlink(missing_ok=True)
                if why is not None:
                    raise HostError(f"the VM process did not start: {why}") from error
                raise

    def _start(
        self,
        unit: Unit,
        machine: Machine,
        files: Files,
        lock: int,
        memory: int,
        state: int,
        cgroups: tuple[int, ...],
        opened: ExitStack,
    ) -> Process:
        def listen(name: str) -> int:
            return opened.enter_context(bind_socket(unit.sockets, name)).fileno()

        directory = os.open(unit.state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, directory)
        ours, theirs = (opened.enter_context(end) for end in socket.socketpair())
        readers = listen(CONSOLE)
        descriptors = Descriptors(
            kernel=files.kernel if state < 0 else -1,
            initramfs=files.initramfs if state < 0 else -1,
            memory=memory,
            disks=files.disks,
            taps=files.taps,
            qmp=listen(QMP),
            agent=listen(AGENT),
            console=theirs.fileno(),
        )
        command: list[str | Path] = [
            self.holder,
            "--dir-fd", str(directory),
            "--lock-fd", str(lock),
            "--console-fd", str(ours.fileno()),
            "--console-listen-fd", str(readers),
            "--log-max", str(CONSOLE_LOG_MAX_BYTES),
            *self._describe_jail(machine).build_words(cgroups),
        ]  # fmt: skip
        kept = [*descriptors.all, *([] if state < 0 else [state])]
        for descriptor in kept:
            command += ["--keep-fd", str(descriptor)]
        command += ["--", *build_command(machine, descriptors, self.binary)]
        started = spawn(command, pass_fds=[directory, lock, ours.fileno(), readers, *cgroups, *kept])
        holder = open_process(started.pid)
        assert holder is not None, "a child that nobody has reaped is there"
        # Reaped through its pidfd from here on, or by init when it outlives us; Popen is to do neither.
        started.returncode = 0
        return holder

    def _describe_jail(self, machine: Machine) -> Jail:
        has_kvm = machine.accelerator == "kvm"
        return Jail(
            user=machine.host_uid,
            binds=find_places(self.binary, QEMU_DATA),
            devices=(str(KVM),) if has_kvm else (),
            groups=(self.kvm_group,) if has_kvm and self.kvm_group is not None else (),
        )


class _NotStarted(HostError):
    pass


async def _load(machine: Machine, process: Process, holder: Process, monitor: Monitor, saved: Path, state: int) -> None:
    """As ``load_machine``; a process that ends over it is told by what it said."""
    try:
        await load_machine(machine, process, monitor, saved, state)
    except (Unavailable, TimeoutError) as error:
        if process.is_dead:
            await holder.wait_dead()
            raise _NotStarted("it could not read what was saved") from error
        raise


def clear_run(unit: Unit) -> None:
    """Remove what an earlier run left that could be taken for a new one's. The logs stay."""
    for name in (PROCESS, EXIT, ENDING):
        (unit.state / name).unlink(missing_ok=True)
    remove_sockets(unit.sockets)


def find_started_at(state: Path) -> float:
    """Seconds since the epoch: when the holder recorded the process, a moment after it had started it.

    Start times in /proc are relative to a boot whose date moves when the clock is set; this does not.
    """
    return (state / PROCESS).stat().st_mtime


async def _await_start(unit: Unit, monitor: Monitor, holder: Process) -> ProcessRecord:
    """Return once the monitor answers, or raise when the holder ends before."""
    found: list[ProcessRecord] = []

    async def greet() -> None:
        await monitor.connect()
        found.append(await wait_record(unit.state, lambda: not holder.is_dead))

    async with asyncio.TaskGroup() as group:
        greeting = group.create_task(_quietly(greet()))
        death = group.create_task(holder.wait_dead())
        await asyncio.wait({greeting, death}, return_when=asyncio.FIRST_COMPLETED)
        greeting.cancel()
        death.cancel()
    if not found:
        # The monitor hangs up a moment before the holder has written why.
        await holder.wait_dead()
        raise _NotStarted("it ended while it was starting")
    return found[0]


async def _quietly(greeting: Coroutine[Any, Any, None]) -> None:
    try:
        await greeting
    except Unavailable:
        return


async def wait_record(state: Path, is_expected: Callable[[], bool]) -> ProcessRecord:
    """``process.json`` of a launch that has begun. The caller sets the limit of time.

    Raises:
        Unavailable: it is not there and no longer expected.
    """
    while (record := read_record(state / PROCESS, ProcessRecord)) is None:
        if not is_expected():
            raise Unavailable("the launch did not come to its end")
        # Its writer is another process, which has microseconds of work left.
        await asyncio.sleep(LOOK_PERIOD_S)
    return record


async def _end(unit: Unit, holder: Process) -> None:
    record = read_record(unit.state / PROCESS, ProcessRecord)
    process = None if record is None else open_process(record.pid, record.start_time)
    try:
        if process is not None:
            process.kill()
        holder.kill()
        async with asyncio.timeout(KILLED_S):
            await holder.wait_dead()
            if process is not None:
                await process.wait_dead()
    except TimeoutError:
        # Said by what is raised for the launch; the lock shows that something is still there.
        return
    finally:
        holder.close()
        if process is not None:
            process.close()


def _explain_failure(error: BaseException, state: Path, log_size: int) -> str | None:
    """The words for a start that failed by itself; None for an error that speaks for itself."""
    if isinstance(error, TimeoutError):
        what = f"its monitor did not answer within {START_TIMEOUT_S:g} s"
    elif isinstance(error, _NotStarted):
        record = read_record(state / EXIT, ExitRecord)
        what = record.error if record is not None and record.error else error.message
    elif isinstance(error, OSError):
        what = error.strerror or str(error)
    else:
        return None
    said = read_tail(state / QEMU_LOG, log_size)
    return f"{what}; it said: {said}" if said else what


def _check_readable(descriptor: int, what: str, machine: Machine) -> None:
    # The VM process opens these two again, by way of /proc/self/fd, and its user owns nothing.
    if not os.fstat(descriptor).st_mode & stat.S_IROTH:
        raise HostError(
            f"the {what} of {machine.name} cannot be read by the VM's user",
            hint="its file needs mode 0444; its directory may be closed",
        )


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
