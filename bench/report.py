"""How a measurement is printed: medians, and one line with its budget."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path


def describe_machine() -> str:
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return f"{len(os.sched_getaffinity(0))} cores of {model}, Linux {platform.release()}, load {os.getloadavg()[0]:.1f}"


def describe_times(name: str, seconds: Sequence[float]) -> str:
    ordered = sorted(seconds)
    return (
        f"  {name:<38} median {statistics.median(ordered) * 1000:8.1f} ms   min {ordered[0] * 1000:8.1f}   "
        f"max {ordered[-1] * 1000:8.1f}   n={len(ordered)}"
    )


def percentile(seconds: Sequence[float], fraction: float) -> float:
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * fraction))]


def judge(name: str, value: float, budget: float, unit: str = "", *, at_least: bool = False) -> str:
    is_within = value >= budget if at_least else value <= budget
    verdict = "within" if is_within else "UNDER" if at_least else "OVER"
    bound = "at least " if at_least else ""
    return f"  {name:<38} {value:8.2f}{unit}   budget {bound}{budget:g}{unit}   {verdict}"
