"""Which of the nodes that can be is best: each score is a pure function from 0 to 100, and each has a weight."""

from __future__ import annotations

from collections.abc import Callable

from volant.reconcile.placement.candidate import Candidate, Survey, Wish, place_of
from volant.reconcile.placement.filters import tolerates

Score = Callable[[Wish, Candidate, Survey], float | None]
"""``(wish, candidate, survey)``; None where nothing is asked that the score is about."""


def score_node(wish: Wish, candidate: Candidate, survey: Survey) -> float:
    """The weighted mean of all scores that say something, 0 to 100."""
    total, weights = 0.0, 0
    for weight, score in SCORES:
        points = score(wish, candidate, survey)
        if points is not None:
            total += weight * points
            weights += weight
    return total / weights if weights else 0.0


def score_room(wish: Wish, candidate: Candidate, _: Survey) -> float:
    """The emptier, the better: what is left of the scarcer of memory and cores once the VM is there."""
    whole, given = candidate.whole, candidate.given
    memory = _left(given.memory_mb + wish.memory_mb, whole.memory_mb)
    return 100.0 * min(memory, _left(given.cpu_cores + wish.cpu_cores, whole.cpu_cores))


def score_kin(wish: Wish, candidate: Candidate, _: Survey) -> float | None:
    """The fewer VMs of the same deployment or job, the better, so that one node is not the end of all of them."""
    most = max(wish.kin.values(), default=0)
    return None if not most else 100.0 * (1 - wish.kin.get(candidate.name, 0) / most)


def score_spread(wish: Wish, candidate: Candidate, survey: Survey) -> float | None:
    points: list[float] = []
    for asked, counts in zip(wish.placement.spread, survey.spread, strict=True):
        if asked.when != "prefer":
            continue
        place = place_of(candidate.node, asked.topology)
        if place is None:
            points.append(0.0)
            continue
        most = max(counts.values(), default=0) or 1
        points.append(100.0 * (1 - counts.get(place, 0) / most))
    return sum(points) / len(points) if points else None


def score_affinity(wish: Wish, candidate: Candidate, survey: Survey) -> float | None:
    total, weights = 0.0, 0
    for asked, counts in zip(wish.placement.affinity, survey.affinity, strict=True):
        if not asked.weight:
            continue
        place = place_of(candidate.node, asked.topology)
        is_near = place is not None and counts.get(place, 0) > 0
        total += asked.weight * (100.0 if is_near != asked.apart else 0.0)
        weights += asked.weight
    return total / weights if weights else None


def score_taints(wish: Wish, candidate: Candidate, _: Survey) -> float | None:
    shunned = [
        taint
        for taint in candidate.node.spec.taints
        if taint.effect == "PreferNoSchedule" and not tolerates(wish.placement.tolerations, taint)
    ]
    return 0.0 if shunned else 100.0


def _left(used: float, whole: float) -> float:
    return max(0.0, 1 - used / whole) if whole > 0 else 0.0


SCORES: tuple[tuple[int, Score], ...] = (
    (1, score_room),
    (2, score_kin),
    (4, score_spread),
    (4, score_affinity),
    (8, score_taints),
)
