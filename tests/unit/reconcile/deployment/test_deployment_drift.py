"""What somebody changed of a replica, and how it is put back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from volant.core.deployment import DeploymentRevision, build_deployment_revision
from volant.core.ids import Uid
from volant.core.resource import Meta
from volant.core.vm import VM, PublishedPort, VMSpec, VMStatus
from volant.reconcile.deployment.drift import describe_replica, find_drift, label_replica, repair, with_power_again

from .replica_world import build_deployment

SPEC = VMSpec(plugin="nginx@1.0", cpu_cores=1, memory_mb=256, disk_mb=1024, ports=(), network_mode="bridged")


def make_revision() -> DeploymentRevision:
    deployment = build_deployment(vm_labels={"tier": "web"})
    return build_deployment_revision(deployment, SPEC, number=3, token=0, at="2026-01-01T00:00:00.000000Z")


def make_replica(labels: dict[str, str] | None = None, **spec: Any) -> VM:
    revision = make_revision()
    meta = Meta(name="web-0", uid=Uid("a" * 32), labels={**label_replica("web", revision), **(labels or {})})
    return VM(meta=meta, spec=msgspec.structs.replace(describe_replica(revision), **spec), status=VMStatus())


def test_one_that_is_as_it_was_made_has_none() -> None:
    assert find_drift(make_replica(), make_revision()) is None
    assert find_drift(make_replica({"mine": "yes"}), make_revision()) is None
    assert find_drift(make_replica(power="suspended", restart_token=4, force_stop=True), make_revision()) is None


def test_what_differs_is_named_and_put_back() -> None:
    changed = make_replica({"tier": "db", "mine": "yes"}, memory_mb=512, env={"A": "1"})
    drift = find_drift(changed, make_revision())
    assert drift is not None and not drift.replace
    assert set(drift.paths) == {"labels.tier", "memory_mb", "env.A"}
    back = repair(changed, make_revision())
    assert back.spec == make_replica().spec
    assert back.meta.labels == {"tier": "web", "mine": "yes", "volant.deployment": "web", "volant.revision": "3"}
    assert back.meta.generation == changed.meta.generation + 1
    assert find_drift(back, make_revision()) is None


def test_a_label_that_was_taken_away_is_put_back() -> None:
    changed = make_replica()
    bare = msgspec.structs.replace(changed, meta=msgspec.structs.replace(changed.meta, labels={}))
    drift = find_drift(bare, make_revision())
    assert drift is not None and set(drift.paths) == {"labels.tier", "labels.volant.deployment", "labels.volant.revision"}


@pytest.mark.parametrize(
    "change",
    [
        {"disk_mb": 4096},
        {"ports": (PublishedPort(port=80, host_port=8080),)},
        {"plugin": "nginx@2.0"},
        {"extra_networks": ("b",)},
    ],
)
def test_what_cannot_be_put_back_has_the_replica_replaced(change: dict[str, Any]) -> None:
    drift = find_drift(make_replica(**change), make_revision())
    assert drift is not None and drift.replace and drift.paths == tuple(change)


def test_one_that_was_stopped_is_asked_for_another_run_and_one_that_sleeps_for_the_same() -> None:
    stopped = with_power_again(make_replica(power="stopped", force_stop=True, restart_token=2))
    assert (stopped.spec.power, stopped.spec.force_stop, stopped.spec.restart_token) == ("running", False, 3)
    asleep = with_power_again(make_replica(power="suspended", restart_token=2))
    assert (asleep.spec.power, asleep.spec.restart_token) == ("running", 2)
