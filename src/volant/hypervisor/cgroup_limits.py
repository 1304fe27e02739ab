"""A VM's limits as the files of its control groups say them, for either version of the kernel's interface
(Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/). Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from volant.core.limits import Limits
from volant.hypervisor.machine import Machine

MIB = 1 << 20
PERIOD_US = 100_000
DEFAULT_WEIGHT = 100
_DEFAULT_SHARES = 1024
_V1_UNLIMITED = "-1"

CONTROLLERS = {1: ("cpu", "cpuacct", "memory", "blkio", "pids"), 2: ("cpu", "memory", "io", "pids")}
"""What a VM's groups are made with, by the version of the hierarchy."""

QEMU_MIB = 96
"""What QEMU takes beside guest memory: measured 23 to 45 MiB, page tables included, with room for queues of its devices."""
EMULATION_MIB = 96
"""What translated code and its tables may add: 64 MiB of code (command.py), and what the translator keeps about it."""
CPU_MIB = 8
"""A virtual processor's thread: stack, jump caches."""
MEMORY_PARTS = 128
"""One part of the guest's memory in so many is kept free for page tables and the bookkeeping of dirty pages."""


class Setting(msgspec.Struct, frozen=True):
    """``value`` is to be written into ``file`` of the group with ``controller``; not all kernels have what is ``optional``."""

    controller: str
    file: str
    value: str
    optional: bool = False


def memory_limit_mib(machine: Machine, limits: Limits) -> int:
    """What all of the VM process may have: the guest's memory and what the hypervisor needs beside it."""
    if limits.memory_overhead_mb:
        return machine.memory_mib + limits.memory_overhead_mb
    overhead = QEMU_MIB + CPU_MIB * machine.cpu_cores + machine.memory_mib // MEMORY_PARTS
    return machine.memory_mib + overhead + (EMULATION_MIB if machine.accelerator == "tcg" else 0)


def plan_settings(version: int, limits: Limits, memory_mib: int, devices: Sequence[str]) -> list[Setting]:
    """Every setting, those of no limit included, in the order to write them. ``devices`` are the disks' as ``MAJOR:MINOR``."""
    return _plan_v2(limits, memory_mib, devices) if version == 2 else _plan_v1(limits, memory_mib, devices)


def _plan_v2(limits: Limits, memory_mib: int, devices: Sequence[str]) -> list[Setting]:
    quota = str(limits.cpu_percent * PERIOD_US // 100) if limits.cpu_percent else "max"
    io = {
        "rbps": limits.io_read_bytes_per_s,
        "wbps": limits.io_write_bytes_per_s,
        "riops": limits.io_read_ops_per_s,
        "wiops": limits.io_write_ops_per_s,
    }
    words = " ".join(f"{name}={value or 'max'}" for name, value in io.items())
    return [
        Setting("cpu", "cpu.max", f"{quota} {PERIOD_US}"),
        Setting("cpu", "cpu.weight", str(limits.cpu_weight or DEFAULT_WEIGHT)),
        Setting("memory", "memory.max", str(memory_mib * MIB)),
        Setting("memory", "memory.swap.max", "0", optional=True),
        *(Setting("io", "io.max", f"{device} {words}") for device in devices),
        Setting("pids", "pids.max", str(limits.pids) if limits.pids else "max"),
    ]


def _plan_v1(limits: Limits, memory_mib: int, devices: Sequence[str]) -> list[Setting]:
    quota = str(limits.cpu_percent * PERIOD_US // 100) if limits.cpu_percent else _V1_UNLIMITED
    shares = max(2, (limits.cpu_weight or DEFAULT_WEIGHT) * _DEFAULT_SHARES // DEFAULT_WEIGHT)
    io = {
        "read_bps": limits.io_read_bytes_per_s,
        "write_bps": limits.io_write_bytes_per_s,
        "read_iops": limits.io_read_ops_per_s,
        "write_iops": limits.io_write_ops_per_s,
    }
    size = str(memory_mib * MIB)
    return [
        Setting("cpu", "cpu.cfs_period_us", str(PERIOD_US)),
        Setting("cpu", "cpu.cfs_quota_us", quota),
        Setting("cpu", "cpu.shares", str(shares)),
        Setting("memory", "memory.limit_in_bytes", size),
        # Memory and swap together: as much as memory alone is no swap.
        Setting("memory", "memory.memsw.limit_in_bytes", size, optional=True),
        Setting("memory", "memory.swappiness", "0", optional=True),
        *(
            Setting("blkio", f"blkio.throttle.{name}_device", f"{device} {value}")
            for device in devices
            for name, value in io.items()
        ),
        Setting("pids", "pids.max", str(limits.pids) if limits.pids else "max"),
    ]


def is_default(setting: Setting) -> bool:
    """Whether a group that was just made is that way already."""
    file, value = setting.file, setting.value
    if file == "cpu.max":
        return value == f"max {PERIOD_US}"
    if file == "cpu.cfs_period_us":
        return value == str(PERIOD_US)
    if file == "cpu.shares":
        return value == str(_DEFAULT_SHARES)
    if file == "cpu.weight":
        return value == str(DEFAULT_WEIGHT)
    if file == "io.max":
        return all(word.endswith("=max") for word in value.split()[1:])
    if file.startswith("blkio.throttle."):
        return value.endswith(" 0")
    return (file, value) in (("cpu.cfs_quota_us", _V1_UNLIMITED), ("pids.max", "max"))
