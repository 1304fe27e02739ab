"""The revisions of deployments in the store, and the VMs that are of each."""

from __future__ import annotations

from collections import Counter

import msgspec

from volant.core.changes import compare_configs, describe_config
from volant.core.deployment import DEPLOYMENT_LABEL, REVISION_LABEL, Deployment, DeploymentRevision, revision_name
from volant.core.errors import NotFound, WrongState
from volant.core.vm import VM
from volant.store.cache import Cache
from volant.store.contract import Store
from volant.store.owned import OwnedReader
from volant.store.records import find_resource


class RevisionEntry(msgspec.Struct, frozen=True, kw_only=True):
    """``changed`` are the paths that differ from the revision before; ``vms`` counts those that are of it, whatever they do."""

    revision: DeploymentRevision
    is_target: bool
    changed: tuple[str, ...]
    vms: int


class RevisionHistory:
    def __init__(self, store: Store, cache: Cache | None = None) -> None:
        self._store = store
        self._owned = OwnedReader(store, cache)

    async def list_of(self, deployment: Deployment) -> list[DeploymentRevision]:
        """Oldest first."""
        found = await self._owned.list_of(DeploymentRevision, deployment, {DEPLOYMENT_LABEL: deployment.name})
        return sorted(found, key=lambda one: one.spec.number)

    async def find(self, deployment: Deployment, number: int) -> DeploymentRevision:
        """Raises NotFound."""
        name = revision_name(deployment.uid, number)
        found = await find_resource(self._store, DeploymentRevision, deployment.meta.project, name)
        if found is None:
            raise NotFound(
                f"there is no revision {number} of the deployment {deployment.name!r}",
                hint=f"volar deployments rollout history {deployment.name}",
            )
        return found

    async def describe(self, deployment: Deployment) -> list[RevisionEntry]:
        """Newest first."""
        counted = Counter(vm.meta.labels.get(REVISION_LABEL, "") for vm in await self.list_replicas(deployment))
        entries: list[RevisionEntry] = []
        before: DeploymentRevision | None = None
        for revision in await self.list_of(deployment):
            number = revision.spec.number
            entries.append(
                RevisionEntry(
                    revision=revision,
                    is_target=number == deployment.spec.target,
                    changed=find_changed(before, revision),
                    vms=counted[str(number)],
                )
            )
            before = revision
        return entries[::-1]

    async def list_replicas(self, deployment: Deployment) -> list[VM]:
        """The VMs that are its own, by name; those that are being deleted too."""
        return await self._owned.list_of(VM, deployment, {DEPLOYMENT_LABEL: deployment.name})

    async def find_before(self, deployment: Deployment) -> DeploymentRevision:
        """Where an undo leads: what was there before a rollout that is not done, else the last one that describes something else.

        Raises:
            WrongState: there is none, or the one before is what a rollout had just to be rolled back from.
        """
        target = deployment.spec.target
        known = {one.spec.number: one for one in await self.list_of(deployment)}
        rollout = deployment.status.rollout
        if rollout.phase == "RolledBack" and rollout.revision == target:
            raise WrongState(
                f"the deployment {deployment.name!r} was rolled back already: {rollout.message}".rstrip(": "),
                hint=f"say where to: volar deployments rollout undo {deployment.name} --to N",
            )
        is_going = rollout.revision == target and rollout.phase not in ("Complete", "Switched", "RolledBack")
        if is_going and rollout.before in known and rollout.before != target:
            return known[rollout.before]
        now = known.get(target)
        for number in sorted(known, reverse=True):
            one = known[number]
            if number < target and (now is None or _content(one) != _content(now)):
                return one
        raise WrongState(
            f"the deployment {deployment.name!r} was never anything else",
            hint=f"volar deployments rollout history {deployment.name}",
        )


def find_changed(before: DeploymentRevision | None, after: DeploymentRevision) -> tuple[str, ...]:
    """The paths in which two revisions differ: ``vm.memory_mb``, ``vm_labels.tier``; ``restart`` where only that is new."""
    if before is None:
        return ()
    paths = tuple(
        f"vm_{each.path}" if each.path.startswith("labels.") else f"vm.{each.path}"
        for each in compare_configs(
            describe_config(before.spec.vm, before.spec.vm_labels), describe_config(after.spec.vm, after.spec.vm_labels)
        )
    )
    return paths or (("restart",) if before.spec.token != after.spec.token else ())


def _content(revision: DeploymentRevision) -> tuple[object, ...]:
    return revision.spec.vm, revision.spec.vm_labels
