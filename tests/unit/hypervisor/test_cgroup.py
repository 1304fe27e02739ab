"""Control groups of either version: where they are found, what is written, what is read. The kernel's own part of it is in
tests/contract/hypervisor/test_hypervisor_jail.py; here its files lie in a plain directory."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import msgspec
import pytest

from volant.core.errors import WrongState
from volant.core.ids import Digest, RunId, Uid
from volant.core.limits import Limits
from volant.hypervisor.cgroup import ControlGroups, Group, Hierarchy, find_devices
from volant.hypervisor.cgroup_limits import memory_limit_mib, plan_settings
from volant.hypervisor.cgroup_place import find_control_groups, find_mounted, name_groups, prepare
from volant.hypervisor.cgroup_usage import InForce, Usage
from volant.hypervisor.driver import Ending
from volant.hypervisor.machine import Machine

UID = Uid("0123456789abcdef0123456789abcdef")
MACHINE = Machine(
    uid=UID, run_id=RunId("1"), name="web", slot=0, hypervisor="qemu", accelerator="tcg", cpu_cores=2, memory_mib=256,
    kernel=Digest("sha256:" + "1" * 64), initramfs=Digest("sha256:" + "2" * 64), kernel_cmdline="",
)  # fmt: skip
LIMITS = Limits(cpu_percent=150, cpu_weight=200, memory_overhead_mb=64, io_read_bytes_per_s=1000, io_write_ops_per_s=7, pids=33)
V2 = "cpu memory io pids"


class Tree:
    """A /proc/self and the hierarchies that it speaks of."""

    def __init__(self, root: Path) -> None:
        self.proc = root / "proc"
        self.proc.mkdir()
        self.root = root
        self._mounts: list[str] = []
        self._own: list[str] = []

    def add_v2(self, own: str, offered: str = V2) -> Path:
        top = self.root / "unified"
        place = top
        self._fill(top, offered)
        for part in own.strip("/").split("/") if own != "/" else ():
            place /= part
            self._fill(place, offered)
        self._mounts.append(f"41 31 0:38 / {top} rw,relatime shared:9 - cgroup2 cgroup2 rw")
        self._own.append(f"0::{own}")
        return top

    def add_v1(self, controllers: str, own: str, mounted_root: str = "/") -> Path:
        top = self.root / controllers
        top.mkdir()
        self._mounts.append(f"32 31 0:29 {mounted_root} {top} rw,relatime - cgroup cgroup rw,{controllers}")
        self._own.append(f"{len(self._own) + 1}:{controllers}:{own}")
        return top

    def write(self) -> Path:
        (self.proc / "mountinfo").write_text("\n".join(["20 1 8:1 / / rw - ext4 /dev/root rw", *self._mounts]) + "\n")
        (self.proc / "cgroup").write_text("\n".join(self._own) + "\n")
        return self.proc

    def _fill(self, place: Path, offered: str) -> None:
        place.mkdir()
        (place / "cgroup.controllers").write_text(offered)
        (place / "cgroup.subtree_control").write_text(offered)
        (place / "cgroup.procs").write_text("")


def open_groups(proc: Path, setting: str = "") -> ControlGroups:
    groups = find_control_groups(setting, "volant", proc=proc)
    prepare(groups, setting, "volant", proc=proc)
    return groups


def fill(place: Path, offered: str = V2) -> None:
    """What the kernel puts into a new directory of version 2."""
    place.mkdir(exist_ok=True)
    (place / "cgroup.controllers").write_text(offered)
    (place / "cgroup.subtree_control").write_text(offered)


def test_version_2_at_the_top(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    top = tree.add_v2("/user.slice/session-1.scope")
    fill(top / "volant")
    groups = open_groups(tree.write())
    assert groups.hierarchies == (Hierarchy(2, top / "volant", ("cpu", "memory", "io", "pids")),)
    assert groups.problems == ()


@pytest.mark.parametrize(
    ("group", "own_path"),
    [
        ("system.slice/run-7.scope", "/system.slice/run-7.scope"),
        ("system.slice/volantd.service", "/system.slice/volantd.service/volantd"),
    ],
)
def test_a_delegated_subtree_is_divided_and_volantd_moves_aside(tmp_path: Path, group: str, own_path: str) -> None:
    tree = Tree(tmp_path)
    own = tree.add_v2(own_path) / group
    try:
        os.setxattr(own, "user.delegate", b"1")
    except OSError:
        pytest.skip("this file system keeps no attributes of users")
    (own / "cgroup.procs").write_text("4711\n")
    (own / "volantd").mkdir(exist_ok=True)
    fill(own / "volant")
    groups = open_groups(tree.write())
    assert [hierarchy.place for hierarchy in groups.hierarchies] == [own / "volant"]
    assert (own / "volantd" / "cgroup.procs").read_text() == "4711"


def test_a_service_without_a_subgroup_is_not_divided(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    top = tree.add_v2("/system.slice/volantd.service")
    try:
        os.setxattr(top / "system.slice" / "volantd.service", "user.delegate", b"1")
    except OSError:
        pytest.skip("this file system keeps no attributes of users")
    fill(top / "volant")
    assert [hierarchy.place for hierarchy in open_groups(tree.write()).hierarchies] == [top / "volant"]


def test_what_is_not_offered_is_a_problem_and_a_vm_is_made_all_the_same(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    top = tree.add_v2("/", offered="memory")
    fill(top / "volant", "memory")
    groups = open_groups(tree.write())
    assert groups.problems == ("no cpu, io, pids controller is to be had",)
    group = groups.make(msgspec.structs.replace(MACHINE, limits=LIMITS), ())
    assert [directory.name for directory in group.directories] == [UID]
    assert sorted(path.name for path in group.directories[0].iterdir()) == ["memory.max", "memory.swap.max"]


def test_looking_changes_nothing(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    top = tree.add_v2("/")
    found = find_control_groups("", "volant", proc=tree.write())
    assert found.hierarchies == (Hierarchy(2, top / "volant", ("cpu", "memory", "io", "pids")),)
    assert not (top / "volant").exists()


def test_version_1_and_both_together(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.add_v2("/", offered="hugetlb")
    memory = tree.add_v1("memory", "/process/7")
    cpu = tree.add_v1("cpu,cpuacct", "/")
    tree.add_v1("freezer", "/")
    groups = open_groups(tree.write())
    assert set(groups.hierarchies) == {
        Hierarchy(1, memory / "volant", ("memory",)),
        Hierarchy(1, cpu / "volant", ("cpu", "cpuacct")),
    }
    assert groups.problems == ("no io, pids controller is to be had",)
    assert (memory / "volant").is_dir() and not (tmp_path / "unified" / "volant").exists()
    groups.close()
    assert not (memory / "volant").exists()


def test_a_container_sees_a_part_of_the_tree(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    memory = tree.add_v1("memory", "/docker/1/a", "/docker/1")
    (mount,) = find_mounted(tree.write())
    assert mount.own_place == memory / "a"
    assert msgspec.structs.replace(mount, own="/elsewhere").own_place is None


def test_the_configuration_names_a_place_or_none(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    memory = tree.add_v1("memory", "/")
    assert open_groups(tree.write(), "/vms/here").hierarchies == (Hierarchy(1, memory / "vms/here/volant", ("memory",)),)
    off = open_groups(tree.proc, "none")
    assert off.hierarchies == () and "switched off" in off.problems[0]


def test_two_volantds_have_places_of_their_own() -> None:
    assert name_groups(Path("/var/lib/volant")) == "volant"
    assert name_groups(Path("/a")) != name_groups(Path("/b"))


def test_version_2_says_every_limit() -> None:
    plan = {setting.file: setting.value for setting in plan_settings(2, LIMITS, 320, ("8:0",))}
    assert plan == {
        "cpu.max": "150000 100000",
        "cpu.weight": "200",
        "memory.max": str(320 << 20),
        "memory.swap.max": "0",
        "io.max": "8:0 rbps=1000 wbps=max riops=max wiops=7",
        "pids.max": "33",
    }
    free = {setting.file: setting.value for setting in plan_settings(2, Limits(), 320, ("8:0", "8:16"))}
    assert (free["cpu.max"], free["cpu.weight"], free["pids.max"]) == ("max 100000", "100", "max")
    assert free["io.max"] == "8:16 rbps=max wbps=max riops=max wiops=max"


def test_version_1_says_every_limit() -> None:
    plan = [(setting.file, setting.value) for setting in plan_settings(1, LIMITS, 320, ("8:0",))]
    assert plan == [
        ("cpu.cfs_period_us", "100000"),
        ("cpu.cfs_quota_us", "150000"),
        ("cpu.shares", "2048"),
        ("memory.limit_in_bytes", str(320 << 20)),
        ("memory.memsw.limit_in_bytes", str(320 << 20)),
        ("memory.swappiness", "0"),
        ("blkio.throttle.read_bps_device", "8:0 1000"),
        ("blkio.throttle.write_bps_device", "8:0 0"),
        ("blkio.throttle.read_iops_device", "8:0 0"),
        ("blkio.throttle.write_iops_device", "8:0 7"),
        ("pids.max", "33"),
    ]


@pytest.mark.parametrize(("now_mib", "first"), [(100, "memory.memsw.limit_in_bytes"), (999, "memory.limit_in_bytes")])
def test_of_two_limits_the_one_that_may_be_first_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now_mib: int, first: str
) -> None:
    group = Group(UID, (Hierarchy(1, tmp_path, ("memory",)),))
    (tmp_path / UID).mkdir()
    (tmp_path / UID / "memory.limit_in_bytes").write_text(str(now_mib << 20))
    order: list[str] = []
    write = Path.write_text
    monkeypatch.setattr(Path, "write_text", lambda path, text: (order.append(path.name), write(path, text)))
    group.apply(MACHINE, LIMITS, ())
    assert next(name for name in order if "limit" in name) == first


def test_memory_is_the_guests_and_what_the_hypervisor_needs() -> None:
    kvm = memory_limit_mib(msgspec.structs.replace(MACHINE, accelerator="kvm"), Limits())
    tcg = memory_limit_mib(MACHINE, Limits())
    assert MACHINE.memory_mib + 64 < kvm < tcg < MACHINE.memory_mib + 256
    assert memory_limit_mib(MACHINE, Limits(memory_overhead_mb=10)) == 266


def write_files(tmp_path: Path, files: dict[str, str]) -> None:
    (tmp_path / UID).mkdir()
    for name, text in files.items():
        (tmp_path / UID / name).write_text(text)


def test_version_2_is_read(tmp_path: Path) -> None:
    write_files(tmp_path, {
        "cpu.stat": "usage_usec 2500000\nuser_usec 1\nnr_periods 9\nnr_throttled 4\nthrottled_usec 500000\n",
        "memory.current": "1048576\n",
        "memory.peak": "2097152\n",
        "memory.events": "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n",
        "io.stat": "8:0 rbytes=100 wbytes=200 rios=3 wios=4 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=2 rios=1 wios=1\n",
        "pids.current": "6\n",
        "cpu.max": "150000 100000\n",
        "cpu.weight": "200\n",
        "memory.max": f"{320 << 20}\n",
        "memory.swap.max": "0\n",
        "io.max": "8:0 rbps=1000 wbps=max riops=max wiops=7\n",
        "pids.max": "max\n",
    })  # fmt: skip
    group = Group(UID, (Hierarchy(2, tmp_path, ("cpu", "memory", "io", "pids")),))
    assert group.read_usage() == Usage(
        cpu_s=2.5, throttled=4, throttled_s=0.5, memory_bytes=1 << 20, memory_peak_bytes=2 << 20, oom_kills=1, tasks=6,
        read_bytes=101, written_bytes=202, reads=4, writes=5,
    )  # fmt: skip
    assert group.read_in_force() == InForce(
        cpu_percent=150, cpu_weight=200, memory_bytes=320 << 20, swap_bytes=0, io=("8:0 rbps=1000 wbps=max riops=max wiops=7",)
    )
    crash = Ending(kind="crashed", message="it ended", signal=signal.SIGKILL)
    assert group.explain(crash).message.endswith("more than its limit of 320 MiB")
    assert group.explain(msgspec.structs.replace(crash, signal=signal.SIGSEGV)).message == "it ended"


def test_version_1_is_read(tmp_path: Path) -> None:
    write_files(tmp_path, {
        "cpu.stat": "nr_periods 9\nnr_throttled 4\nthrottled_time 500000000\n",
        "cpuacct.usage": "2500000000\n",
        "memory.usage_in_bytes": "1048576\n",
        "memory.max_usage_in_bytes": "2097152\n",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
        "memory.limit_in_bytes": "9223372036854771712\n",
        "blkio.throttle.io_service_bytes": "8:0 Read 100\n8:0 Write 200\n8:0 Total 300\nTotal 300\n",
        "blkio.throttle.io_serviced": "8:0 Read 3\n8:0 Write 4\n8:0 Total 7\nTotal 7\n",
        "pids.current": "6\n",
        "cpu.cfs_quota_us": "-1\n",
        "cpu.cfs_period_us": "100000\n",
        "cpu.shares": "2048\n",
        "blkio.throttle.read_bps_device": "8:0 1000\n",
        "pids.max": "33\n",
    })  # fmt: skip
    group = Group(UID, (Hierarchy(1, tmp_path, ("cpu", "cpuacct", "memory", "blkio", "pids")),))
    assert group.read_usage() == Usage(
        cpu_s=2.5, throttled=4, throttled_s=0.5, memory_bytes=1 << 20, memory_peak_bytes=2 << 20, oom_kills=0, tasks=6,
        read_bytes=100, written_bytes=200, reads=3, writes=4,
    )  # fmt: skip
    assert group.read_in_force() == InForce(cpu_weight=200, tasks=33, io=("read_bps_device 8:0 1000",))


def test_a_limit_below_what_is_used_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    write_files(tmp_path, {"memory.current": str(500 << 20), "memory.max": "max\n"})
    group = Group(UID, (Hierarchy(2, tmp_path, ("memory",)),))
    with pytest.raises(WrongState, match="500 MiB now, more than the 320"):
        group.apply(MACHINE, LIMITS, ())
    assert (tmp_path / UID / "memory.max").read_text() == "max\n"


def test_what_cannot_be_limited_is_said(tmp_path: Path) -> None:
    assert Group(UID, ()).apply(MACHINE, LIMITS, ("8:0",)) == [
        "its processor time is not limited: this host gives volantd no cpu controller",
        "its memory is not limited: this host gives volantd no memory controller",
        "its threads are not limited: this host gives volantd no pids controller",
        "its disks are not limited: this host gives volantd no io controller",
    ]
    (tmp_path / UID).mkdir()
    group = Group(UID, (Hierarchy(2, tmp_path, ("cpu", "memory", "io", "pids")),))
    assert group.apply(MACHINE, LIMITS, ()) == ["its disks are not limited: they lie on no block device"]


def test_files_without_a_disk_have_none() -> None:
    memory = os.memfd_create("test")
    pipe = os.pipe()
    try:
        assert find_devices((memory, *pipe)) == ()
    finally:
        for descriptor in (memory, *pipe):
            os.close(descriptor)
