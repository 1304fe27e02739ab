"""What the autoscaler says next: a pure function of what is asked, what was measured, and the wishes of the last while."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from volant.core.autoscale import Autoscale, MetricReading
from volant.core.deployment import Deployment
from volant.reconcile.autoscale.readings import Reading, Traffic
from volant.reconcile.autoscale.recommend import clamp, recommend
from volant.reconcile.autoscale.window import Window

_UNITS = {"cpu": " %", "memory": " %"}
_DIGITS = {"cpu": 0, "memory": 0, "connections": 1}
_SIGNIFICANT = 3


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """``message`` says how it stands; ``reason`` why the number is another one than before."""

    replicas: int
    message: str
    readings: tuple[MetricReading, ...] = ()
    reason: str = ""


def begin_with(deployment: Deployment, autoscale: Autoscale) -> int:
    """How many there are to be while nothing was decided."""
    return clamp(deployment.spec.replicas, max(1, autoscale.min), autoscale.max)


def may_sleep(deployment: Deployment) -> bool:
    """Whether it may have no replica that runs: there must be a way to wake it."""
    autoscale = deployment.spec.autoscale
    return autoscale is not None and autoscale.min == 0 and bool(deployment.spec.ports)


def bound(current: int, autoscale: Autoscale, *, sleeps: bool) -> int:
    """``current`` within what is asked for. ``sleeps``: 0 is."""
    if current == 0 and sleeps:
        return 0
    return clamp(current, max(1, autoscale.min), autoscale.max)


def decide(
    autoscale: Autoscale,
    current: int,
    readings: Sequence[Reading],
    traffic: Traffic | None,
    window: Window,
    now_s: float,
    *,
    sleeps: bool,
) -> Decision:
    """How many replicas there should be now. ``current`` is what was said last; ``now_s`` is on the monotonic clock; ``sleeps``
    says whether it may (``may_sleep``)."""
    if current == 0 and sleeps:
        return _decide_asleep(traffic)
    least = max(1, autoscale.min)
    described = tuple(describe_reading(reading, current) for reading in readings)
    bounded = bound(current, autoscale, sleeps=sleeps)
    if bounded != current:
        window.begin(now_s, bounded)
        return Decision(
            replicas=bounded,
            message="it was brought between min and max",
            readings=described,
            reason=f"{current} is not between {least} and {autoscale.max}",
        )
    wish, decided_by = recommend([reading.measured for reading in readings], current, least=least, most=autoscale.max)
    replicas = window.settle(
        now_s,
        wish,
        current,
        up_after_s=autoscale.up_after_s,
        down_after_s=autoscale.down_after_s,
        gap_s=3 * autoscale.interval_s + 60,
    )
    unknown = [reading for reading in readings if not reading.measured.is_known]
    if replicas == 1 and wish == 1 and sleeps and not unknown:
        quiet_s = _quiet_s(traffic, now_s)
        if quiet_s is not None and quiet_s >= autoscale.idle_after_s and not any(map(_asks, readings)):
            words = f"no connection for {autoscale.idle_after_s} s"
            return Decision(replicas=0, message=_ASLEEP, readings=described, reason=words)
    return Decision(
        replicas=replicas,
        message=_describe(autoscale, current, wish, replicas, readings, unknown),
        readings=described,
        reason=_describe_reason(current, replicas, None if decided_by is None else described[decided_by]),
    )


_ASLEEP = "it sleeps, and goes on when somebody connects"


def _decide_asleep(traffic: Traffic | None) -> Decision:
    if traffic is not None and traffic.connections:
        return Decision(replicas=1, message="it is being woken", reason="somebody connects")
    return Decision(replicas=0, message=_ASLEEP)


def _quiet_s(traffic: Traffic | None, now_s: float) -> float | None:
    """For how long nobody is connected; None while somebody is."""
    if traffic is None or traffic.connections:
        return None
    return now_s - traffic.last_active


def _asks(reading: Reading) -> bool:
    """Whether a metric that is content with one replica would not be with none: a workload that counts something has work."""
    measured = reading.measured
    return reading.metric.type == "workload" and (sum(measured.values) > 0 or measured.missing > 0)


def _describe(
    autoscale: Autoscale, current: int, wish: int, replicas: int, readings: Sequence[Reading], unknown: Sequence[Reading]
) -> str:
    if not readings:
        return "no metric is given, so the number stays" if autoscale.min else "it sleeps once nobody connects for a while"
    if len(unknown) == len(readings):
        return f"nothing is known, so the number stays: {unknown[0].message}"
    if unknown:
        return f"{unknown[0].metric.type} is not known, so nothing is taken away: {unknown[0].message}"
    if replicas > current:
        return "there is more to do than so many can"
    if replicas < current:
        return "fewer are enough"
    if wish > current:
        return f"more would be needed; they are made when that lasted {autoscale.up_after_s} s"
    if wish < current:
        return f"fewer would be enough; they go when that lasted {autoscale.down_after_s} s"
    return "as many as are needed"


def _describe_reason(current: int, replicas: int, reading: MetricReading | None) -> str:
    if replicas == current:
        return ""
    if reading is None:
        return "fewer were enough for a while" if replicas < current else "more were needed for a while"
    unit = _UNITS.get(reading.type, "")
    name = reading.name or reading.type
    return f"{name} is {_format(reading.value)}{unit} a replica, and should be {_format(reading.target)}{unit}"


def describe_reading(reading: Reading, current: int) -> MetricReading:
    """What the status tells of it: the average over the replicas, rounded, so that it is not another one at every look."""
    measured, metric = reading.measured, reading.metric
    value: float | None = None
    if measured.total is not None:
        value = measured.total / max(1, current)
    elif measured.values:
        value = sum(measured.values) / len(measured.values)
    if value is not None:
        digits = _DIGITS.get(metric.type)
        value = float(f"{value:.{_SIGNIFICANT}g}") if digits is None else round(value, digits)
    return MetricReading(type=metric.type, name=metric.name, value=value, target=metric.target, message=reading.message)


def _format(value: float | None) -> str:
    return "not known" if value is None else f"{value:g}"
