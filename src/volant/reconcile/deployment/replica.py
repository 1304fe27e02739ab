"""A replica as the deployment controller sees it: plain facts, read once for every version of its VM's record."""

from __future__ import annotations

from datetime import datetime

import msgspec

from volant.core.condition import find_condition, is_true
from volant.core.deployment import REVISION_LABEL, DeploymentRevision, replica_index
from volant.core.disruption import ready_since
from volant.core.vm import RESTART_REQUIRED, SCHEDULED, VM, Power
from volant.reconcile.deployment.drift import Drift, find_drift
from volant.reconcile.vm_decision import ended_for_good

STARTS_IN_VAIN = 3

_FAULTS = {
    "AgentSilent",
    "CrashLoop",
    "LivenessFailed",
    "StartupFailed",
    "Unhealthy",
    "WorkloadEnded",
    "WorkloadFailed",
}
"""Why a started replica is not ready, where waiting may not help. One that has not been ready yet is given its time."""


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with a replica that should run: ``reason`` is one CamelCase word."""

    reason: str
    message: str


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """One VM of a deployment. What depends on the moment, or on others, is filled in by ``judge``."""

    name: str = ""
    index: int
    uid: str = ""
    record: int = 0
    """The store's revision of what was read: what is decided by it is done to nothing newer."""
    node: str = ""
    revision: int = 0
    """The number that its label says; 0 when there is no such revision."""
    going: bool = False
    """It is being deleted, and its name is not free yet."""
    power: Power = "running"
    held: bool = False
    """Nothing is to start on its node: what stands still there stands still."""
    ready_since: datetime | None = None
    ready: bool = False
    was_ready: bool = False
    """Its run has been ready before, and nobody asked for another."""
    fault: Fault | None = None
    crashed: bool = False
    """Its VM or its workload has ended unasked since it was made, or does not start."""
    blocked: str = ""
    """Why it has no node."""
    drift: Drift | None = None
    restart_due: bool = False
    current: bool = True
    """It is what the target revision describes."""
    serving: bool = False
    """Of blue-green: it is of the set that the ports lead to."""
    available: bool = False
    disrupted: bool = False

    @property
    def counts(self) -> bool:
        """Whether it is one of those that are available and that nobody stops."""
        return self.available and not self.disrupted and not self.going


def read_replica(vm: VM, deployment: str, revisions: dict[int, DeploymentRevision]) -> Replica | None:
    """The facts of ``vm``; None when it has no replica's name."""
    index = replica_index(deployment, vm.name)
    if index is None:
        return None
    label = vm.meta.labels.get(REVISION_LABEL, "")
    number = int(label) if label.isdecimal() and int(label) in revisions else _guess_revision(vm, revisions)
    revision = revisions.get(number)
    status = vm.status
    scheduled = find_condition(status.conditions, SCHEDULED)
    is_blocked = scheduled is not None and scheduled.status == "False" and scheduled.reason != "NotYet"
    # What it says has to be said of what is asked now, and of no run that is ending.
    is_seen = status.observed_generation == vm.meta.generation and status.started_token == vm.spec.restart_token
    return Replica(
        name=vm.name,
        index=index,
        uid=vm.uid,
        record=vm.revision,
        node=status.node,
        revision=number,
        going=vm.deleting,
        power=vm.spec.power,
        ready_since=ready_since(vm),
        ready=status.ready,
        was_ready=status.start is not None
        and status.start.duration_ms is not None
        and status.started_token == vm.spec.restart_token,
        fault=find_fault(vm),
        crashed=status.restarts > 0 or status.workload.restarts > 0 or status.phase == "Failed",
        blocked=scheduled.message or scheduled.reason if is_blocked and scheduled is not None else "",
        drift=None if revision is None or vm.deleting else find_drift(vm, revision),
        restart_due=is_seen and is_true(status.conditions, RESTART_REQUIRED),
    )


def _guess_revision(vm: VM, revisions: dict[int, DeploymentRevision]) -> int:
    """The newest revision that ``vm`` differs from in its labels alone; 0 when there is none."""
    for number in sorted(revisions, reverse=True):
        drift = find_drift(vm, revisions[number])
        if drift is None or all(path.startswith("labels.") for path in drift.paths):
            return number
    return 0


def find_fault(vm: VM) -> Fault | None:
    """What is wrong with ``vm``, if it is to run and cannot be expected to by waiting."""
    status = vm.status
    if vm.deleting or vm.spec.power != "running" or status.ready or status.started_token != vm.spec.restart_token:
        return None
    if ended_for_good(vm):
        return Fault(status.reason or "Ended", status.message)
    if status.reason == "Untrusted":
        return None  # another one would not be trusted either
    if status.reason == "StartFailed" and status.failures < STARTS_IN_VAIN:
        return None
    if status.phase == "Failed":
        reason = "CrashLoop" if status.reason == "Restarting" else status.reason or "Failed"
        return Fault(reason, status.message)
    return Fault(status.reason, status.message) if status.reason in _FAULTS else None
