"""How a VM process is kept in, asked of the kernel and of nobody else (proc(5), namespaces(7), capabilities(7))."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec

from volant.core.errors import Unavailable
from volant.core.security import Finding, ProcessSecurity
from volant.hypervisor.cgroup import Group
from volant.hypervisor.machine import FIRST_HOST_UID

CAP_KILL = 1 << 5
NAMESPACES = {
    "mnt": "file tree",
    "pid": "processes",
    "net": "network",
    "ipc": "IPC",
    "uts": "host name",
    "cgroup": "control groups",
}
SEEN = ("/usr/", "/lib", "/dev/", "/proc", "/etc/ld.so", "/opt/", "/nix/", "/work")
"""What a VM process may see of the host's files, or of its own."""

_CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
_MIB = 1 << 20
_FILES_SHOWN = 16


def inspect_process(
    pid: int, holder_pid: int, group: Group | None, *, accelerator: str = "", own: Path | None = None
) -> ProcessSecurity:
    """``own`` is the directory with the files that it may write to. Raises Unavailable when the process is gone."""
    try:
        process = (
            *_look_at_machine(accelerator),
            *_look_at_rights(pid),
            *_look_at_namespaces(pid),
            *_look_at_files(pid, own),
            *_look_at_limits(pid),
        )
    except (FileNotFoundError, ProcessLookupError) as error:
        raise Unavailable("the VM process is gone") from error
    try:
        holder = tuple(_look_at_holder(holder_pid))
    except (FileNotFoundError, ProcessLookupError):
        holder = (Finding(name="holder", value="gone", verdict="weak", why="the kernel kills the VM process with it"),)
    return ProcessSecurity(
        pid=pid,
        holder_pid=holder_pid,
        process=process,
        holder=holder,
        limits=tuple(_look_at_group(pid, group)),
        usage={} if group is None else _flatten(group),
    )


def _look_at_machine(accelerator: str) -> Iterable[Finding]:
    if accelerator:
        words = "KVM" if accelerator == "kvm" else f"emulated ({accelerator})"
        yield _judge("virtual machine", words, accelerator == "kvm", "emulation is no isolation boundary; this jail is")


def _look_at_rights(pid: int) -> Iterable[Finding]:
    status = read_status(pid)
    for name, field in (("user", "Uid"), ("group", "Gid")):
        numbers = set(status[field].split())
        is_own = len(numbers) == 1 and int(next(iter(numbers))) >= FIRST_HOST_UID
        yield _judge(name, ", ".join(sorted(numbers)), is_own, "it is not a user of the VM's own")
    groups = status["Groups"]
    yield _judge("other groups", groups or "none", len(groups.split()) <= 1, "it belongs to groups that a VM has no use for")
    held = {name: int(status[name], 16) for name in _CAPABILITY_SETS}
    words = "none" if not any(held.values()) else ", ".join(f"{name} {value:x}" for name, value in held.items() if value)
    yield _judge("capabilities", words, not any(held.values()), "it has rights of root's")
    yield _judge("no new privileges", status["NoNewPrivs"], status["NoNewPrivs"] == "1", "a set-uid program could give it rights")
    filters = status.get("Seccomp_filters", "")
    words = f"mode {status['Seccomp']}" + (f", {filters} filters" if filters else "")
    is_filtered = status["Seccomp"] == "2" and filters not in ("0", "1")
    yield _judge("system calls", words, is_filtered, "the holder's filter and the hypervisor's own are not both there")


def _look_at_namespaces(pid: int) -> Iterable[Finding]:
    for name, what in NAMESPACES.items():
        link = str(Path(f"/proc/{pid}/ns/{name}").readlink())
        yield _judge(
            f"{name} namespace", link, link != str(Path(f"/proc/self/ns/{name}").readlink()), f"it shares the host's {what}"
        )
    number = read_status(pid)["NSpid"].split()
    yield _judge("pid inside", number[-1], number[-1] == "1", "it is not alone among the processes that it sees")


