"""How many replicas there should be, by what was measured: pure functions. The formula is the one of Kubernetes' HPA."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

TOLERANCE = 0.1
"""A ratio of what is to what should be that is no further than this from 1 changes nothing."""

STEP_UP_MIN = 4
"""In one look it is at most doubled, or raised by this where that is more."""

_DIGITS = 9
"""So that 3.0000000001 replicas are three."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One metric at one look.

    ``values`` has one for each replica that is ready and was measured; ``missing`` counts those that are ready and were not.
    ``total`` is given in place of both where the deployment is measured as one.
    """

    target: float
    values: tuple[float, ...] = ()
    missing: int = 0
    total: float | None = None

    @property
    def is_known(self) -> bool:
        return self.total is not None or bool(self.values)


def recommend_by(metric: Measured, current: int) -> int | None:
    """What one metric asks for when ``current`` are wanted; None when nothing was measured."""
    if metric.total is not None:
        if current > 0 and _is_near(metric.total / current / metric.target):
            return current
        return _ceil(metric.total / metric.target)
    if not metric.values:
        return None
    measured = sum(metric.values)
    ratio = measured / len(metric.values) / metric.target
    if _is_near(ratio):
        return current
    # Who could not be asked is taken to be such that nothing is done for its sake: idle when there is much to do, and
    # as busy as it should be when there is little.
    asked = measured + (metric.missing * metric.target if ratio < 1 else 0.0)
    wanted = _ceil(asked / metric.target)
    if metric.missing and _is_near(asked / metric.target / (len(metric.values) + metric.missing)):
        return current
    return max(wanted, current) if ratio > 1 else min(wanted, current)


def recommend(metrics: Sequence[Measured], current: int, *, least: int, most: int) -> tuple[int, int | None]:
    """``(replicas, index of the metric that decided)``: what the one that asks for most asks for, between ``least`` and ``most``.

    While one is not known nothing is taken away on account of the others. Where none is known it stays as it is.
    """
    wishes = [recommend_by(metric, current) for metric in metrics]
    known = [(wish, -index) for index, wish in enumerate(wishes) if wish is not None]
    if not known:
        return clamp(current, least, most), None
    wish, index = max(known)
    if wish < current and len(known) < len(wishes):
        return clamp(current, least, most), None
    return clamp(min(wish, max(2 * current, current + STEP_UP_MIN)), least, most), -index


def clamp(replicas: int, least: int, most: int) -> int:
    return min(max(replicas, least), most)


def _is_near(ratio: float) -> bool:
    return abs(ratio - 1.0) <= TOLERANCE + 1e-9


def _ceil(replicas: float) -> int:
    # What a hostile guest tells may be beyond all bounds.
    return math.ceil(round(min(replicas, 1e9), _DIGITS))
