"""What VMs use, as rows for people: numbers of one moment, and rates between two."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from volant.cli.measure import format_size

Stats = dict[str, Any]
HEADER = ("NAME", "CPU", "PRIVATE", "SHARED", "PROCESS", "GUEST", "DISK R/W", "NET IN/OUT", "LOAD")
EXPLAINED = """
    \b
    CPU         of late, 100% is one core
    PRIVATE     of the guest's memory, what is its own
    SHARED      of the guest's memory, what it shares with others of its template
    PROCESS     what the whole VM process has to itself, the guest's memory included
    GUEST       what the guest says it uses, and of how much
    DISK R/W    read and written since it began; with --watch and in volar top per second
    NET IN/OUT  likewise, as the guest sees it
    LOAD        the guest's load average of a minute
"""


class Moment(NamedTuple):
    """The stats of every VM by name, read at ``at_s``, monotonic."""

    at_s: float
    stats: Mapping[str, Stats]


def _of(key: str) -> Callable[[Stats], float]:
    return lambda stats: float(stats.get(key) or 0)


def _sum_of(*keys: str) -> Callable[[Stats], float]:
    return lambda stats: sum(float(stats.get(key) or 0) for key in keys)


_SORTS: dict[str, Callable[[Stats], float]] = {
    "cpu": _of("cpu_percent"),
    "memory": _of("process_private_bytes"),
    "shared": _of("memory_shared_bytes"),
    "disk": _sum_of("disk_read_bytes", "disk_written_bytes"),
    "network": _sum_of("network_received_bytes", "network_sent_bytes"),
    "load": _of("guest_load1"),
}
SORTS = ("name", *_SORTS)


def sort_stats(found: Iterable[Stats], by: str, before: Moment | None = None) -> list[Stats]:
    """By name, or the most first; ``disk`` and ``network`` by what was done since ``before`` when there is one."""
    by_name = sorted(found, key=lambda stats: str(stats["name"]))
    if by == "name":
        return by_name
    measure = _SORTS[by]

    def weigh(stats: Stats) -> float:
        former = before.stats.get(stats["name"]) if before is not None and by in ("disk", "network") else None
        return -(measure(stats) - (measure(former) if former is not None else 0))

    return sorted(by_name, key=weigh)


def describe_stats(stats: Stats, now_s: float = 0.0, before: Moment | None = None) -> list[str]:
    """One row; with ``before`` disk and network are per second since then."""
    total, available = stats.get("guest_memory_total_bytes"), stats.get("guest_memory_available_bytes")
    load = stats.get("guest_load1")
    former = None if before is None else before.stats.get(stats["name"])
    span_s = 0.0 if before is None else now_s - before.at_s
    return [
        stats["name"],
        f"{stats['cpu_percent']:.1f}%",
        format_size(stats["memory_private_bytes"]),
        format_size(stats["memory_shared_bytes"]),
        format_size(stats["process_private_bytes"]),
        "-" if total is None or available is None else f"{format_size(total - available)} of {format_size(total)}",
        _pair(stats, former, span_s, "disk_read_bytes", "disk_written_bytes"),
        _pair(stats, former, span_s, "network_received_bytes", "network_sent_bytes"),
        "-" if load is None else f"{load:.2f}",
    ]


def _pair(stats: Stats, former: Stats | None, span_s: float, *keys: str) -> str:
    shown = []
    for key in keys:
        value = stats.get(key)
        if value is None:
            return "-"
        if former is None or span_s <= 0:
            shown.append(format_size(value))
        else:
            shown.append(f"{format_size(round(max(0, value - (former.get(key) or 0)) / span_s))}/s")
    return " / ".join(shown)
