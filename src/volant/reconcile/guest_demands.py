"""What a manifest has the agent do for its workload, in the words of the configuration document."""

from __future__ import annotations

import msgspec

from volant.core.errors import InvalidInput, WrongState
from volant.core.manifest import Manifest, Workload, split_base_url
from volant.core.probe import Hook, HttpRequest, Probe
from volant.core.readiness import readiness_probe
from volant.guest import document
from volant.guest.protocol import Hello

ASKED_WHILE_STARTING_MS = 50
"""Between two questions to a workload that has not been ready yet."""

RUN_WHILE_STARTING_MS = 500
"""The same where a question is a program."""

LOCALHOST = "127.0.0.1"


def demand_probes(manifest: Manifest) -> document.Probes | msgspec.UnsetType:
    """Unset when no more is asked for than ``demand_health`` says already."""
    probes = manifest.probes
    if probes.startup is None and probes.readiness is None and probes.liveness is None:
        return msgspec.UNSET
    return document.Probes(
        startup=_probe_of(manifest, probes.startup),
        readiness=_probe_of(manifest, readiness_probe(manifest)),
        liveness=_probe_of(manifest, probes.liveness),
    )


def demand_health(manifest: Manifest) -> document.HttpHealth | msgspec.UnsetType:
    """Readiness by GET, as every agent understands it."""
    probe = readiness_probe(manifest)
    if probe is None or probe.http is None or probe.http.method != "GET":
        return msgspec.UNSET
    return document.HttpHealth(
        host=_host_of(manifest, probe.http),
        port=_port_of(manifest, probe.http),
        path=probe.http.path,
        interval_ms=probe.interval_ms,
        timeout_ms=probe.timeout_ms,
        start_interval_ms=ASKED_WHILE_STARTING_MS,
        unhealthy_threshold=probe.failure_threshold,
    )


def demand_hooks(manifest: Manifest) -> document.Hooks | msgspec.UnsetType:
    lifecycle = manifest.lifecycle
    if lifecycle.post_start is None and lifecycle.pre_stop is None:
        return msgspec.UNSET
    return document.Hooks(post_start=_hook_of(manifest, lifecycle.post_start), pre_stop=_hook_of(manifest, lifecycle.pre_stop))


def demand_ulimits(workload: Workload) -> document.Ulimits | msgspec.UnsetType:
    if not workload.ulimits:
        return msgspec.UNSET
    return msgspec.convert(msgspec.to_builtins(workload.ulimits), document.Ulimits)


class AgentTooOld(WrongState):
    """What the plugin asks for is beyond the agent that was built into it."""


def check_agent(told: document.Document, hello: Hello | None) -> None:
    """Raises AgentTooOld when the agent that said ``hello`` does not know what it is to be told."""
    if hello is None:
        return
    workload = told.workloads[0]
    # An http readiness probe is said in the old words as well, which are enough for an agent that knows no others.
    probes = workload.probes
    is_old_enough = workload.health is not msgspec.UNSET and (
        probes is msgspec.UNSET or (probes.startup is msgspec.UNSET and probes.liveness is msgspec.UNSET)
    )
    wanted = {
        "probes": probes is not msgspec.UNSET and not is_old_enough,
        "hooks": workload.hooks is not msgspec.UNSET,
        "ulimits": workload.ulimits is not msgspec.UNSET,
        "tty": workload.tty is True,
        "attach": workload.stdin is True,
        "dhcp": any(interface.dhcp for interface in told.network.interfaces),
    }
    lacking = [name for name, is_wanted in wanted.items() if is_wanted and name not in hello.capabilities]
    if lacking:
        raise AgentTooOld(
            f"its agent, {hello.agent}, is too old for {' and '.join(lacking)}: build its plugin again", hint="fledge build"
        )


def _probe_of(manifest: Manifest, probe: Probe | None) -> document.Probe | msgspec.UnsetType:
    if probe is None:
        return msgspec.UNSET
    eager_ms = ASKED_WHILE_STARTING_MS if probe.exec is None else RUN_WHILE_STARTING_MS
    times = {
        "initial_delay_ms": probe.initial_delay_ms,
        "interval_ms": probe.interval_ms,
        "timeout_ms": probe.timeout_ms,
        "start_interval_ms": min(eager_ms, probe.interval_ms),
        "success_threshold": probe.success_threshold,
        "failure_threshold": probe.failure_threshold,
    }
    if probe.exec is not None:
        return document.ExecProbe(argv=probe.exec, **times)
    if probe.tcp is not None:
        return document.TcpProbe(host=_literal(probe.tcp.host), port=probe.tcp.port, **times)
    assert probe.http is not None
    request = probe.http
    return document.HttpProbe(
        host=_host_of(manifest, request), port=_port_of(manifest, request), path=request.path, method=request.method, **times
    )


def _hook_of(manifest: Manifest, hook: Hook | None) -> document.Hook | msgspec.UnsetType:
    if hook is None:
        return msgspec.UNSET
    if hook.exec is not None:
        return document.ExecHook(argv=hook.exec, timeout_ms=hook.timeout_ms)
    assert hook.http is not None
    request = hook.http
    return document.HttpHook(
        host=_host_of(manifest, request),
        port=_port_of(manifest, request),
        path=request.path,
        method=request.method,
        timeout_ms=hook.timeout_ms,
    )


def _port_of(manifest: Manifest, request: HttpRequest) -> int:
    if request.port is not None:
        return request.port
    if not manifest.workload.base_url:
        raise InvalidInput("a request needs to know where the workload listens", field="workload.base_url")
    return split_base_url(manifest.workload.base_url)[1]


def _host_of(manifest: Manifest, request: HttpRequest) -> str:
    """Where the workload listens, unless the request says another place or port."""
    if request.port is None and request.host == LOCALHOST and manifest.workload.base_url:
        return _literal(split_base_url(manifest.workload.base_url)[0])
    return _literal(request.host)


def _literal(host: str) -> str:
    return LOCALHOST if host in ("localhost", "0.0.0.0") else host  # what programs call themselves
