"""How many replicas there should be, by what they do: what is asked for, and what was seen."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from volant.core.part import Part, Port


class Metric(Part, frozen=True, kw_only=True):
    """One thing that is measured and the value that it should have on average over the replicas.

    ``cpu``: percent of a replica's cores. ``memory``: percent of its memory that the guest uses. ``connections``: open ones on
    the deployment's ports. ``workload``: the sample ``name`` (with ``labels``) that the workload itself tells at ``path`` of
    ``port`` in the Prometheus text format, fetched through the agent; a counter is taken ``per_second``.
    """

    type: Literal["cpu", "memory", "connections", "workload"]
    target: Annotated[float, msgspec.Meta(gt=0)]
    name: str = ""
    labels: dict[str, str] = {}
    path: str = "/metrics"
    port: Port | None = None
    per_second: bool = False


class Autoscale(Part, frozen=True, kw_only=True):
    """Between ``min`` and ``max``, as the metric that asks for most says.

    The highest wish of the last ``down_after_s`` and the lowest of the last ``up_after_s`` count, so that a moment changes
    nothing. With ``min`` 0 a deployment without a connection for ``idle_after_s`` sleeps: one replica stays, suspended, and goes
    on when somebody connects.
    """

    min: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 1
    max: Annotated[int, msgspec.Meta(ge=1, le=10_000)]
    metrics: Annotated[tuple[Metric, ...], msgspec.Meta(max_length=16)] = ()
    up_after_s: Annotated[int, msgspec.Meta(ge=0, le=3600)] = 0
    down_after_s: Annotated[int, msgspec.Meta(ge=0, le=86400)] = 300
    idle_after_s: Annotated[int, msgspec.Meta(ge=1, le=30 * 86400)] = 300
    interval_s: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 15


class MetricReading(msgspec.Struct, frozen=True, kw_only=True):
    """``value`` None: nobody could tell, and ``message`` says why."""

    type: str
    name: str = ""
    value: float | None = None
    target: float = 0.0
    message: str = ""


class AutoscaleStatus(msgspec.Struct, frozen=True, kw_only=True):
    replicas: int | None = None
    """What it says now; None while nothing is autoscaled. 0: one sleeps."""
    at: str | None = None
    changed_at: str | None = None
    readings: tuple[MetricReading, ...] = ()
    message: str = ""
