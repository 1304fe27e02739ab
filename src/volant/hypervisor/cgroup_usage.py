"""What a VM's control groups have counted, and which limits are in force, read from either version's files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

_NEAR_UNLIMITED = 1 << 60
"""Version 1 says no limit as the largest number of whole pages."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """By the kernel's account, since the VM process began; None where the controller is not there to count.

    ``memory_bytes`` has the files' cached pages in it. ``throttled_s``: how long its threads waited for their quota.
    """

    cpu_s: float | None = None
    throttled: int | None = None
    throttled_s: float | None = None
    memory_bytes: int | None = None
    memory_peak_bytes: int | None = None
    oom_kills: int | None = None
    tasks: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    reads: int | None = None
    writes: int | None = None


class InForce(msgspec.Struct, frozen=True, kw_only=True):
    """The limits as the kernel holds them; None is no limit, or no controller. ``io`` is as the kernel words it."""

    cpu_percent: int | None = None
    cpu_weight: int | None = None
    memory_bytes: int | None = None
    swap_bytes: int | None = None
    tasks: int | None = None
    io: tuple[str, ...] = ()


Groups = Mapping[str, tuple[int, Path]]
"""By controller: the version of its hierarchy, and the VM's directory there."""


def read_usage(groups: Groups) -> Usage:
    """Missing files, and a group that went meanwhile, are None."""
    found: dict[str, int | float | None] = {}
    for controller, (version, directory) in groups.items():
        found |= (_READERS_V2 if version == 2 else _READERS_V1).get(controller, _nothing)(directory)
    return msgspec.convert({name: value for name, value in found.items() if value is not None}, Usage)


def count_oom_kills(groups: Groups) -> int:
    """How many of its processes the kernel has killed for want of memory within its limit."""
    version, directory = groups.get("memory", (0, Path()))
    if version == 2:
        return _read_table(directory / "memory.events").get("oom_kill", 0)
    return _read_table(directory / "memory.oom_control").get("oom_kill", 0) if version == 1 else 0


def read_in_force(groups: Groups) -> InForce:
    quota = period = None
    values: dict[str, int | None] = {}
    io: list[str] = []
    for controller, (version, directory) in groups.items():
        if controller == "cpu" and version == 2:
            words = _read_text(directory / "cpu.max").split()
            quota, period = (_to_int(words[0]), _to_int(words[1])) if len(words) == 2 else (None, None)
            values["cpu_weight"] = _read_int(directory / "cpu.weight")
        elif controller == "cpu":
            quota, period = _read_int(directory / "cpu.cfs_quota_us"), _read_int(directory / "cpu.cfs_period_us")
            shares = _read_int(directory / "cpu.shares")
            values["cpu_weight"] = None if shares is None else max(1, round(shares * 100 / 1024))
        elif controller == "memory" and version == 2:
            values["memory_bytes"] = _read_int(directory / "memory.max")
            values["swap_bytes"] = _read_int(directory / "memory.swap.max")
        elif controller == "memory":
            memory = values["memory_bytes"] = _read_int(directory / "memory.limit_in_bytes")
            both = _read_int(directory / "memory.memsw.limit_in_bytes")
            values["swap_bytes"] = None if both is None or memory is None else max(0, both - memory)
        elif controller == "pids":
            values["tasks"] = _read_int(directory / "pids.max")
        elif controller == "io":
            io += _read_text(directory / "io.max").splitlines()
        elif controller == "blkio":
            for file in sorted(directory.glob("blkio.throttle.*_device")):
                io += [f"{file.name.split('.')[2]} {line}" for line in _read_text(file).splitlines()]
    if quota is not None and quota > 0 and period:
        values["cpu_percent"] = quota * 100 // period
    return InForce(io=tuple(io), **{name: value for name, value in values.items() if value is not None})


def _cpu_v2(directory: Path) -> dict[str, int | float | None]:
    table = _read_table(directory / "cpu.stat")
    return {
        "cpu_s": _scale(table.get("usage_usec"), 1e6),
        "throttled": table.get("nr_throttled"),
        "throttled_s": _scale(table.get("throttled_usec"), 1e6),
    }


def _memory_v2(directory: Path) -> dict[str, int | float | None]:
    return {
        "memory_bytes": _read_int(directory / "memory.current"),
        "memory_peak_bytes": _read_int(directory / "memory.peak"),
        "oom_kills": _read_table(directory / "memory.events").get("oom_kill"),
    }


def _io_v2(directory: Path) -> dict[str, int | float | None]:
    totals = dict.fromkeys(("rbytes", "wbytes", "rios", "wios"), 0)
    for line in _read_text(directory / "io.stat").splitlines():
        for word in line.split()[1:]:
            name, _, value = word.partition("=")
            if name in totals:
                totals[name] += _to_int(value) or 0
    return {
        "read_bytes": totals["rbytes"],
        "written_bytes": totals["wbytes"],
        "reads": totals["rios"],
        "writes": totals["wios"],
    }


def _pids(directory: Path) -> dict[str, int | float | None]:
    return {"tasks": _read_int(directory / "pids.current")}


def _cpu_v1(directory: Path) -> dict[str, int | float | None]:
    table = _read_table(directory / "cpu.stat")
    return {"throttled": table.get("nr_throttled"), "throttled_s": _scale(table.get("throttled_time"), 1e9)}


def _cpuacct_v1(directory: Path) -> dict[str, int | float | None]:
    return {"cpu_s": _scale(_read_int(directory / "cpuacct.usage"), 1e9)}


def _memory_v1(directory: Path) -> dict[str, int | float | None]:
    return {
        "memory_bytes": _read_int(directory / "memory.usage_in_bytes"),
        "memory_peak_bytes": _read_int(directory / "memory.max_usage_in_bytes"),
        "oom_kills": _read_table(directory / "memory.oom_control").get("oom_kill"),
    }


def _blkio_v1(directory: Path) -> dict[str, int | float | None]:
    totals: dict[str, dict[str, int]] = {}
    for file in ("io_service_bytes", "io_serviced"):
        totals[file] = {"Read": 0, "Write": 0}
        for line in _read_text(directory / f"blkio.throttle.{file}").splitlines():
            words = line.split()
            if len(words) == 3 and words[1] in totals[file]:
                totals[file][words[1]] += _to_int(words[2]) or 0
    return {
        "read_bytes": totals["io_service_bytes"]["Read"],
        "written_bytes": totals["io_service_bytes"]["Write"],
        "reads": totals["io_serviced"]["Read"],
        "writes": totals["io_serviced"]["Write"],
    }


def _nothing(directory: Path) -> dict[str, int | float | None]:
    return {}


_READERS_V2 = {"cpu": _cpu_v2, "memory": _memory_v2, "io": _io_v2, "pids": _pids}
_READERS_V1 = {"cpu": _cpu_v1, "cpuacct": _cpuacct_v1, "memory": _memory_v1, "blkio": _blkio_v1, "pids": _pids}


def _read_text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _read_int(path: Path) -> int | None:
    value = _to_int(_read_text(path).strip())
    return None if value is None or value >= _NEAR_UNLIMITED else value


def _read_table(path: Path) -> dict[str, int]:
    rows = (line.split() for line in _read_text(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdecimal()}


def _to_int(text: str) -> int | None:
    return int(text) if text.removeprefix("-").isdecimal() else None


def _scale(value: int | None, parts: float) -> float | None:
    return None if value is None else value / parts
