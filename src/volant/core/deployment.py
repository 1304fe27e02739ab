"""The deployment: a number of VMs of one description, kept true, and how they become those of another."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from volant.core.amount import Amount
from volant.core.autoscale import Autoscale, AutoscaleStatus
from volant.core.condition import Conditions
from volant.core.ids import Uid
from volant.core.part import Part
from volant.core.resource import Meta, Resource, Spec, Status
from volant.core.vm import PublishedPort, VMSpec

MAX_REPLICAS = 10_000
MAX_HISTORY = 100

DEPLOYMENT_LABEL = "volant.deployment"
"""Of a replica: its deployment's name. Labels that begin with ``volant.`` are Volant's own."""

REVISION_LABEL = "volant.revision"
"""Of a replica: the number of the revision that it was made of."""

AVAILABLE = "Available"
"""True while enough replicas are: the wanted number, less what its strategy lets be missing."""
PROGRESSING = "Progressing"
"""False once a rollout made no progress for its deadline."""
REPLICA_FAILURE = "ReplicaFailure"
"""True while a replica cannot be made, placed or kept running; its message says which and why."""


class CanaryStep(Part, frozen=True, kw_only=True):
    """``replicas`` of the new revision, which then have to stay available for ``pause_s``; None: until somebody resumes."""

    replicas: Amount
    pause_s: Annotated[int, msgspec.Meta(ge=0, le=7 * 86400)] | None = None


class Strategy(Part, frozen=True, kw_only=True):
    """How the VMs of one revision become those of the next.

    ``rolling``: a few at a time, never more than ``max_surge`` beyond the wanted number, never fewer available than that
    less ``max_unavailable``. ``recreate``: all old ones go first. ``blue-green``: a whole new set beside the old one; once all
    of it is available it serves, and the old set goes ``keep_old_s`` later; with ``promote`` ``manual`` it serves when somebody
    resumes. ``canary``: by ``steps``, then as ``rolling``.
    """

    type: Literal["rolling", "recreate", "blue-green", "canary"] = "rolling"
    max_surge: Amount = "25%"
    """A share is rounded up."""
    max_unavailable: Amount = 0
    """A share is rounded down."""
    promote: Literal["auto", "manual"] = "auto"
    keep_old_s: Annotated[int, msgspec.Meta(ge=0, le=7 * 86400)] = 60
    steps: Annotated[tuple[CanaryStep, ...], msgspec.Meta(max_length=32)] = ()


class Budget(Part, frozen=True, kw_only=True):
    """How many replicas may be down because somebody wanted it (a drain, a restart, a delete by hand). One of the two; with
    neither there is no limit but for rollouts, which keep to their strategy."""

    max_unavailable: Amount | None = None
    min_available: Amount | None = None


class DeploymentSpec(Spec, frozen=True, kw_only=True):
    replicas: Annotated[int, msgspec.Meta(ge=0, le=MAX_REPLICAS)] = 1
    """With ``autoscale`` only where it begins."""
    vm: VMSpec
    """What each replica is. Its ``plugin`` may be a plain name; a revision holds the version that this meant when it was made."""
    vm_labels: dict[str, str] = {}
    ports: tuple[PublishedPort, ...] = ()
    """Ports of the host that lead to a replica that is ready, each connection to another one."""
    strategy: Strategy = Strategy()
    min_ready_s: Annotated[int, msgspec.Meta(ge=0, le=86400)] = 0
    """A replica counts as available once it has been ready for so long."""
    progress_deadline_s: Annotated[int, msgspec.Meta(ge=1, le=86400)] = 600
    auto_rollback: bool = True
    """A rollout that makes no progress for the deadline, or whose canary fails, goes back to the revision before."""
    replace_after_s: Annotated[int, msgspec.Meta(ge=0, le=86400)] = 30
    """A replica whose agent is silent, that failed for good, or whose node is gone for so long is replaced by a new one."""
    history_limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_HISTORY)] = 10
    paused: bool = False
    """Healing and scaling go on; nothing is rolled out."""
    budget: Budget = Budget()
    autoscale: Autoscale | None = None
    target: Annotated[int, msgspec.Meta(ge=0)] = 0
    """The revision that replicas are to be of. Not configured: a change of ``vm`` or ``vm_labels``, undo and restart set it."""
    promoted: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Raised by one for every ``resume`` of a rollout that waits for somebody. Not configured."""


RolloutPhase = Literal["Complete", "Progressing", "Waiting", "Switched", "RollingBack", "RolledBack", "Failed"]
"""``Waiting``: for somebody to resume, or for the end of a pause. ``Switched``: a blue-green's old set is still kept."""


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """The cursor of the rollout that is under way, or of the last one."""

    phase: RolloutPhase = "Complete"
    revision: int = 0
    """The one that it leads to."""
    before: int = 0
    """The last one that was completed: where a rollback leads."""
    step: int = 0
    """Of a canary: the step that it is in, from 0."""
    step_at: str | None = None
    """When all that the step asks for was there."""
    promoted: int = 0
    """``spec.promoted`` that was seen when it began to wait."""
    started_at: str | None = None
    progressed_at: str | None = None
    """When it last made progress, for the deadline."""
    switched_at: str | None = None
    reached: int = 0
    """The most replicas of ``revision`` that were available at a time: one more is progress."""
    message: str = ""


