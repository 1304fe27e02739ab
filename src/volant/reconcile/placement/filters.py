"""Why a node cannot be: each filter is a pure function that returns the reason, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from volant.core.hardware import choose_devices, find_lack
from volant.core.node import Taint
from volant.core.placement import Toleration
from volant.core.selector import parse_selector
from volant.reconcile.placement.candidate import Candidate, Survey, Wish, place_of

Filter = Callable[[Wish, Candidate, Survey], str]
"""``(wish, candidate, survey)``: the reason in words that go on after the node's name, or an empty text."""


def find_reason(wish: Wish, candidate: Candidate, survey: Survey) -> str:
    """The first reason why ``wish`` cannot be had of ``candidate``; empty when it can."""
    for check in ROOM if wish.pinned else ALL:
        if reason := check(wish, candidate, survey):
            return reason
    return ""


def tolerates(tolerations: Sequence[Toleration], taint: Taint) -> bool:
    return any(
        one.key == taint.key and one.value in ("", taint.value) and one.effect in ("", taint.effect) for one in tolerations
    )


def describe_taint(taint: Taint) -> str:
    return f"tainted {taint.key}" + (f"={taint.value}" if taint.value else "")


def check_name(wish: Wish, candidate: Candidate, _: Survey) -> str:
    asked = wish.placement.node
    return f"not the node that it asks for, {asked}" if asked and asked != candidate.name else ""


def check_ready(_wish: Wish, candidate: Candidate, _: Survey) -> str:
    if candidate.node.deleting:
        return "being removed"
    return "" if candidate.ready else "lost: its volantd has not been heard of"


def check_cordon(_wish: Wish, candidate: Candidate, _: Survey) -> str:
    return "cordoned" if candidate.node.spec.unschedulable else ""


def check_labels(wish: Wish, candidate: Candidate, _: Survey) -> str:
    asked = wish.placement.nodes
    return "" if not asked or parse_selector(asked).matches(candidate.node.meta.labels) else f"its labels are not {asked}"


def check_taints(wish: Wish, candidate: Candidate, _: Survey) -> str:
    for taint in candidate.node.spec.taints:
        if taint.effect != "PreferNoSchedule" and not tolerates(wish.placement.tolerations, taint):
            return describe_taint(taint)
    return ""


def check_hardware(wish: Wish, candidate: Candidate, _: Survey) -> str:
    lack = find_lack(wish.hardware, candidate.node.status)
    return "" if lack is None else lack.reason


def check_devices(wish: Wish, candidate: Candidate, _: Survey) -> str:
    gpus = wish.hardware.gpus
    if not gpus or choose_devices(gpus, candidate.devices) is not None:
        return ""
    asked = ", ".join(f"{gpu.count} × {gpu.device or 'any'}" for gpu in gpus)
    return f"its devices are given out (wanted {asked})"


def check_cores(wish: Wish, candidate: Candidate, _: Survey) -> str:
    there = candidate.node.status.cpu_cores
    if wish.cpu_cores > there:
        return f"it has {there} cores, and {wish.cpu_cores} are wanted"
    short = candidate.given.cpu_cores + wish.cpu_cores - candidate.whole.cpu_cores
    return f"{_format(short)} cores short" if short > 0 else ""


def check_memory(wish: Wish, candidate: Candidate, _: Survey) -> str:
    short = candidate.given.memory_mb + wish.memory_mb - candidate.whole.memory_mb
    return f"{short} MiB short of memory" if short > 0 else ""


def check_slot(_wish: Wish, candidate: Candidate, _: Survey) -> str:
    return "" if candidate.has_slot else "it has no slot left for another VM"


def check_affinity(wish: Wish, candidate: Candidate, survey: Survey) -> str:
    for asked, counts, itself in zip(wish.placement.affinity, survey.affinity, wish.matches_itself, strict=True):
        if asked.weight:
            continue
        place = place_of(candidate.node, asked.topology)
        if place is None:
            if asked.apart:
                continue
            return f"it is in no {asked.topology}"
        count = counts.get(place, 0)
        if asked.apart and count:
            return f"it would not be apart from {asked.vms} (in one {asked.topology})"
        first = itself and not counts
        if not asked.apart and not count and not first:
            return f"it would not be near {asked.vms} (in one {asked.topology})"
    return ""


def check_spread(wish: Wish, candidate: Candidate, survey: Survey) -> str:
    for asked, counts, least in zip(wish.placement.spread, survey.spread, survey.least, strict=True):
        if asked.when != "require":
            continue
        place = place_of(candidate.node, asked.topology)
        if place is None:
            return f"it is in no {asked.topology}"
        skew = counts.get(place, 0) + 1 - least
        if skew > asked.max_skew:
            return f"{place} would have {skew} more than another {asked.topology}, and {asked.max_skew} may be"
    return ""


def is_usable(wish: Wish, candidate: Candidate) -> bool:
    """Whether the node's places are among those that the VM is spread over, however full it is."""
    return not any(check(wish, candidate, _NOTHING) for check in (check_name, check_ready, check_labels, check_taints))


def _format(cores: float) -> str:
    return f"{cores:.2f}".rstrip("0").rstrip(".")


_NOTHING = Survey((), (), ())

ROOM: tuple[Filter, ...] = (check_ready, check_cores, check_memory)
ALL: tuple[Filter, ...] = (
    check_name,
    check_ready,
    check_cordon,
    check_labels,
    check_taints,
    check_hardware,
    check_devices,
    check_cores,
    check_memory,
    check_slot,
    check_affinity,
    check_spread,
)
