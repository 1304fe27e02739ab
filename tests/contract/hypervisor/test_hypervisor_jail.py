"""What keeps a VM process in, asked of the kernel: of a real QEMU, and by a program in its place that tries to get out."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from volant.core.errors import HostError, WrongState
from volant.core.ids import Digest, RunId, new_run_id, new_uid
from volant.core.limits import Limits
from volant.hypervisor.cgroup import ControlGroups, Group, Hierarchy, find_devices, find_devices_of
from volant.hypervisor.cgroup_limits import memory_limit_mib
from volant.hypervisor.cgroup_place import find_control_groups, find_mounted, prepare
from volant.hypervisor.driver import Ending, Instance
from volant.hypervisor.jail import Jail
from volant.hypervisor.machine import BlockDevice, Machine
from volant.hypervisor.qemu import open_qemu
from volant.hypervisor.qemu.driver import QemuDriver
from volant.hypervisor.security import read_status
from volant.native import find_native

from .hypervisor_hosts import PATIENCE_S, QemuSide, open_for_launch, reach_guest

pytestmark = pytest.mark.vm

USER = 754_322
MIB = 1 << 20
LOOK_S = 0.02


@pytest.fixture
def cgroups() -> Iterator[ControlGroups]:
    setting = f"/volant-test-{os.getpid()}"
    groups = find_control_groups(setting, "vms")
    prepare(groups, setting, "vms")
    if os.geteuid() != 0 or not groups.hierarchies:
        pytest.skip(f"no control groups here: {'; '.join(groups.problems)}")
    yield groups
    assert groups.sweep(set()) == [], "a group was left, and empty"
    groups.close()
    for hierarchy in groups.hierarchies:
        assert not hierarchy.place.exists(), "a process was left in a group"
        hierarchy.place.parent.rmdir()


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if os.geteuid() != 0 or shutil.which("musl-gcc") is None:
        pytest.skip("needs root and musl-gcc")
    program = tmp_path_factory.mktemp("probe") / "probe"
    source = Path(__file__).parent / "guest" / "probe.c"
    subprocess.run(["musl-gcc", "-static", "-Os", "-Wall", "-Wextra", "-Werror", "-o", program, source], check=True, timeout=60)
    return program


class Held:
    """A holder with ``command`` in the place of a VM process, jailed exactly as one."""

    def __init__(self, folder: Path, command: Sequence[str | Path], jail: Jail, group: Group | None = None) -> None:
        self.folder = folder
        ours, theirs = socket.socketpair()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder / "console.sock"))
        listener.listen(1)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        with (group or Group(new_uid(), ())).opened() as joined:
            words = [
                find_native("holder"), "--dir-fd", directory, "--lock-fd", lock, "--console-fd", theirs.fileno(),
                "--console-listen-fd", listener.fileno(), *jail.build_words(joined), "--", *command,
            ]  # fmt: skip
            given = (directory, lock, theirs.fileno(), listener.fileno(), *joined)
            self.process = subprocess.Popen([str(word) for word in words], pass_fds=given, stdin=subprocess.DEVNULL)
        for descriptor in (lock, directory):
            os.close(descriptor)
        for end in (ours, theirs, listener):
            end.close()

    def finish(self) -> dict[str, int | str]:
        """The holder's record of how it ended."""
        assert self.process.wait(PATIENCE_S) == 0
        document: dict[str, int | str] = json.loads((self.folder / "exit.json").read_text())
        return document

    @property
    def said(self) -> dict[str, str]:
        lines = (self.folder / "qemu.log").read_text().splitlines()
        return {name: value for name, _, value in (line.partition("=") for line in lines)}


def make_machine(**changes: object) -> Machine:
    machine = Machine(
        uid=new_uid(), run_id=RunId(new_run_id()), name="probe", slot=0, hypervisor="none", accelerator="kvm", cpu_cores=1,
        memory_mib=32, kernel=Digest("sha256:" + "1" * 64), initramfs=Digest("sha256:" + "2" * 64), kernel_cmdline="",
    )  # fmt: skip
    return msgspec.structs.replace(machine, **changes)


