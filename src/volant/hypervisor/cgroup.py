"""One control group a VM: made before its process is, empty again when it ends, found by the VM's uid.

The VM process is born in it, or joins it by itself before anything else (native/holder/jail.c).
Both versions of the kernel's interface are spoken, and hosts with some controllers on each. Where a controller is not to be had
the VM starts without, and says so.
"""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog

from volant.core.errors import HostError, Unavailable, WrongState
from volant.core.ids import Uid
from volant.core.limits import Limits
from volant.hypervisor.cgroup_limits import MIB, Setting, is_default, memory_limit_mib, plan_settings
from volant.hypervisor.cgroup_usage import Groups, InForce, Usage, count_oom_kills, read_in_force, read_usage
from volant.hypervisor.driver import Ending
from volant.hypervisor.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

log = structlog.get_logger()

PROCS = "cgroup.procs"


class Hierarchy(msgspec.Struct, frozen=True):
    """``place`` is the directory that VMs' groups are made in; ``controllers`` are those that work there."""

    version: int
    place: Path
    controllers: tuple[str, ...]


class Group:
    """The control groups of one VM, one in each hierarchy."""

    def __init__(self, uid: Uid, hierarchies: Sequence[Hierarchy]) -> None:
        self.uid = uid
        self.hierarchies = tuple(hierarchies)

    @property
    def directories(self) -> tuple[Path, ...]:
        return tuple(hierarchy.place / self.uid for hierarchy in self.hierarchies)

    @property
    def by_controller(self) -> Groups:
        return {
            controller: (hierarchy.version, hierarchy.place / self.uid)
            for hierarchy in self.hierarchies
            for controller in hierarchy.controllers
        }

    @contextmanager
    def opened(self) -> Iterator[tuple[int, ...]]:
        """What the holder's child joins by, of each: of version 1 ``tasks``, to write 0 into; of version 2 the directory, to be
        born in. Raises HostError."""
        with ExitStack() as stack:
            descriptors: list[int] = []
            for hierarchy, directory in zip(self.hierarchies, self.directories, strict=True):
                try:
                    if hierarchy.version == 1:
                        descriptor = os.open(directory / "tasks", os.O_WRONLY | os.O_CLOEXEC)
                    else:
                        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                except OSError as error:
                    raise HostError(f"the control group {directory} cannot be used: {error.strerror}") from error
                stack.callback(os.close, descriptor)
                descriptors.append(descriptor)
            yield tuple(descriptors)

    def apply(self, machine: Machine, limits: Limits, devices: Sequence[str], *, fresh: bool = False) -> list[str]:
        """Put ``limits`` in force; return, as sentences, which of those that were asked for are not. ``fresh``: nobody is in it.

        Raises:
            WrongState: it has more memory than it would be allowed; nothing was changed.
        """
        memory_mib = memory_limit_mib(machine, limits)
        if not fresh:
            self._check_memory(memory_mib)
        groups = self.by_controller
        problems = _find_lacking(limits, groups, devices)
        for hierarchy in self.hierarchies:
            plan = plan_settings(hierarchy.version, limits, memory_mib, devices)
            for setting in plan if fresh or hierarchy.version == 2 else _order(plan, groups):
                if setting.controller not in hierarchy.controllers or (fresh and is_default(setting)):
                    continue
                try:
                    (hierarchy.place / self.uid / setting.file).write_text(setting.value)
                except OSError as error:
                    if not setting.optional:
                        problems.append(f"{setting.file} cannot be set to {setting.value!r}: {error.strerror}")
        return problems

    def read_usage(self) -> Usage:
        return read_usage(self.by_controller)

    def read_in_force(self) -> InForce:
        return read_in_force(self.by_controller)

    def explain(self, ending: Ending) -> Ending:
        """``ending``, told as what it was when the kernel killed the process for want of memory within its limit."""
        if ending.kind != "crashed" or ending.signal != signal.SIGKILL or not count_oom_kills(self.by_controller):
            return ending
        limit = self.read_in_force().memory_bytes
        most = "" if limit is None else f" of {limit // MIB} MiB"
        message = f"the VM process was killed for want of memory: it would have had more than its limit{most}"
        return msgspec.structs.replace(ending, message=message)

    def explain_failure(self, why: str | None) -> str | None:
        """``why`` a start failed, with what the kernel did about its memory."""
        if why is None or not count_oom_kills(self.by_controller):
            return why
        return f"it was killed for want of memory within its limit; {why}"

    def remove(self) -> bool:
        """Whether all of it is gone. Not while a process is in it; repeatable."""
        left = [directory for directory in self.directories if not _remove(directory)]
        return not left

    def _check_memory(self, memory_mib: int) -> None:
        used = self.read_usage().memory_bytes or 0
        if used > memory_mib * MIB:
            raise WrongState(
                f"its process has {used // MIB} MiB now, more than the {memory_mib} that it would be allowed",
                hint="give it more memory_overhead_mb, or restart it with the new limit",
            )


