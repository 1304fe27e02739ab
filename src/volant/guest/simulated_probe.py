"""What comes of a simulated workload's probes and hooks: requests always succeed, programs as their namesakes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from volant.guest.document import ExecHook, ExecProbe, Hooks, HttpHealth, Probes, Workload

Programs = Mapping[str, tuple[bytes, bytes, int]]


class Foresight(msgspec.Struct, frozen=True, kw_only=True):
    """``hook_fails``: its ``post_start`` hook. ``unstarted_s``, ``dead_s``: when a probe will have failed as often as it may."""

    hook_fails: bool = False
    is_probed: bool = False
    unstarted_s: float | None = None
    dead_s: float | None = None
    gets_healthy: bool = False


def foresee_health(workload: Workload, programs: Programs) -> Foresight:
    probes = workload.probes if isinstance(workload.probes, Probes) else Probes()
    hooks = workload.hooks if isinstance(workload.hooks, Hooks) else Hooks()
    asked = (probes.startup, probes.readiness, hooks.post_start)
    return Foresight(
        hook_fails=hooks.post_start is not msgspec.UNSET and not _succeeds(hooks.post_start, programs),
        is_probed=isinstance(workload.health, HttpHealth) or any(one is not msgspec.UNSET for one in asked),
        unstarted_s=_fails_after_s(probes.startup, programs),
        dead_s=_fails_after_s(probes.liveness, programs),
        gets_healthy=probes.readiness is msgspec.UNSET or _succeeds(probes.readiness, programs),
    )


def count_liveness(workload: Workload) -> int:
    """How often its liveness probe may fail."""
    probe = workload.probes.liveness if isinstance(workload.probes, Probes) else msgspec.UNSET
    return 3 if probe is msgspec.UNSET else probe.failure_threshold


def _fails_after_s(probe: Any, programs: Programs) -> float | None:
    if probe is msgspec.UNSET or _succeeds(probe, programs):
        return None
    return float(probe.failure_threshold * probe.interval_ms / 1000)


def _succeeds(asked: object, programs: Programs) -> bool:
    """Requests always do, programs as ``programs`` says, ``false`` never."""
    if not isinstance(asked, ExecProbe | ExecHook):
        return True
    name = asked.argv[0].rpartition("/")[2]
    return programs[name][2] == 0 if name in programs else name != "false"
