"""Starting a VM process under its holder, and the machine in it. Files are inherited, taps are sent; when anything goes wrong,
nothing is left but the logs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import tty
from contextlib import ExitStack
from pathlib import Path

import msgspec

from volant.core.errors import HostError, Unavailable
from volant.hypervisor.cgroup import NO_GROUPS, ControlGroups, Group, find_devices
from volant.hypervisor.cloud_hypervisor.api import Api, Refused
from volant.hypervisor.cloud_hypervisor.config import build_config, build_network
from volant.hypervisor.cloud_hypervisor.events import Events
from volant.hypervisor.cloud_hypervisor.instance import LAST_WORDS_S, CloudHypervisorInstance
from volant.hypervisor.cloud_hypervisor.save import load_machine, open_saved
from volant.hypervisor.cloud_hypervisor.work import (
    API,
    HELD,
    WORK,
    Held,
    check_readable,
    clear_sockets,
    grant_disk,
    make_work,
    remove_work,
)
from volant.hypervisor.driver import NotRestorable
from volant.hypervisor.ending import ENDING, EXIT, MACHINE, PROCESS, QEMU_LOG, read_tail
from volant.hypervisor.jail import Jail, find_places
from volant.hypervisor.lock import take_lock
from volant.hypervisor.machine import Files, Machine, Unit
from volant.hypervisor.process import ExitRecord, Process, ProcessRecord, open_process
from volant.hypervisor.qemu.instance import KILLED_S
from volant.hypervisor.qemu.kvm import DEVICE
from volant.hypervisor.qemu.launch import CONSOLE_LOG_MAX_BYTES, find_started_at, wait_record
from volant.hypervisor.record import read_record, write_record
from volant.hypervisor.socket import CONSOLE, bind_socket
from volant.run import spawn

START_TIMEOUT_S = 10.0
BOOT_TIMEOUT_S = 60.0
"""A machine's memory is made ready before it runs; of a large one that takes a while."""


class Inherited(msgspec.Struct, frozen=True, kw_only=True):
    """What the VM process inherits, by number. ``disks`` by serial; ``state`` by name, of a machine that is restored."""

    work: int
    api: int
    """A listening socket."""
    events: int
    """The end that is read, which it only keeps."""
    events_in: int
    kernel: int = -1
    initramfs: int = -1
    disks: dict[str, int] = {}
    state: dict[str, int] = {}

    @property
    def all(self) -> tuple[int, ...]:
        boot = () if self.kernel < 0 else (self.kernel, self.initramfs)
        return (self.work, self.api, self.events, self.events_in, *boot, *self.disks.values(), *self.state.values())


class _Started(msgspec.Struct, frozen=True):
    """What is ours of a process that was started."""

    holder: Process
    inherited: Inherited
    events: Events
    """Another descriptor of the end that is read."""