class ControlGroups:
    """The control groups of one volantd. ``problems`` says what cannot be limited on this host.

    Found by ``cgroup_place.find_control_groups``, which changes nothing; ``cgroup_place.prepare`` makes the place for VMs'
    groups.
    """

    def __init__(self, hierarchies: Sequence[Hierarchy], problems: Sequence[str] = ()) -> None:
        self.hierarchies = tuple(hierarchies)
        self.problems = tuple(problems)

    def make(self, machine: Machine, devices: Sequence[str]) -> Group:
        """The VM's groups, new and with its limits in force. What of them cannot be, the log says, and what is left of them is
        the group; nothing raises."""
        made: list[Hierarchy] = []
        problems: list[str] = []
        for hierarchy in self.hierarchies:
            directory = hierarchy.place / machine.uid
            try:
                # One that a run before left has counted already.
                _remove(directory)
                directory.mkdir(exist_ok=True)
                made.append(hierarchy)
            except OSError as error:
                problems.append(f"no control group for {', '.join(hierarchy.controllers)}: {directory}: {error.strerror}")
        group = Group(machine.uid, made)
        problems += group.apply(machine, machine.limits, devices, fresh=True)
        if problems and self.hierarchies:
            log.warning("not_limited", name=machine.name, reasons=problems)
        return group

    def find(self, uid: Uid) -> Group | None:
        """What there is of a VM's groups; None for nothing."""
        found = [hierarchy for hierarchy in self.hierarchies if (hierarchy.place / uid).is_dir()]
        return Group(uid, found) if found else None

    def sweep(self, keep: AbstractSet[Uid]) -> list[Uid]:
        """Remove groups that are nobody's and empty; return whose they were."""
        swept = []
        for uid in sorted(self._list_uids() - set(keep)):
            group = self.find(uid)
            if group is not None and group.remove():
                swept.append(uid)
        return swept

    def close(self) -> None:
        """Take away the place of VMs' groups where none is left."""
        for hierarchy in self.hierarchies:
            with suppress(OSError):
                hierarchy.place.rmdir()

    def _list_uids(self) -> set[Uid]:
        found: set[Uid] = set()
        for hierarchy in self.hierarchies:
            with suppress(OSError):
                found |= {Uid(entry.name) for entry in hierarchy.place.iterdir() if entry.is_dir()}
        return found


NO_GROUPS = ControlGroups((), ("nobody asked for control groups",))


async def apply_to_process(group: Group | None, machine: Machine, limits: Limits, pid: int) -> tuple[str, ...]:
    """Put ``limits`` in force for a VM that runs; return which are not, as sentences. Raises as ``Group.apply``, or Unavailable
    when the process is gone."""
    if group is None:
        return ("nothing of it is limited: it has no control group",)
    return tuple(await asyncio.to_thread(lambda: group.apply(machine, limits, find_devices_of(pid))))


def find_devices(descriptors: Iterable[int]) -> tuple[str, ...]:
    """The whole disks, as ``MAJOR:MINOR``, that open files lie on; of those that lie on none that the kernel can limit, none."""
    return _name_disks(Path(f"/proc/self/fd/{descriptor}") for descriptor in descriptors)


def find_devices_of(pid: int) -> tuple[str, ...]:
    """As ``find_devices``, of the files that a process holds. Raises Unavailable when it is gone."""
    try:
        entries = sorted(Path(f"/proc/{pid}/fd").iterdir())
    except (FileNotFoundError, ProcessLookupError) as error:
        raise Unavailable("the VM process is gone") from error
    return _name_disks(entries)


def _name_disks(links: Iterable[Path]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for link in links:
        try:
            number = _find_number(link)
            place = Path(f"/sys/dev/block/{number}")
            if number is None or not place.exists():
                continue
            if (place / "partition").exists():
                number = (place.resolve().parent / "dev").read_text().strip()
        except (OSError, StopIteration, IndexError):
            continue
        found[number] = None
    return tuple(found)


def _find_number(link: Path) -> str | None:
    """The device that the open file ``link``, in /proc/PID/fd, lies on, or is."""
    status = link.stat()
    if stat.S_ISBLK(status.st_mode):
        device = status.st_rdev
    elif not stat.S_ISREG(status.st_mode):
        return None
    elif os.major(status.st_dev) != 0:
        device = status.st_dev
    else:
        # A file system over several devices, or over none: of the first sort the mount says one.
        info = (link.parent.parent / "fdinfo" / link.name).read_text()
        mount = next(line.split()[1] for line in info.splitlines() if line.startswith("mnt_id:"))
        row = next(line for line in Path("/proc/self/mountinfo").read_text().splitlines() if line.split()[0] == mount)
        device = Path(row.partition(" - ")[2].split()[1]).stat().st_rdev
    return f"{os.major(device)}:{os.minor(device)}" if device else None


def _find_lacking(limits: Limits, groups: Groups, devices: Sequence[str]) -> list[str]:
    """What was asked for and no controller here can do."""
    has_io = any((
        limits.io_read_bytes_per_s, limits.io_write_bytes_per_s, limits.io_read_ops_per_s, limits.io_write_ops_per_s,
    ))  # fmt: skip
    lacking = []
    if (limits.cpu_percent or limits.cpu_weight) and "cpu" not in groups:
        lacking.append("its processor time is not limited: this host gives volantd no cpu controller")
    if "memory" not in groups:
        lacking.append("its memory is not limited: this host gives volantd no memory controller")
    if limits.pids and "pids" not in groups:
        lacking.append("its threads are not limited: this host gives volantd no pids controller")
    if has_io and not {"io", "blkio"} & set(groups):
        lacking.append("its disks are not limited: this host gives volantd no io controller")
    elif has_io and not devices:
        lacking.append("its disks are not limited: they lie on no block device")
    return lacking


def _order(plan: list[Setting], groups: Groups) -> list[Setting]:
    """Of version 1's two limits of memory the second may never be the lower one: which goes first depends on the direction."""
    names = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
    first = next((setting for setting in plan if setting.file == names[0]), None)
    now = read_in_force(groups).memory_bytes if first is not None else None
    if first is None or now is None or int(first.value) <= now:
        return plan
    second = next(setting for setting in plan if setting.file == names[1])
    return [second, *(setting for setting in plan if setting is not second)]


def _remove(directory: Path) -> bool:
    try:
        directory.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
