"""How a deployment becomes another: what it is to be, its revision and its claims, written down in one transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from volant.core.clock import Clock, format_time
from volant.core.deployment import Deployment, DeploymentRevision, DeploymentSpec, build_deployment_revision, hash_revision
from volant.core.errors import AlreadyExists, NotFound, StaleRevision, WrongState
from volant.core.vm import VMSpec
from volant.core.vm_revision import Author
from volant.intent.deployment_checks import check_deployment
from volant.intent.deployment_history import RevisionHistory
from volant.intent.deployment_ports import change_claims, find_port_conflict
from volant.intent.deployment_settle import settle_replica
from volant.intent.vm_checks import check_generation
from volant.intent.vms import VMIntent
from volant.store.contract import Operation, RequireLive, Store
from volant.store.records import create_of, find_resource, key_of, update_of

ATTEMPTS = 32


class Content(msgspec.Struct, frozen=True):
    """What a new revision holds that is not settled from the spec: another's, or the same begun anew."""

    vm: VMSpec
    token: int


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What a deployment is to become. ``reason`` is said of a new revision unless the caller said another."""

    spec: DeploymentSpec
    labels: dict[str, str]
    content: Content | None = None
    reason: str = ""


class Draft(Deployment, frozen=True, kw_only=True):
    """What a dry run answers: the deployment as it would be, and the revision that would be written with it, if another."""

    next_revision: DeploymentRevision | None = None


Decide = Callable[[Deployment], Awaitable[Step]]


class DeploymentChanger:
    def __init__(self, store: Store, clock: Clock, vms: VMIntent, history: RevisionHistory) -> None:
        self._store = store
        self._clock = clock
        self._vms = vms
        self._history = history

    async def change(
        self,
        name: str,
        project: str,
        decide: Decide,
        expected: int | None,
        author: Author,
        *,
        dry_run: bool = False,
    ) -> Deployment:
        """The deployment as ``decide`` says of it, of a dry run a Draft; as it was when that is nothing new. ``decide`` may be
        asked again.

        Raises:
            NotFound. WrongState: it is being deleted. StaleRevision: it is not at ``expected``. AlreadyExists: a port is taken.
            InvalidInput: what cannot be right.
        """
        for _ in range(ATTEMPTS):
            before = await self.get(name, project)
            check_generation(before, expected)
            if before.deleting:
                raise WrongState(f"the deployment {name!r} is being deleted")
            step = await decide(before)
            if step.content is None and step.spec == before.spec and step.labels == before.meta.labels:
                return before
            check_deployment(step.spec, step.labels)
            after, revision, operations = await self._write_down(before, step, author)
            if dry_run:
                await self.check_ports(after)
                return Draft(meta=after.meta, spec=after.spec, status=after.status, next_revision=revision)
            try:
                written = await self._store.transact(operations)
            except AlreadyExists:
                await self.check_ports(after)
            except (StaleRevision, NotFound):
                continue  # somebody wrote first, or it is gone: the next look tells which
            else:
                return msgspec.structs.replace(after, revision=written)
        raise StaleRevision(f"others keep changing the deployment {name!r}", hint="try again")

    async def get(self, name: str, project: str) -> Deployment:
        deployment = await find_resource(self._store, Deployment, project, name)
        if deployment is None:
            raise NotFound(f"there is no deployment named {name!r}", hint="volar deployments list shows those there are")
        return deployment

    async def _write_down(
        self, before: Deployment, step: Step, author: Author
    ) -> tuple[Deployment, DeploymentRevision | None, list[Operation]]:
        """``before`` as it will be, its new revision if that is another, and what makes it so."""
        now = format_time(self._clock.now())
        meta = msgspec.structs.replace(before.meta, generation=before.meta.generation + 1, labels=step.labels)
        after = msgspec.structs.replace(before, meta=meta, spec=step.spec)
        operations: list[Operation] = []
        revision: DeploymentRevision | None = None
        if step.content is not None:
            revision = await self._next_revision(before, after, step.content, now, author, step.reason)
        elif (step.spec.vm, step.spec.vm_labels) != (before.spec.vm, before.spec.vm_labels):
            old = await self._history.find(before, before.spec.target)
            settled = await settle_replica(self._store, self._vms, step.spec.vm, before.meta.project)
            operations += [RequireLive(key) for key in settled.needs]
            # What is only written in other words is no other description.
            if hash_revision(settled.vm, step.spec.vm_labels, old.spec.token) != old.spec.hash:
                content = Content(settled.vm, old.spec.token)
                revision = await self._next_revision(before, after, content, now, author, step.reason)
        if revision is not None:
            after = msgspec.structs.replace(after, spec=msgspec.structs.replace(after.spec, target=revision.spec.number))
            operations.append(create_of(revision))
        operations += [update_of(after), *change_claims(before, after, now)]
        return after, revision, operations

    async def _next_revision(
        self, before: Deployment, after: Deployment, content: Content, now: str, author: Author, reason: str
    ) -> DeploymentRevision:
        known = await self._history.list_of(before)
        highest = max([before.spec.target, *(one.spec.number for one in known)])
        return build_deployment_revision(
            after,
            content.vm,
            number=highest + 1,
            token=content.token,
            at=now,
            by=author.by,
            reason=author.reason or reason,
        )

    async def check_free(self, deployment: Deployment) -> None:
        if await self._store.get(key_of(deployment)) is not None:
            raise AlreadyExists(
                f"there is a deployment named {deployment.name!r} already",
                hint=f"choose another name, or: volar deployments update {deployment.name}",
            )
        await self.check_ports(deployment)

    async def check_ports(self, deployment: Deployment) -> None:
        conflict = await find_port_conflict(self._store, deployment)
        if conflict is not None:
            raise conflict
