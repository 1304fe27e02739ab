"""What is read of a replica's VM, and what is wrong with it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from volant.core.condition import Condition
from volant.core.deployment import DeploymentRevision, build_deployment_revision
from volant.core.ids import Uid
from volant.core.resource import Meta
from volant.core.vm import SCHEDULED, VM, EndRecord, VMSpec, VMStatus
from volant.reconcile.deployment.drift import describe_replica, label_replica
from volant.reconcile.deployment.healing import backoff_s
from volant.reconcile.deployment.replica import find_fault, read_replica

from .replica_world import build_deployment


def make_revisions() -> dict[int, DeploymentRevision]:
    deployment = build_deployment()
    specs = {1: VMSpec(plugin="nginx@1.0", memory_mb=128, ports=()), 2: VMSpec(plugin="nginx@1.0", memory_mb=256, ports=())}
    return {
        number: build_deployment_revision(deployment, spec, number=number, token=0, at="2026-01-01T00:00:00.000000Z")
        for number, spec in specs.items()
    }


def make_vm(number: int = 1, name: str = "web-7", **status: Any) -> VM:
    revision = make_revisions()[number]
    meta = Meta(name=name, uid=Uid("a" * 32), labels=label_replica("web", revision))
    return VM(meta=meta, spec=describe_replica(revision), status=VMStatus(started_token=0, **status))


def with_labels(vm: VM, labels: dict[str, str]) -> VM:
    return msgspec.structs.replace(vm, meta=msgspec.structs.replace(vm.meta, labels=labels))


def test_a_vm_tells_its_index_and_revision() -> None:
    found = read_replica(make_vm(2), "web", make_revisions())
    assert found is not None and (found.index, found.revision, found.drift) == (7, 2, None)
    assert read_replica(make_vm(name="web-x"), "web", make_revisions()) is None


@pytest.mark.parametrize("labels", [{}, {"volant.revision": "9"}, {"volant.revision": "none"}])
def test_one_whose_label_was_changed_is_known_by_what_it_is(labels: dict[str, str]) -> None:
    found = read_replica(with_labels(make_vm(1), labels), "web", make_revisions())
    assert found is not None and found.revision == 1
    assert found.drift is not None and not found.drift.replace and "labels.volant.revision" in found.drift.paths


def test_one_that_is_like_no_revision_has_none() -> None:
    vm = with_labels(make_vm(), {})
    changed = msgspec.structs.replace(vm, spec=msgspec.structs.replace(vm.spec, memory_mb=999))
    found = read_replica(changed, "web", make_revisions())
    assert found is not None and (found.revision, found.drift) == (0, None)


def test_one_that_has_no_node_says_why() -> None:
    condition = Condition(type=SCHEDULED, status="False", reason="Unschedulable", message="here: 512 MiB short of memory")
    found = read_replica(make_vm(conditions=(condition,)), "web", make_revisions())
    assert found is not None and found.blocked == "here: 512 MiB short of memory"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"phase": "Running", "reason": "AgentSilent"}, "AgentSilent"),
        ({"phase": "Running", "reason": "Unhealthy"}, "Unhealthy"),
        ({"phase": "Failed", "reason": "Restarting", "failures": 3}, "CrashLoop"),
        ({"phase": "Failed", "reason": "StartFailed", "failures": 3}, "StartFailed"),
        ({"phase": "Failed", "reason": "StartFailed", "failures": 1}, None),
        ({"phase": "Failed", "reason": "Untrusted"}, None),
        ({"phase": "Running", "reason": "WaitingForHealth"}, None),
        ({"phase": "Running", "reason": "", "ready": True}, None),
        ({"phase": "Starting", "reason": "Booting"}, None),
    ],
)
def test_what_waiting_may_not_help_is_a_fault(status: dict[str, Any], reason: str | None) -> None:
    fault = find_fault(make_vm(**status))
    assert (None if fault is None else fault.reason) == reason


def test_one_that_is_not_asked_to_run_has_no_fault() -> None:
    vm = make_vm(phase="Failed", reason="CrashLoop")
    assert find_fault(msgspec.structs.replace(vm, spec=msgspec.structs.replace(vm.spec, power="stopped"))) is None
    assert find_fault(msgspec.structs.replace(vm, spec=msgspec.structs.replace(vm.spec, restart_token=1))) is None


def test_one_that_ended_for_good_has_a_fault_however_it_ended() -> None:
    end = EndRecord(run_id="r", kind="powered_off", message="its workload ended", at="2026-01-01T00:00:00.000000Z", clean=True)
    vm = make_vm(phase="Stopped", reason="Ended", run_id="r", last_end=end)
    vm = msgspec.structs.replace(vm, spec=msgspec.structs.replace(vm.spec, restart_policy="never"))
    fault = find_fault(vm)
    assert fault is not None and fault.reason == "Ended"


def test_each_replacement_in_a_row_waits_longer() -> None:
    assert [backoff_s(count) for count in range(5)] == [0, 10, 20, 40, 80]
    assert backoff_s(1000) == 600
