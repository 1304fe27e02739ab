"""What may be asked of deployments. A change of what replicas are is a new revision, written with it in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from volant.core.clock import Clock, format_time
from volant.core.deployment import (
    FINALIZER,
    MAX_REPLICAS,
    Deployment,
    DeploymentSpec,
    DeploymentStatus,
    build_deployment_revision,
)
from volant.core.deployment_wait import DeploymentGoal, deployment_goal_reached, describe_rollout
from volant.core.errors import AlreadyExists, InvalidInput, NotFound, StaleRevision, TimedOut, WrongState
from volant.core.ids import new_uid
from volant.core.resource import Meta, Wanted
from volant.core.vm import VMSpec
from volant.core.vm_revision import NOBODY, Author
from volant.intent.changes import Changed, follow_one, follow_resources
from volant.intent.deployment_change import Content, DeploymentChanger, Draft, Step
from volant.intent.deployment_checks import check_deployment, check_deployment_name
from volant.intent.deployment_document import Edit, read_deployment_document, write_deployment_document
from volant.intent.deployment_history import RevisionEntry, RevisionHistory
from volant.intent.deployment_list import DEPLOYMENTS
from volant.intent.deployment_plan import DeploymentPlan, plan_change
from volant.intent.deployment_ports import change_claims
from volant.intent.deployment_settle import settle_replica
from volant.intent.follow import follow_resource
from volant.intent.listing import Ask, Filters, Lister, Page
from volant.intent.vm_checks import check_generation
from volant.intent.vms import VMIntent
from volant.store.cache import Cache
from volant.store.contract import Operation, RequireLive, Store
from volant.store.quotas import DEPLOYMENT, QuotaLedger
from volant.store.records import create_of, find_resource, key_of, update_of


class DeploymentIntent:
    def __init__(self, store: Store, clock: Clock, vms: VMIntent, *, cache: Cache | None = None) -> None:
        self._store = store
        self._clock = clock
        self._vms = vms
        self._lister = Lister(store, cache)
        self._ledger = QuotaLedger(store)
        self.history = RevisionHistory(store, cache)
        self._changer = DeploymentChanger(store, clock, vms, self.history)

    async def create(
        self,
        wanted: Wanted[DeploymentSpec],
        *,
        project: str = "default",
        author: Author = NOBODY,
        dry_run: bool = False,
    ) -> Deployment:
        """Write a deployment down with its first revision and its ports. Its controller makes the VMs.

        Raises:
            InvalidInput: what cannot be right; the field is a path. AlreadyExists: the name or a port is taken.
            WrongState: the plugin is disabled.
        """
        check_deployment_name(wanted.name)
        check_deployment(wanted.spec, wanted.labels)
        settled = await settle_replica(self._store, self._vms, wanted.spec.vm, project)
        now = format_time(self._clock.now())
        meta = Meta(
            name=wanted.name, uid=new_uid(), project=project, labels=wanted.labels, created_at=now, finalizers=(FINALIZER,)
        )
        spec = msgspec.structs.replace(wanted.spec, target=1, promoted=0)
        deployment = Deployment(meta=meta, spec=spec, status=DeploymentStatus())
        revision = build_deployment_revision(
            deployment, settled.vm, number=1, token=0, at=now, by=author.by, reason=author.reason
        )
        operations: list[Operation] = [RequireLive(key) for key in settled.needs]
        operations += [create_of(deployment), create_of(revision), *change_claims(None, deployment, now)]
        if dry_run:
            await self._changer.check_free(deployment)
            return deployment
        try:
            written = await self._ledger.spend(project, DEPLOYMENT, operations, f"the deployment {deployment.name!r}")
        except AlreadyExists:
            await self._changer.check_free(deployment)
            raise
        except NotFound as error:
            raise InvalidInput(
                f"what it is made from was removed in the meantime: {error.message}", field="vm", hint="try again"
            ) from error
        return msgspec.structs.replace(deployment, revision=written)

    async def get(self, name: str, *, project: str = "default") -> Deployment:
        return await self._changer.get(name, project)

    async def list_page(self, ask: Ask, *, project: str = "default") -> Page[Deployment]:
        """Raises InvalidInput for an order, a filter or a cursor that cannot be."""
        return await self._lister.list_page(DEPLOYMENTS, project, ask)

    async def replace(
        self,
        name: str,
        wanted: Wanted[DeploymentSpec],
        *,
        project: str = "default",
        expected_generation: int | None = None,
        author: Author = NOBODY,
        dry_run: bool = False,
    ) -> Deployment:
        """Have it be as ``wanted``; its place in the rollout stays. Raises as ``edit``."""
        if wanted.name != name:
            raise InvalidInput("the name of a deployment cannot be changed", field="name", hint=f"it is {name}")

        async def decide(before: Deployment) -> Step:
            kept = msgspec.structs.replace(wanted.spec, target=before.spec.target, promoted=before.spec.promoted)
            return Step(spec=kept, labels=wanted.labels)

        return await self._changer.change(name, project, decide, expected_generation, author, dry_run=dry_run)

    async def edit(
        self,
        name: str,
        edit: Edit,
        *,
        project: str = "default",
        expected_generation: int | None = None,
        author: Author = NOBODY,
        dry_run: bool = False,
    ) -> Deployment:
        """Change what ``edit`` makes of its document.

        Raises:
            NotFound. InvalidInput: what cannot be right. AlreadyExists: a port is another's. WrongState: it is being deleted, or
                is scaled by itself. StaleRevision: it is not at ``expected_generation``.
        """

        async def decide(before: Deployment) -> Step:
            labels, spec = read_deployment_document(edit(write_deployment_document(before)), before)
            if spec.replicas != before.spec.replicas and spec.autoscale is not None and before.spec.autoscale is not None:
                raise _refuse_scale(before)
            return Step(spec=spec, labels=labels)

        return await self._changer.change(name, project, decide, expected_generation, author, dry_run=dry_run)

    async def scale(
        self,
        name: str,
        replicas: int,
        *,
        project: str = "default",
        expected_generation: int | None = None,
        author: Author = NOBODY,
        dry_run: bool = False,
    ) -> Deployment:
        """Raises WrongState for one that is scaled by itself; else as ``edit``."""
        if not 0 <= replicas <= MAX_REPLICAS:
            raise InvalidInput(f"a deployment has 0 to {MAX_REPLICAS} replicas, not {replicas}", field="replicas")

        async def decide(before: Deployment) -> Step:
            if before.spec.autoscale is not None:
                raise _refuse_scale(before)
            return _step(before, replicas=replicas)

        return await self._changer.change(name, project, decide, expected_generation, author, dry_run=dry_run)

    async def pause(self, name: str, *, project: str = "default", expected_generation: int | None = None) -> Deployment:
        """Roll nothing out until it is resumed; healing and scaling go on."""

        async def decide(before: Deployment) -> Step:
            return _step(before, paused=True)

        return await self._changer.change(name, project, decide, expected_generation, NOBODY)

    async def resume(self, name: str, *, project: str = "default", expected_generation: int | None = None) -> Deployment:
        """Go on with what was paused, and with a rollout that waits for somebody. One that does neither stays as it is."""

        async def decide(before: Deployment) -> Step:
            rollout = before.status.rollout
            # A resume that the controller has not looked at yet is not one more step.
            waits = rollout.phase == "Waiting" and before.spec.promoted == rollout.promoted
            return _step(before, paused=False, promoted=before.spec.promoted + (1 if waits else 0))

        return await self._changer.change(name, project, decide, expected_generation, NOBODY)

    async def restart(
        self,
        name: str,
        *,
        project: str = "default",
        expected_generation: int | None = None,
        author: Author = NOBODY,
        dry_run: bool = False,
    ) -> Deployment:
        """Replace its VMs by others of the same description, as its strategy says. Raises WrongState while it is paused."""

        async def decide(before: Deployment) -> Step:
            if before.spec.paused:
                raise WrongState(
                    f"the deployment {name!r} is paused, so that nothing is rolled out",
                    hint=f"volar deployments rollout resume {name}",
                )
            known = await self.history.list_of(before)
            now = await self.history.find(before, before.spec.target)
            token = max(one.spec.token for one in (*known, now)) + 1
            return _step(before, content=Content(now.spec.vm, token), reason="restart")

        return await self._changer.change(name, project, decide, expected_generation, author, dry_run=dry_run)

    async def undo(
        self,
        name: str,
        number: int | None = None,
        *,
        project: str = "default",
        expected_generation: int | None = None,
        author: Author = NOBODY,
        dry_run: bool = False,
    ) -> Deployment:
        """Have replicas be as revision ``number`` says, or as they were before. That is a new revision.

        Raises:
            NotFound: there is no such deployment or revision. WrongState: it was never anything else, or is that already.
        """

        async def decide(before: Deployment) -> Step:
            chosen = await (self.history.find_before(before) if number is None else self.history.find(before, number))
            old = chosen.spec
            now = await self.history.find(before, before.spec.target)
            if old.hash == now.spec.hash:
                raise WrongState(f"the deployment {name!r} is as revision {old.number} says already")
            # Its plugin, or what else it names, may be gone by now.
            await settle_replica(self._store, self._vms, _as_written(old.vm), project)
            content = Content(old.vm, old.token)
            return _step(
                before, content=content, reason=f"undo to revision {old.number}", vm=_as_written(old.vm), vm_labels=old.vm_labels
            )

        return await self._changer.change(name, project, decide, expected_generation, author, dry_run=dry_run)

    async def delete(
        self, name: str, *, project: str = "default", uid: str | None = None, expected_generation: int | None = None
    ) -> Deployment:
        """Mark it; it goes with its VMs. Deleting it again changes nothing."""
        while True:
            deployment = await self.get(name, project=project)
            if uid is not None and deployment.uid != uid:
                raise NotFound(f"the deployment {name!r} with uid {uid} is gone")
            check_generation(deployment, expected_generation)
            if deployment.deleting:
                return deployment
            meta = msgspec.structs.replace(
                deployment.meta, deleting_at=format_time(self._clock.now()), generation=deployment.meta.generation + 1
            )
            marked = msgspec.structs.replace(deployment, meta=meta)
            try:
                written = await self._store.transact([update_of(marked)])
            except StaleRevision:
                continue
            return msgspec.structs.replace(marked, revision=written)

    async def revisions(self, name: str, *, project: str = "default") -> list[RevisionEntry]:
        """Newest first."""
        return await self.history.describe(await self.get(name, project=project))

    async def revision(self, name: str, number: int, *, project: str = "default") -> RevisionEntry:
        """Raises NotFound."""
        deployment = await self.get(name, project=project)
        await self.history.find(deployment, number)
        return next(one for one in await self.history.describe(deployment) if one.revision.spec.number == number)

    async def plan(self, after: Deployment) -> DeploymentPlan:
        """What becoming ``after``, the answer of a dry run, would make of its VMs."""
        before = await find_resource(self._store, Deployment, after.meta.project, after.name)
        if before is None or before.uid != after.uid:
            return await plan_change(self._store, self.history, None, None, after, None)
        old = await self.history.find(before, before.spec.target)
        new = after.next_revision if isinstance(after, Draft) else None
        return await plan_change(self._store, self.history, before, old, after, new)

    async def wait(self, deployment: Deployment, goal: DeploymentGoal, *, timeout_s: float) -> Deployment | None:
        """Follow it until ``goal`` is reached or out of reach; None when it is gone.

        Raises:
            TimedOut: not within ``timeout_s``; the message says where it stands.
        """
        last: Deployment | None = deployment
        try:
            async with asyncio.timeout(timeout_s):
                async for current in follow_resource(self._store, Deployment, key_of(deployment), deployment.uid):
                    last = current
                    if current is None or deployment_goal_reached(current, goal):
                        return current
        except TimeoutError:
            assert last is not None
            raise TimedOut(
                f"the deployment {deployment.name!r} is not {goal} after {timeout_s:g} s: {describe_rollout(last)}",
                hint=f"volar deployments get {deployment.name}",
            ) from None
        return last

    async def watch(self, name: str, *, project: str = "default", since: int | None = None) -> AsyncIterator[Deployment | None]:
        """It now and after every change; None and the end when it is gone. Raises NotFound, Compacted."""
        async for current in follow_one(self._store, DEPLOYMENTS, await self.get(name, project=project), since):
            yield current

    def follow(
        self, filters: Filters, *, project: str = "default", since: int | None = None
    ) -> AsyncIterator[Changed[Deployment]]:
        """All deployments that ``filters`` choose; see follow_resources."""
        return follow_resources(self._store, DEPLOYMENTS, project, filters, since)


def _step(before: Deployment, *, content: Content | None = None, reason: str = "", **changes: Any) -> Step:
    spec = msgspec.structs.replace(before.spec, **changes)
    return Step(spec=spec, labels=before.meta.labels, content=content, reason=reason)


def _as_written(vm: VMSpec) -> VMSpec:
    """A revision's VM as the spec of a deployment, which may have no ports of its own."""
    return msgspec.structs.replace(vm, ports=None)


def _refuse_scale(deployment: Deployment) -> WrongState:
    return WrongState(
        f"the deployment {deployment.name!r} is scaled by itself, between its min and max",
        hint=f"volar deployments update {deployment.name} --set autoscale.min=N --set autoscale.max=N",
    )