class DeploymentStatus(Status, frozen=True, kw_only=True):
    phase: Literal["Pending", "Progressing", "Available", "Degraded", "Paused", "Failed", "Asleep"] = "Pending"
    message: str = ""
    wanted: int = 0
    """What is aimed at now: ``spec.replicas``, or what the autoscaler says."""
    replicas: int = 0
    """VMs that there are, of any revision."""
    updated: int = 0
    """Of them, those of the target revision."""
    ready: int = 0
    available: int = 0
    serving: int = 0
    """The revision that the deployment's ports lead to under blue-green; 0: all that are ready."""
    rollout: Rollout = Rollout()
    autoscale: AutoscaleStatus = AutoscaleStatus()
    disrupted: dict[str, str] = {}
    """Uids of replicas that somebody stops on purpose, and since when: written in the transaction that stops them, so that the
    budget holds whoever comes first. Taken out when they are gone or available again."""
    replaced: dict[str, int] = {}
    """By index: how often in a row the replica there was replaced because it failed. Each time it is waited longer."""
    conditions: Conditions = ()
    observed_generation: int = 0


class Deployment(Resource[DeploymentSpec, DeploymentStatus], frozen=True, kw_only=True):
    kind: ClassVar[str] = "Deployment"
    plural: ClassVar[str] = "deployments"
    spec_type: ClassVar[type[Spec]] = DeploymentSpec
    status_type: ClassVar[type[Status]] = DeploymentStatus


FINALIZER = "volant/replicas"
"""Held while it has replicas."""


class DeploymentRevisionSpec(Spec, frozen=True, kw_only=True):
    """``vm`` is whole: all that was left open is filled in, the plugin has its version. Two with one ``hash`` are the same."""

    deployment: str
    deployment_uid: Uid
    number: int
    hash: str
    vm: VMSpec
    vm_labels: dict[str, str] = {}
    token: int = 0
    """Raised by one by ``restart``, so that the same description is another revision."""
    at: str
    by: str = ""
    reason: str = ""


class DeploymentRevisionStatus(Status, frozen=True, kw_only=True):
    pass


class DeploymentRevision(Resource[DeploymentRevisionSpec, DeploymentRevisionStatus], frozen=True, kw_only=True):
    kind: ClassVar[str] = "DeploymentRevision"
    plural: ClassVar[str] = "deploymentrevisions"
    spec_type: ClassVar[type[Spec]] = DeploymentRevisionSpec
    status_type: ClassVar[type[Status]] = DeploymentRevisionStatus


def wanted_replicas(deployment: Deployment) -> int:
    """How many replicas there should be now. 0 with ``autoscale``: one may stay, asleep."""
    autoscale, said = deployment.spec.autoscale, deployment.status.autoscale.replicas
    if autoscale is None:
        return deployment.spec.replicas
    return min(max(deployment.spec.replicas if said is None else said, autoscale.min), autoscale.max)


def replica_name(deployment: str, index: int) -> str:
    """``web-0``: the names of replicas stay, whatever becomes of the VMs that have them."""
    return f"{deployment}-{index}"


def replica_index(deployment: str, vm: str) -> int | None:
    """The index in the name of a replica; None for a name that no replica has."""
    prefix, _, index = vm.rpartition("-")
    return int(index) if prefix == deployment and index.isdecimal() and str(int(index)) == index else None


def revision_name(uid: Uid, number: int) -> str:
    return f"{uid}.{number:010d}"


def hash_revision(vm: VMSpec, vm_labels: dict[str, str], token: int) -> str:
    """16 hexadecimal digits that follow from what replicas are."""
    content: dict[str, Any] = {"vm": msgspec.to_builtins(vm), "labels": vm_labels, "token": token}
    return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()[:16]


def build_deployment_revision(
    deployment: Deployment, vm: VMSpec, *, number: int, token: int, at: str, by: str = "", reason: str = ""
) -> DeploymentRevision:
    """Revision ``number`` of ``deployment``, with ``vm`` whole. It goes with the deployment."""
    spec = DeploymentRevisionSpec(
        deployment=deployment.name,
        deployment_uid=deployment.uid,
        number=number,
        hash=hash_revision(vm, deployment.spec.vm_labels, token),
        vm=vm,
        vm_labels=deployment.spec.vm_labels,
        token=token,
        at=at,
        by=by,
        reason=reason,
    )
    meta = Meta(
        name=revision_name(deployment.uid, number),
        uid=Uid(f"{deployment.uid[:22]}{number:010d}"),
        project=deployment.meta.project,
        labels={DEPLOYMENT_LABEL: deployment.name},
        created_at=at,
        owner=deployment.uid,
    )
    return DeploymentRevision(meta=meta, spec=spec, status=DeploymentRevisionStatus())
