"""The steps that change VMs: each is guarded by what it was decided on, and may be taken twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

import msgspec
import structlog

from volant.core.clock import Clock, format_time
from volant.core.deployment import Deployment, DeploymentRevision, replica_name
from volant.core.errors import AlreadyExists, Conflict, NotFound, QuotaExceeded, StaleRevision, VolantError
from volant.core.resource import Wanted
from volant.core.vm import VM
from volant.core.vm_revision import Author, build_revision
from volant.reconcile.deployment.drift import describe_replica, label_replica, repair, with_power_again
from volant.reconcile.deployment.replica import Replica
from volant.reconcile.owner import VMMaker
from volant.store.cache import Cache
from volant.store.contract import Key, Operation, RequireLive, RequireRevision, Store
from volant.store.quotas import QuotaLedger
from volant.store.records import create_of, key_of, read_resource, update_of

log = structlog.get_logger()

AT_ONCE = 16
A_PASS = 100
"""So many VMs are made or removed before it is looked again."""

A_TRANSACTION = 40
CREATE_LIMIT_S = 30.0


class Made(msgspec.Struct, kw_only=True):
    """What came of some steps. ``revision`` is the newest that they wrote."""

    done: list[int] = []
    failed: dict[int, VolantError] = {}
    revision: int = 0
    error: VolantError | None = None
    """What ended them early, as it would have ended each."""


class Steps:
    def __init__(self, store: Store, cache: Cache, clock: Clock, vms: VMMaker) -> None:
        self._store = store
        self._cache = cache
        self._clock = clock
        self._vms = vms
        self._ledger = QuotaLedger(store)

    @property
    def now(self) -> str:
        return format_time(self._clock.now())

    async def make(self, deployment: Deployment, jobs: Sequence[tuple[int, DeploymentRevision]]) -> Made:
        """Make the replicas of the indices in ``jobs``, some at a time. The first refusal that would be everyone's ends it."""
        made = Made()
        waiting = list(reversed(jobs[:A_PASS]))
        is_refused = False

        async def work() -> None:
            nonlocal is_refused
            while waiting and not is_refused:
                index, revision = waiting.pop()
                try:
                    vm = await self._make_one(deployment, index, revision)
                except VolantError as error:
                    made.failed[index] = error
                    is_refused = is_refused or not isinstance(error, AlreadyExists)
                else:
                    made.done.append(index)
                    made.revision = max(made.revision, vm.revision)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(AT_ONCE, len(waiting))):
                group.create_task(work())
        return made

    async def _make_one(self, deployment: Deployment, index: int, revision: DeploymentRevision) -> VM:
        wanted = Wanted(
            name=replica_name(deployment.name, index),
            labels=label_replica(deployment.name, revision),
            spec=describe_replica(revision),
        )
        author = Author(by=f"deployment {deployment.name}", reason=f"revision {revision.spec.number}")
        try:
            async with asyncio.timeout(CREATE_LIMIT_S):
                return await self._vms.create(wanted, project=deployment.meta.project, author=author, owner=deployment.uid)
        except AlreadyExists:
            stored = await self._store.get(Key(VM.kind, deployment.meta.project, wanted.name))
            if stored is not None and stored.data["meta"].get("owner") == deployment.uid:
                return read_resource(VM, stored)  # an earlier pass made it, and the cache has not seen that
            raise
        except TimeoutError as error:
            raise VolantError(f"{wanted.name} was not made within {CREATE_LIMIT_S:g} s") from error

    async def remove(self, deployment: Deployment, replicas: Iterable[Replica]) -> Made:
        """Delete replicas that are not available. One that has changed since is left for the next look."""
        return await self._each(deployment, replicas, self.mark_deleting)

    async def wake(self, deployment: Deployment, replicas: Iterable[Replica]) -> Made:
        return await self._each(deployment, replicas, with_power_again)

    async def suspend(self, deployment: Deployment, replicas: Iterable[Replica]) -> Made:
        def sleep(vm: VM) -> VM:
            meta = msgspec.structs.replace(vm.meta, generation=vm.meta.generation + 1)
            return msgspec.structs.replace(vm, meta=meta, spec=msgspec.structs.replace(vm.spec, power="suspended"))

        return await self._each(deployment, replicas, sleep)

    async def repair(self, deployment: Deployment, jobs: Iterable[tuple[Replica, DeploymentRevision]]) -> Made:
        """Put back what was changed by hand, or have the label say another revision of the same content."""
        revisions = {replica.uid: revision for replica, revision in jobs}
        author = Author(by=f"deployment {deployment.name}", reason="repaired")

        def change(vm: VM) -> VM:
            return repair(vm, revisions[vm.uid])

        def record(before: VM, after: VM) -> list[Operation]:
            return [create_of(build_revision(after, before, author, self.now))]

        return await self._each(deployment, [replica for replica, _ in jobs], change, record)

    async def take(self, deployment: Deployment, replicas: Sequence[Replica], counted: Sequence[Replica]) -> Made:
        """Delete replicas that are available, all or none: only while the deployment is as it was read, and the others that
        were ``counted`` on are as they were seen.

        Raises:
            StaleRevision: it is not so any more.
        """
        chosen = replicas[:A_TRANSACTION]
        operations: list[Operation] = [RequireRevision(key_of(deployment), deployment.revision)]
        for replica in chosen:
            operations.append(update_of(self.mark_deleting(self.read(deployment, replica))))
        operations += self.guard(deployment, counted, but=chosen)
        return Made(done=[one.index for one in chosen], revision=await self._store.transact(operations))

    def guard(self, deployment: Deployment, counted: Sequence[Replica], *, but: Sequence[Replica]) -> list[Operation]:
        """Guards that those who are ``counted`` on have not changed, as many as a transaction has room for."""
        spared = {replica.uid for replica in but}
        left = [replica for replica in counted if replica.uid not in spared]
        if len(left) > A_TRANSACTION:
            return []
        return [RequireRevision(self._key(deployment, one), self.read(deployment, one).revision) for one in left]

    def read(self, deployment: Deployment, replica: Replica) -> VM:
        """The VM as it was when it was decided on. Raises StaleRevision when it is not that any more."""
        stored = self._cache.get(self._key(deployment, replica))
        if stored is None or stored.data["meta"]["uid"] != replica.uid or stored.revision != replica.record:
            raise StaleRevision(f"the replica {replica.name} has changed")
        return read_resource(VM, stored)

    def mark_deleting(self, vm: VM) -> VM:
        meta = msgspec.structs.replace(vm.meta, deleting_at=self.now, generation=vm.meta.generation + 1)
        return msgspec.structs.replace(vm, meta=meta)

    def _key(self, deployment: Deployment, replica: Replica) -> Key:
        return Key(VM.kind, deployment.meta.project, replica.name)

    async def _each(
        self,
        deployment: Deployment,
        replicas: Iterable[Replica],
        change: Callable[[VM], VM],
        record: Callable[[VM, VM], list[Operation]] | None = None,
    ) -> Made:
        made = Made()
        waiting = list(reversed(list(replicas)[:A_PASS]))

        async def work() -> None:
            while waiting:
                replica = waiting.pop()
                try:
                    vm = self.read(deployment, replica)
                    if vm.deleting:
                        continue
                    changed = change(vm)
                    operations: list[Operation] = [RequireLive(key_of(vm)), update_of(changed)]
                    operations += await self._ledger.charge_vm(vm, changed)
                    operations += record(vm, changed) if record is not None else []
                    revision = await self._store.transact(operations)
                except QuotaExceeded as error:
                    log.warning("replica_over_quota", name=replica.name, error=str(error))
                except (Conflict, NotFound) as error:
                    log.debug("replica_changed_meanwhile", name=replica.name, error=str(error))
                except VolantError as error:
                    made.error = made.error or error
                    waiting.clear()
                else:
                    made.done.append(replica.index)
                    made.revision = max(made.revision, revision)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(AT_ONCE, len(waiting))):
                group.create_task(work())
        return made