def _look_at_files(pid: int, own: Path | None) -> Iterable[Finding]:
    rows = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    strange = [row[4] for row in rows if row[4] != "/" and not row[4].startswith(SEEN)]
    words = f"{len(rows)} mounts: " + " ".join(row[4] for row in rows[:_FILES_SHOWN])
    yield _judge("file tree", words, not strange, f"it sees {', '.join(strange[:4])} of the host")
    writable = [row[4] for row in rows if "ro" not in row[5].split(",") and not row[4].startswith(("/dev/", "/work"))]
    yield _judge("writable mounts", ", ".join(writable) or "none", not writable, "it could change files of the host")
    kinds: Counter[str] = Counter()
    files: list[str] = []
    written: list[str] = []
    for entry in sorted(Path(f"/proc/{pid}/fd").iterdir(), key=lambda entry: int(entry.name)):
        try:
            target = str(entry.readlink())
        except FileNotFoundError:
            continue
        kinds[_kind_of(target)] += 1
        if target.startswith("/") and not target.startswith(("/dev/null", "/memfd:")):
            files.append(target)
            if _is_writable(pid, entry.name) and _kind_of(target) == "file":
                written.append(target)
    words = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    yield Finding(name="descriptors", value=words, why="all of them opened by volantd and handed over")
    yield Finding(name="files", value=", ".join(list(dict.fromkeys(files))[:_FILES_SHOWN]) or "none")
    foreign = [file for file in dict.fromkeys(written) if own is not None and own not in Path(file).parents]
    words = ", ".join(dict.fromkeys(written)) or "none"
    yield _judge("writable files", words, not foreign, f"{', '.join(foreign)} is not only its own")


def _look_at_limits(pid: int) -> Iterable[Finding]:
    limits = {line[:26].strip(): line[26:].split() for line in Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]}
    core = limits["Max core file size"][1]
    yield _judge("core dumps", core, core == "0", "a crash would write what it has in memory to the disk")
    for name, row in (("open files", "Max open files"), ("locked memory", "Max locked memory"), ("threads", "Max processes")):
        yield _judge(f"limit of {name}", limits[row][1], limits[row][1] != "unlimited", "nothing limits it")
    adjust = int(Path(f"/proc/{pid}/oom_score_adj").read_text())
    yield _judge("oom_score_adj", str(adjust), adjust > 0, "when memory is short it is spared at the host's cost")


def _look_at_holder(pid: int) -> Iterable[Finding]:
    status = read_status(pid)
    held = int(status["CapEff"], 16) | int(status["CapPrm"], 16)
    words = "CAP_KILL" if held == CAP_KILL else f"{held:x}"
    yield _judge("capabilities", words, held == CAP_KILL, "it needs the right to end its child, and no other")
    yield _judge("no new privileges", status["NoNewPrivs"], status["NoNewPrivs"] == "1", "a set-uid program could give it rights")
    yield _judge("system calls", f"mode {status['Seccomp']}", status["Seccomp"] == "2", "no filter limits them")


def _look_at_group(pid: int, group: Group | None) -> Iterable[Finding]:
    if group is None or not group.hierarchies:
        yield Finding(name="control groups", value="none", verdict="weak", why="nothing limits what it takes of the host")
        return
    rows = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    inside = {name: path for _, names, path in rows for name in names.split(",")}
    for hierarchy in group.hierarchies:
        key = hierarchy.controllers[0] if hierarchy.version == 1 else ""
        is_in = inside.get(key, "").endswith(f"/{group.uid}")
        words = f"{hierarchy.place / group.uid} (v{hierarchy.version})"
        yield _judge(f"group of {'+'.join(hierarchy.controllers)}", words, is_in, "it is not in its group")
    force = group.read_in_force()
    memory = "none" if force.memory_bytes is None else f"{force.memory_bytes // _MIB} MiB"
    yield _judge("memory", memory, force.memory_bytes is not None, "it can take all of the host's memory")
    if force.swap_bytes is not None:
        yield Finding(name="swap", value=f"{force.swap_bytes // _MIB} MiB")
    yield Finding(name="processor", value="no limit" if force.cpu_percent is None else f"{force.cpu_percent} % of a core")
    if force.cpu_weight is not None:
        yield Finding(name="processor weight", value=str(force.cpu_weight))
    yield Finding(name="threads", value="no limit" if force.tasks is None else str(force.tasks))
    yield Finding(name="disks", value="; ".join(force.io) or "no limit")


def read_status(pid: int) -> dict[str, str]:
    """The fields of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _is_writable(pid: int, number: str) -> bool:
    try:
        lines = Path(f"/proc/{pid}/fdinfo/{number}").read_text().splitlines()
    except FileNotFoundError:
        return False
    flags = next((int(line.split()[1], 8) for line in lines if line.startswith("flags:")), 0)
    return flags & os.O_ACCMODE != os.O_RDONLY


def _kind_of(target: str) -> str:
    if target.startswith("/memfd:"):
        return "memory"
    if target.startswith("/dev/"):
        return "device"
    if target.startswith("/"):
        return "file"
    kind = target.partition(":")[0]
    return target.partition(":")[2].strip("[]") if kind == "anon_inode" else kind


def _judge(name: str, value: str, is_good: bool, why: str) -> Finding:
    return Finding(name=name, value=value, verdict="ok" if is_good else "weak", why="" if is_good else why)


def _flatten(group: Group) -> dict[str, int | float]:
    return {name: value for name, value in msgspec.to_builtins(group.read_usage()).items() if value is not None}