class Launcher(msgspec.Struct, frozen=True, kw_only=True):
    """What every launch on this host has in common. ``kvm_group`` may open /dev/kvm; None where everybody may. ``places`` are
    further files of the host's that the program needs to see, where it is not what its makers publish."""

    holder: Path
    binary: str
    kvm_group: int | None = None
    devices: tuple[str, ...] = (str(DEVICE),)
    places: tuple[str, ...] = ()
    cgroups: ControlGroups = NO_GROUPS

    async def launch(self, unit: Unit, machine: Machine, files: Files, saved: Path | None = None) -> CloudHypervisorInstance:
        """As Driver.launch, and with ``saved`` as Driver.restore."""
        if saved is None:
            check_readable(files.kernel, "kernel", machine)
            check_readable(files.initramfs, "initramfs", machine)
        for disk in machine.disks:
            grant_disk(files.disks[disk.serial], disk, machine)
        with ExitStack() as opened:
            lock = take_lock(unit.state)
            opened.callback(os.close, lock)
            clear_run(unit)
            write_record(unit.state / MACHINE, machine)
            log_size = _size_of(unit.state / QEMU_LOG)
            api = Api(unit.sockets)
            started: _Started | None = None
            process: Process | None = None
            group: Group | None = None
            try:
                state = {} if saved is None else open_saved(saved, opened)
                group = await asyncio.to_thread(self.cgroups.make, machine, find_devices(files.disks.values()))
                cgroups = opened.enter_context(group.opened())
                started = self._start(unit, machine, files, lock, state, cgroups, opened)
                async with asyncio.timeout(START_TIMEOUT_S):
                    record = await _await_start(unit, api, started.holder)
                process = open_process(record.pid, record.start_time)
                if process is None:
                    raise _NotStarted("it ended as soon as it had started")
                await self._set_up(unit, machine, files, saved, api, started, process)
                held = Held(work=started.inherited.work, events=started.inherited.events, events_in=started.inherited.events_in)
                return CloudHypervisorInstance(
                    unit, machine, process, started.holder, api, held, started.events, find_started_at(unit.state), group
                )
            except BaseException as error:
                if process is not None:
                    process.close()
                if started is not None:
                    started.events.close()
                    await _end(unit, started.holder)
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
        state: dict[str, int],
        cgroups: tuple[int, ...],
        opened: ExitStack,
    ) -> _Started:
        def keep(descriptor: int) -> int:
            opened.callback(os.close, descriptor)
            return descriptor

        def listen(name: str) -> int:
            return opened.enter_context(bind_socket(unit.sockets, name)).fileno()

        directory = keep(os.open(unit.state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        work = keep(os.open(make_work(unit.state, machine), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC))
        console, stdin, stdout = (keep(descriptor) for descriptor in _open_terminal())
        events, events_in = (keep(descriptor) for descriptor in os.pipe())
        readers = listen(CONSOLE)
        inherited = Inherited(
            work=work,
            api=listen(API),
            events=events,
            events_in=events_in,
            kernel=files.kernel if not state else -1,
            initramfs=files.initramfs if not state else -1,
            disks={disk.serial: files.disks[disk.serial] for disk in machine.disks},
            state=state,
        )
        write_record(unit.state / HELD, Held(work=work, events=events, events_in=events_in))
        command: list[str | Path] = [
            self.holder,
            "--dir-fd", str(directory),
            "--lock-fd", str(lock),
            "--console-fd", str(console),
            "--console-listen-fd", str(readers),
            "--stdin-fd", str(stdin),
            "--stdout-fd", str(stdout),
            "--log-max", str(CONSOLE_LOG_MAX_BYTES),
            *self._describe_jail(machine).build_words(cgroups),
        ]  # fmt: skip
        for descriptor in inherited.all:
            command += ["--keep-fd", str(descriptor)]
        command += ["--", *build_command(self.binary, inherited)]
        child = spawn(command, pass_fds=[directory, lock, console, readers, stdin, stdout, *cgroups, *inherited.all])
        holder = open_process(child.pid)
        assert holder is not None, "a child that nobody has reaped is there"
        # Reaped through its pidfd from here on, or by init when it outlives us; Popen is to do neither.
        child.returncode = 0
        ours = os.open(f"/proc/self/fd/{events}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        return _Started(holder, inherited, Events(ours))

    def _describe_jail(self, machine: Machine) -> Jail:
        return Jail(
            user=machine.host_uid,
            binds=find_places(self.binary, extra=self.places),
            devices=self.devices,
            groups=() if self.kvm_group is None else (self.kvm_group,),
        )

    async def _set_up(
        self, unit: Unit, machine: Machine, files: Files, saved: Path | None, api: Api, started: _Started, process: Process
    ) -> None:
        """Make the machine in a process that answers, and have it run; with ``saved``, have it there and paused."""
        inherited = started.inherited
        try:
            if saved is not None:
                await load_machine(
                    machine,
                    api,
                    saved,
                    work=unit.state / WORK,
                    held_work=inherited.work,
                    disks=inherited.disks,
                    state=inherited.state,
                    taps=files.taps,
                )
                return
            config = build_config(
                machine, kernel=inherited.kernel, initramfs=inherited.initramfs, disks=inherited.disks, work=inherited.work
            )
            await api.put("vm.create", config)
            for network in machine.networks:
                # vm.create takes no descriptors, and forgets those that it is told of by number.
                await api.put("vm.add-net", build_network(network), descriptors=[files.taps[network.tap]])
            await api.put("vm.boot", timeout_s=BOOT_TIMEOUT_S)
        except NotRestorable:
            raise
        except Unavailable as error:
            if not isinstance(error.__cause__, TimeoutError) and await _is_ending(process, started.holder):
                raise _NotStarted("it ended while its machine was made") from error
            raise


class _NotStarted(HostError):
    pass


def build_command(binary: str, inherited: Inherited) -> list[str]:
    """The words to execute. Everything else is for the API to say; its own seccomp filters are on, as they are by default."""
    return [
        binary,
        "--api-socket", f"fd={inherited.api}",
        "--event-monitor", f"fd={inherited.events_in}",
        "--seccomp", "true",
    ]  # fmt: skip


def clear_run(unit: Unit) -> None:
    """Remove what an earlier run left that could be taken for a new one's. The logs stay."""
    for name in (PROCESS, EXIT, ENDING, HELD):
        (unit.state / name).unlink(missing_ok=True)
    remove_work(unit.state)
    clear_sockets(unit.sockets)


def _open_terminal() -> tuple[int, int, int]:
    """The holder's end, and two of the VM process's, which makes one of them non-blocking and must not find the other so."""
    console, stdin = pty.openpty()
    tty.setraw(stdin)
    stdout = os.open(os.ttyname(stdin), os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    return console, stdin, stdout


async def _await_start(unit: Unit, api: Api, holder: Process) -> ProcessRecord:
    """Return once the process answers, or raise when it ends before."""
    answered = asyncio.ensure_future(api.ping())
    death = asyncio.ensure_future(holder.wait_dead())
    try:
        await asyncio.wait({answered, death}, return_when=asyncio.FIRST_COMPLETED)
        if answered.done() and answered.exception() is None:
            return await wait_record(unit.state, lambda: not holder.is_dead)
    except Unavailable:
        pass
    finally:
        for task in (answered, death):
            task.cancel()
        await asyncio.gather(answered, death, return_exceptions=True)
    # The socket hangs up a moment before the holder has written why.
    await holder.wait_dead()
    raise _NotStarted("it ended while it was starting")


async def _is_ending(process: Process, holder: Process) -> bool:
    """Whether a process that hung up is at its end; then, once the holder has written how."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LAST_WORDS_S):
            await process.wait_dead()
            await holder.wait_dead()
    return process.is_dead


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
        what = f"it did not answer within {START_TIMEOUT_S:g} s"
    elif isinstance(error, _NotStarted):
        record = read_record(state / EXIT, ExitRecord)
        what = record.error if record is not None and record.error else error.message
    elif isinstance(error, Refused):
        # It says all that there is to say in its answer.
        return error.message
    elif isinstance(error, OSError):
        what = error.strerror or str(error)
    else:
        return None
    said = read_tail(state / QEMU_LOG, log_size)
    return f"{what}; it said: {said}" if said else what


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
