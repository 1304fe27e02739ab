from __future__ import annotations

from typing import Any

import msgspec
import pytest

from volant.core.ids import Uid
from volant.core.manifest import Manifest, convert_manifest
from volant.core.readiness import is_readiness_told
from volant.core.resource import Meta
from volant.core.vm import VM, VMSpec, VMStatus
from volant.guest import document
from volant.guest.protocol import Hello
from volant.reconcile.guest_config import build_document
from volant.reconcile.guest_demands import AgentTooOld, check_agent

MEDIUM = {"url": "x", "checksum": "sha256:" + "1" * 64}
OLD = ("exec", "logs", "http_probe", "renew", "freeze", "sync", "clone")
NEW = (*OLD, "tty", "attach", "probes", "hooks", "ulimits", "dhcp")


def make_manifest(**changes: Any) -> Manifest:
    workload = {"base_url": "http://localhost:8080", "entrypoint": ["/bin/web"], **changes.pop("workload", {})}
    return convert_manifest(
        {
            "schema_version": "v1",
            "name": "web",
            "version": "1",
            "workload": workload,
            "boot": {"kernel": MEDIUM, "initramfs": MEDIUM},
            "rootfs": MEDIUM,
            **changes,
        }
    )


def build(manifest: Manifest, *, network: document.Network = document.Network(), **spec: Any) -> document.Document:  # noqa: B008
    vm = VM(meta=Meta(name="web", uid=Uid("0" * 32)), spec=VMSpec(plugin="web", **spec), status=VMStatus())
    built = build_document(vm, manifest, secret=bytes(32), entropy=bytes(64), unix_ns=1, network=network)
    document.encode_document(built)  # what the specification allows
    return built


def say(*capabilities: str) -> Hello:
    return Hello(version=1, agent="kestrel/x", boot_id="1", state="waiting", capabilities=capabilities)


def test_a_health_check_is_said_as_ever() -> None:
    told = build(make_manifest(health_check={"endpoint": "/up", "interval_ms": 2000}))
    health = told.workloads[0].health
    assert isinstance(health, document.HttpHealth)
    assert (health.host, health.port, health.path, health.interval_ms, health.start_interval_ms) == (
        "127.0.0.1",
        8080,
        "/up",
        2000,
        50,
    )
    assert told.workloads[0].probes is msgspec.UNSET
    check_agent(told, say(*OLD))


def test_http_readiness_is_said_in_both_ways_and_an_old_agent_will_do() -> None:
    told = build(make_manifest(probes={"readiness": {"http": {"path": "/up", "port": 9}, "failure_threshold": 7}}))
    workload = told.workloads[0]
    assert isinstance(workload.health, document.HttpHealth)
    assert (workload.health.port, workload.health.unhealthy_threshold) == (9, 7)
    assert isinstance(workload.probes, document.Probes)
    assert isinstance(workload.probes.readiness, document.HttpProbe)
    assert workload.probes.liveness is msgspec.UNSET
    check_agent(told, say(*OLD))


@pytest.mark.parametrize(
    ("changes", "lacking"),
    [
        ({"probes": {"readiness": {"tcp": {"port": 1}}}}, "probes"),
        ({"probes": {"readiness": {"http": {"method": "HEAD"}}}}, "probes"),
        ({"probes": {"liveness": {"http": {}}}}, "probes"),
        ({"health_check": {"endpoint": "/"}, "probes": {"startup": {"exec": ["a"]}}}, "probes"),
        ({"lifecycle": {"pre_stop": {"http": {}}}}, "hooks"),
        ({"workload": {"ulimits": {"nofile": {"soft": 1, "hard": 2}}}}, "ulimits"),
        ({"workload": {"tty": True}}, "tty"),
        ({"workload": {"stdin": True}}, "attach"),
        ({"probes": {"liveness": {"http": {}}}, "lifecycle": {"post_start": {"exec": ["a"]}}}, "probes and hooks"),
    ],
)
def test_what_an_old_agent_cannot_do_is_named(changes: dict[str, Any], lacking: str) -> None:
    told = build(make_manifest(**changes))
    with pytest.raises(AgentTooOld, match=f"its agent, kestrel/x, is too old for {lacking}: build its plugin again"):
        check_agent(told, say(*OLD))
    check_agent(told, say(*NEW))


def test_an_address_by_dhcp_needs_an_agent_that_asks() -> None:
    cards = document.Network(interfaces=(document.Interface(mac="02:00:00:00:00:01", name="eth0", dhcp=True),))
    with pytest.raises(AgentTooOld, match="too old for dhcp"):
        check_agent(build(make_manifest(), network=cards), say(*OLD))


def test_restarts_and_grace_are_the_manifests_and_the_vms() -> None:
    restart = {"policy": "never", "initial_backoff_ms": 10, "max_backoff_ms": 20, "reset_after_ms": 30, "max_restarts": 4}
    told = build(make_manifest(workload={"restart": restart}), restart_policy="on-failure", stop_grace_s=0).workloads[0]
    assert told.restart == document.Restart(
        policy="on-failure", initial_backoff_ms=10, max_backoff_ms=20, reset_after_ms=30, max_restarts=4
    )
    assert told.stop_grace_ms == 1


def test_programs_are_not_asked_twenty_times_a_second() -> None:
    told = build(make_manifest(probes={"readiness": {"exec": ["a"]}})).workloads[0].probes
    assert isinstance(told, document.Probes)
    assert isinstance(told.readiness, document.ExecProbe)
    assert told.readiness.start_interval_ms == 500


@pytest.mark.parametrize(
    ("changes", "is_told"),
    [
        ({}, False),
        ({"probes": {"liveness": {"http": {}}}}, False),
        ({"lifecycle": {"pre_stop": {"exec": ["a"]}}}, False),
        ({"health_check": {"endpoint": "/"}}, True),
        ({"probes": {"startup": {"http": {}}}}, True),
        ({"lifecycle": {"post_start": {"exec": ["a"]}}}, True),
    ],
)
def test_who_tells_when_it_is_ready(changes: dict[str, Any], is_told: bool) -> None:
    assert is_readiness_told(make_manifest(**changes)) is is_told
