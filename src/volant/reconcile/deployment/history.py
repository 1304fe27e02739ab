"""Revisions: those that nobody needs go, and the one that a rollback leads to is made."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from volant.core.claim import port_claim_name
from volant.core.clock import Clock
from volant.core.deployment import Deployment, DeploymentRevision, Rollout, build_deployment_revision
from volant.core.moment import format_time
from volant.reconcile.deployment.observe import Observed
from volant.store.contract import Delete, Key, Operation, Store
from volant.store.records import delete_of

A_TRANSACTION = 50


def find_superfluous(deployment: Deployment, observed: Observed) -> list[DeploymentRevision]:
    """Revisions beyond the limit, but for those that anything still is, leads to or may go back to."""
    status = deployment.status
    used = {deployment.spec.target, status.rollout.before, status.rollout.revision, status.serving}
    used |= {replica.revision for replica in observed.replicas}
    beyond = observed.numbers[::-1][deployment.spec.history_limit :]
    return [observed.revisions[number] for number in beyond if number not in used]


async def remove_revisions(store: Store, revisions: Sequence[DeploymentRevision]) -> int:
    return await store.transact([delete_of(revision) for revision in revisions[:A_TRANSACTION]])


async def release_ports(store: Store, deployment: Deployment) -> list[Operation]:
    """What gives back the ports of the host that the deployment has."""
    operations: list[Operation] = []
    for port in deployment.spec.ports:
        key = Key("Claim", "", port_claim_name(deployment.spec.vm.network, port.protocol, port.host_port))
        stored = await store.get(key)
        if stored is not None and stored.data["spec"]["owner_uid"] == deployment.uid:
            operations.append(Delete(key, stored.revision))
    return operations


def go_back(
    deployment: Deployment, observed: Observed, rollout: Rollout, why: str, clock: Clock
) -> tuple[Deployment, DeploymentRevision]:
    """``deployment`` on its way back to what ``rollout.before`` describes, and the revision that says so again."""
    before = observed.revisions[rollout.before]
    now = format_time(clock.now())
    number = max(*observed.numbers, deployment.spec.target) + 1
    labels = before.spec.vm_labels
    spec = msgspec.structs.replace(deployment.spec, vm=before.spec.vm, vm_labels=labels, target=number)
    meta = msgspec.structs.replace(deployment.meta, generation=deployment.meta.generation + 1)
    message = f"from revision {rollout.revision} back to what revision {rollout.before} was: {why}"
    cursor = Rollout(
        phase="RollingBack",
        revision=number,
        before=rollout.before,
        promoted=spec.promoted,
        started_at=now,
        progressed_at=now,
        message=message,
    )
    status = msgspec.structs.replace(deployment.status, rollout=cursor, replaced={})
    changed = msgspec.structs.replace(deployment, meta=meta, spec=spec, status=status)
    revision = build_deployment_revision(
        changed,
        before.spec.vm,
        number=number,
        token=before.spec.token,
        at=now,
        by="volantd",
        reason=f"rollback to {rollout.before}: {why}"[:500],
    )
    return changed, revision
