"""What a workload is asked again and again, and what is done at moments of its life."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from volant.core.part import Command, Milliseconds, Part, Port


class HttpRequest(Part, frozen=True, kw_only=True):
    """A request to the guest itself. ``port`` is that of ``workload.base_url`` unless it is given; 2xx and 3xx are well."""

    path: str = "/"
    port: Port | None = None
    host: str = "127.0.0.1"
    method: Literal["GET", "POST", "PUT", "HEAD"] = "GET"


class TcpConnect(Part, frozen=True, kw_only=True):
    """A connection that is accepted."""

    port: Port
    host: str = "127.0.0.1"


class Probe(Part, frozen=True, kw_only=True):
    """A question put to the workload again and again: exactly one of ``http``, ``tcp`` and ``exec`` (which ends with 0)."""

    http: HttpRequest | None = None
    tcp: TcpConnect | None = None
    exec: Command | None = None
    initial_delay_ms: Annotated[int, msgspec.Meta(ge=0, le=3_600_000)] = 0
    interval_ms: Annotated[int, msgspec.Meta(ge=50, le=3_600_000)] = 5000
    timeout_ms: Milliseconds = 1000
    success_threshold: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    failure_threshold: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 3


class Probes(Part, frozen=True, kw_only=True):
    """``startup``: nothing else is asked until it succeeds, and the workload is ended when it does not. ``readiness``: who fails
    it is not ready. ``liveness``: who fails it is ended, and its restart policy decides."""

    startup: Probe | None = None
    readiness: Probe | None = None
    liveness: Probe | None = None


class Hook(Part, frozen=True, kw_only=True):
    """Something done in the guest at a moment of the workload's life: exactly one of ``exec`` and ``http``."""

    exec: Command | None = None
    http: HttpRequest | None = None
    timeout_ms: Milliseconds = 10_000