def test_nothing_of_the_host_is_seen_and_nothing_more_can_be_had(tmp_path: Path, probe: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("everybody may read it")
    secret.chmod(0o444)
    seen = [
        secret,
        "/etc/passwd",
        "/root",
        "/home",
        "/var",
        "/run",
        "/sys",
        "/usr",
        "/proc/kallsyms",
        "/proc/meminfo",
        "/proc/sys",
    ]
    held = Held(tmp_path, [probe, "look", *seen], Jail(user=USER))
    assert held.finish()["code"] == 0
    said = held.said
    gone = {"/etc/passwd", "/root", "/home", "/var", "/run", "/sys", "/usr", "/proc/kallsyms", "/proc/meminfo", "/proc/sys"}
    assert {said[f"open {path}"] for path in (*gone, secret)} == {"No such file or directory"}
    top = Path(*probe.parts[:2]).name
    assert sorted(said["list /"].split()) == sorted({"dev", "proc", top})
    assert sorted(said["list /proc"].split()) == ["1", "self", "thread-self"]
    assert sorted(said["list /dev"].split()) == ["null", "urandom", "zero"]
    assert {said["write /"], said["write /dev"]} == {"Read-only file system"}
    assert (said["pid"], said["signal holder"]) == ("1", "No such process")
    assert (said["socket unix"], said["personality query"], said["clone3"]) == ("done", "done", "Function not implemented")
    refused = {name for name, value in said.items() if value == "Operation not permitted"}
    assert refused == {
        "socket inet", "socket netlink", "socket packet", "socket vsock", "unshare user", "clone namespaces", "setns", "bpf",
        "perf", "keyctl", "io_uring", "userfaultfd", "chroot", "mknod", "personality", "setuid", "setgid",
    }  # fmt: skip


@pytest.mark.parametrize(
    "how", ["mount", "ptrace", "process_vm_readv", "init_module", "kexec_load", "open_by_handle_at", "x32", "i386"]
)
def test_what_is_never_innocent_is_the_end(tmp_path: Path, probe: Path, how: str) -> None:
    if how in ("x32", "i386") and os.uname().machine != "x86_64":
        pytest.skip("an architecture of its own")
    assert Held(tmp_path, [probe, "die", how], Jail(user=USER)).finish()["signal"] == signal.SIGSYS


@pytest.mark.parametrize("how", ["segv", "abort"])
def test_a_crash_of_the_first_process_of_a_namespace_is_one(tmp_path: Path, probe: Path, how: str) -> None:
    assert Held(tmp_path, [probe, "die", how], Jail(user=USER)).finish()["signal"] == signal.SIGSEGV


def test_the_work_directory_is_all_that_can_be_written_to(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir(mode=0o700)
    os.chown(work, USER, USER)
    (tmp_path / "held").mkdir()
    places = tuple(place for place in ("/usr", "/bin", "/lib", "/lib64") if os.path.lexists(place))
    script = "echo kept > /work/file; echo x > /usr/file; cp /bin/true /work/run; /work/run || echo not executed"
    held = Held(tmp_path / "held", ["/bin/sh", "-c", script], Jail(user=USER, binds=places, work=str(work)))
    held.finish()
    assert (work / "file").read_text() == "kept\n"
    log = (held.folder / "qemu.log").read_text()
    assert "cannot create /usr/file: Read-only file system" in log
    assert "not executed" in log
    assert (work / "file").stat().st_uid == USER


def test_too_much_memory_is_the_end_and_is_told(tmp_path: Path, probe: Path, cgroups: ControlGroups) -> None:
    if "memory" not in {controller for one in cgroups.hierarchies for controller in one.controllers}:
        pytest.skip("no memory controller here")
    machine = make_machine(limits=Limits(memory_overhead_mb=32))
    group = cgroups.make(machine, ())
    ended = Held(tmp_path, [probe, "eat", "256"], Jail(user=USER), group).finish()
    assert ended["signal"] == signal.SIGKILL
    crash = Ending(kind="crashed", message="?", signal=signal.SIGKILL)
    assert group.explain(crash).message.endswith("it would have had more than its limit of 64 MiB")
    assert group.explain(msgspec.structs.replace(crash, kind="killed")).message == "?"
    assert group.read_usage().oom_kills == 1
    # The same group made again for the next run has seen nothing.
    again = cgroups.make(machine, ())
    assert again.explain(crash).message == "?"
    assert again.remove()


def test_in_version_2_it_is_born_in_its_group(tmp_path: Path, probe: Path) -> None:
    mounted = [mount for mount in find_mounted(Path("/proc/self")) if mount.version == 2]
    if not mounted or os.geteuid() != 0:
        pytest.skip("no control groups of version 2 here")
    place = mounted[0].at / f"volant-test-born-{os.getpid()}"
    group = Group(new_uid(), (Hierarchy(2, place, ("hugetlb",)),))
    (place / group.uid).mkdir(parents=True)
    held = Held(tmp_path, [probe, "spin"], Jail(user=USER), group)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not (pids := (place / group.uid / "cgroup.procs").read_text().split()):
            assert time.monotonic() < deadline and held.process.poll() is None
        assert len(pids) == 1 and read_status(int(pids[0]))["PPid"] == str(held.process.pid)
        held.process.kill()
        held.process.wait(PATIENCE_S)
        while not group.remove():
            assert time.monotonic() < deadline
    finally:
        place.rmdir()


def test_too_many_processes_are_refused(tmp_path: Path, probe: Path, cgroups: ControlGroups) -> None:
    if "pids" not in {controller for one in cgroups.hierarchies for controller in one.controllers}:
        pytest.skip("no pids controller here")
    group = cgroups.make(make_machine(limits=Limits(pids=5)), ())
    held = Held(tmp_path, [probe, "multiply", "100"], Jail(user=USER), group)
    held.finish()
    assert held.said["made"] == "4"
    assert group.remove()


# A real QEMU


@pytest.fixture
async def limited(qemu: QemuSide, cgroups: ControlGroups) -> QemuDriver:
    return await open_qemu(cache_dir=qemu.place / "cache", open_artifact=qemu.open_artifact, accelerator="tcg", cgroups=cgroups)


@pytest.fixture
async def instance(qemu: QemuSide, limited: QemuDriver) -> AsyncIterator[Instance]:
    unit = qemu.make_unit()
    limits = Limits(cpu_percent=20, cpu_weight=50, pids=40)
    started = await qemu.launch(limited, unit, qemu.make_machine(unit, limits=limits))
    yield started
    await started.destroy()
    await started.close()


def list_names(pid: int, place: str) -> list[str]:
    return sorted(entry.name for entry in Path(f"/proc/{pid}/root{place}").iterdir())


def list_descriptors(pid: int) -> set[str]:
    return {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}


def test_a_real_one_is_kept_in(instance: Instance) -> None:
    status = read_status(instance.pid)
    assert (status["Seccomp"], status["Seccomp_filters"], status["NSpid"].split()[-1]) == ("2", "2", "1")
    assert (status["Groups"], status["NoNewPrivs"]) == ("", "1")
    for name in ("mnt", "pid", "net", "ipc", "uts", "cgroup"):
        assert Path(f"/proc/{instance.pid}/ns/{name}").readlink() != Path(f"/proc/self/ns/{name}").readlink(), name
    links = {name for name in ("lib", "lib32", "lib64") if os.path.lexists(f"/{name}")}
    assert list_names(instance.pid, "/") == sorted({"dev", "etc", "proc", "usr"} | links)
    assert list_names(instance.pid, "/usr/bin") == ["qemu-system-x86_64"]
    assert list_names(instance.pid, "/etc") == ["ld.so.cache"]
    assert int(Path(f"/proc/{instance.pid}/oom_score_adj").read_text()) == 300
    holder = read_status(int(status["PPid"]))
    assert int(holder["CapEff"], 16) == int(holder["CapPrm"], 16) == 1 << 5
    assert (holder["Seccomp"], holder["NoNewPrivs"]) == ("2", "1")


async def test_what_is_said_of_a_real_one_is_that_all_is_well_but_emulation(instance: Instance) -> None:
    found = await instance.inspect()
    assert [finding.name for finding in found.weaknesses] == ["virtual machine"], found.weaknesses
    assert {finding.name for finding in found.limits} >= {"memory", "processor", "threads", "disks"}
    assert found.usage["memory_bytes"] > 0


async def test_its_limits_are_in_force_and_change_while_it_runs(instance: Instance, cgroups: ControlGroups) -> None:
    group = cgroups.find(instance.machine.uid)
    assert group is not None
    procs = {(directory / "cgroup.procs").read_text() for directory in group.directories}
    assert procs == {f"{instance.pid}\n"}, "it, and only it"
    force = group.read_in_force()
    assert (force.cpu_percent, force.cpu_weight, force.tasks) == (20, 50, 40)
    assert force.memory_bytes == memory_limit_mib(instance.machine, instance.machine.limits) * MIB
    # It translates its guest's kernel, which takes more than a fifth of a core.
    await until_throttled(instance)
    assert await instance.apply_limits(Limits(cpu_percent=300, memory_overhead_mb=900, pids=50)) == ()
    force = group.read_in_force()
    assert (force.cpu_percent, force.cpu_weight, force.tasks) == (300, 100, 50)
    assert force.memory_bytes == (instance.machine.memory_mib + 900) * MIB
    assert await instance.apply_limits(Limits()) == ()
    assert group.read_in_force().cpu_percent is None
    tight = msgspec.structs.replace(instance.machine, memory_mib=8)
    with pytest.raises(WrongState, match="more than the 9 that it would be allowed"):
        group.apply(tight, Limits(memory_overhead_mb=1), ())
    assert group.read_in_force().tasks is None


async def test_what_it_reads_and_writes_is_limited_where_its_disk_is_one(
    qemu: QemuSide, limited: QemuDriver, cgroups: ControlGroups
) -> None:
    unit = qemu.make_unit()
    disk = BlockDevice(serial="disk1", bus=1, readonly=False)
    with open_for_launch(qemu, qemu.make_machine(unit, disks=(disk,))) as files:
        devices = find_devices(files.disks.values())
    has_io = {"io", "blkio"} & {controller for one in cgroups.hierarchies for controller in one.controllers}
    if not devices or not has_io:
        pytest.skip("the test's files lie on no disk, or no controller limits disks here")
    limits = Limits(io_read_bytes_per_s=1_000_000, io_write_ops_per_s=7)
    instance = await qemu.launch(limited, unit, qemu.make_machine(unit, disks=(disk,), limits=limits))
    group = cgroups.find(unit.uid)
    assert group is not None
    words = " ".join(group.read_in_force().io)
    assert devices[0] in words and "1000000" in words and "7" in words.replace(devices[0], "")
    # Found again by what the process holds.
    assert find_devices_of(instance.pid) == devices
    assert await instance.apply_limits(Limits()) == ()
    assert "1000000" not in " ".join(group.read_in_force().io)
    await instance.destroy()
    await instance.close()


async def until_throttled(instance: Instance) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not (await instance.read_usage()).throttled:  # noqa: ASYNC110  # the kernel counts, and tells nobody
            await asyncio.sleep(LOOK_S)


def join(group: Group) -> None:
    for directory in group.directories:
        (directory / "cgroup.procs").write_text("0")


async def test_one_that_the_kernel_kills_for_memory_says_so(
    qemu: QemuSide, limited: QemuDriver, probe: Path, cgroups: ControlGroups
) -> None:
    unit = qemu.make_unit()
    instance = await qemu.launch(limited, unit)
    _, writer = await reach_guest(instance)
    writer.close()
    group = cgroups.find(unit.uid)
    assert group is not None
    used_mib = ((await instance.read_usage()).memory_bytes or 0) // MIB
    await instance.apply_limits(Limits(memory_overhead_mb=max(1, used_mib + 24 - instance.machine.memory_mib)))
    ending = asyncio.ensure_future(instance.wait_ended())
    # Something else eats what room there is; the kernel takes what has most, which is the VM process.
    eater = await asyncio.create_subprocess_exec(probe, "eat", "4000", preexec_fn=lambda: join(group))
    async with asyncio.timeout(PATIENCE_S):
        ended = await ending
        await eater.wait()
    assert (ended.kind, ended.signal) == ("crashed", signal.SIGKILL)
    assert "for want of memory" in ended.message
    await instance.destroy()
    await instance.close()
    assert cgroups.find(unit.uid) is None


async def test_one_that_cannot_start_in_so_little_memory_says_so(
    qemu: QemuSide, limited: QemuDriver, cgroups: ControlGroups
) -> None:
    unit = qemu.make_unit()
    machine = await limited.resolve(qemu.make_machine(unit, memory_mib=32, limits=Limits(memory_overhead_mb=1)))
    machine = msgspec.structs.replace(machine, memory_mib=4)
    with open_for_launch(qemu, machine) as files, pytest.raises(HostError, match="for want of memory within its limit"):
        await limited.launch(unit, machine, files)
    assert cgroups.find(unit.uid) is None
    assert not qemu.find_leftovers(unit)


async def test_an_adopted_one_keeps_its_group_and_what_killed_it_is_found(
    qemu: QemuSide, limited: QemuDriver, cgroups: ControlGroups
) -> None:
    unit = qemu.make_unit()
    first = await qemu.launch(limited, unit)
    await first.close()
    again = await limited.adopt(unit)
    assert again is not None and not isinstance(again, Ending)
    assert (await again.read_usage()).memory_bytes
    qemu.kill_process(again)
    await again.close()
    ending = await limited.adopt(unit)
    assert isinstance(ending, Ending) and ending.kind == "crashed"
    assert "memory" not in ending.message
    assert cgroups.find(unit.uid) is None


async def test_saving_leaves_nothing_that_others_start_from_open(qemu: QemuSide, limited: QemuDriver) -> None:
    unit = qemu.make_unit()
    instance = await qemu.launch(limited, unit)
    saved = qemu.place / "saved"
    saved.mkdir()
    await instance.pause()
    await instance.save(saved)
    assert not {target for target in list_descriptors(instance.pid) if target.startswith(str(saved))}
    assert (saved / "state").stat().st_size > 0
    await instance.destroy()
    await instance.close()


def test_groups_that_are_nobodys_are_swept(cgroups: ControlGroups) -> None:
    kept, left = make_machine(), make_machine()
    for machine in (kept, left):
        cgroups.make(machine, ())
    assert cgroups.sweep({kept.uid}) == [left.uid]
    group = cgroups.find(kept.uid)
    assert group is not None and group.remove() and group.remove()


def test_where_nothing_can_be_limited_a_vm_starts_all_the_same(tmp_path: Path, probe: Path) -> None:
    groups = ControlGroups((), ("none",))
    machine = make_machine(limits=Limits(cpu_percent=10))
    group = groups.make(machine, ())
    assert Held(tmp_path, [probe, "eat", "1"], Jail(user=USER), group).finish()["code"] == 0
    assert group.remove()
    assert [problem.split(" is ")[0] for problem in group.apply(machine, machine.limits, ())] == [
        "its processor time",
        "its memory",
    ]
