"""Quotas as the store keeps them: what is used is written in the transaction that uses it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import msgspec

from volant.core.deployment import Deployment
from volant.core.errors import StaleRevision
from volant.core.job import Job
from volant.core.quota import Quota, QuotaStatus
from volant.core.usage import NOTHING, add_usage, change_usage, usage_in, usage_of
from volant.core.vm import VM
from volant.store.contract import Operation, Store
from volant.store.records import list_resources, update_of

MAX_QUOTAS = 4
"""Of one project: each is part of every transaction that uses something."""


ATTEMPTS = 32

DEPLOYMENT, JOB = QuotaStatus(deployments=1), QuotaStatus(jobs=1)
"""What one of them counts for."""


class QuotaLedger:
    """Gives the operations that belong into a transaction; none where a project has no quota. They are guarded by the quota's
    revision: StaleRevision means that somebody else used something meanwhile, so ask again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turns: dict[str, asyncio.Lock] = {}
        self._limited: dict[str, bool] = {}
        """Whether a project had a quota when it was looked last."""

    async def list_of(self, project: str) -> list[Quota]:
        quotas = (await list_resources(self._store, Quota, project))[0]
        self._limited[project] = bool(quotas)
        return quotas

    @contextlib.asynccontextmanager
    async def turn(self, project: str) -> AsyncIterator[None]:
        """One at a time where there is a quota: those that go together would only have each other begin again. So it does no
        harm that nobody knows yet of one that has just been made."""
        if project not in self._limited:
            await self.list_of(project)
        if not self._limited[project]:
            yield
            return
        async with self._turns.setdefault(project, asyncio.Lock()):
            yield

    async def charge(self, project: str, before: QuotaStatus, after: QuotaStatus, what: str = "") -> list[Operation]:
        """What ``before`` becoming ``after`` uses. ``what`` is told who is refused.

        Raises:
            QuotaExceeded: a quota of the project does not allow it.
        """
        if before == after:
            return []
        return [
            update_of(msgspec.structs.replace(quota, status=used))
            for quota in await self.list_of(project)
            if (used := change_usage(quota, before, after, what)) != quota.status
        ]

    async def charge_vm(self, before: VM | None, after: VM) -> list[Operation]:
        """A VM that is made (``before`` is None) or changed. Raises QuotaExceeded."""
        old = NOTHING if before is None else usage_of(before)
        return await self.charge(after.meta.project, old, usage_of(after), f"the VM {after.name!r}")

    async def spend(self, project: str, used: QuotaStatus, operations: Sequence[Operation], what: str) -> int:
        """Write ``operations``, which make something that counts as ``used``; returns the revision.

        Raises:
            QuotaExceeded: a quota of the project does not allow it. Else what the operations raise.
        """
        async with self.turn(project):
            for _ in range(ATTEMPTS):
                charges = await self.charge(project, NOTHING, used, what)
                try:
                    return await self._store.transact([*operations, *charges])
                except StaleRevision:
                    if not charges:
                        raise
            raise StaleRevision(f"others keep using what the quotas of {project} allow", hint="try again")

    async def recount(self, project: str) -> list[Quota]:
        """Write down what is used as the records have it, and return the quotas that were wrong.

        Raises StaleRevision when somebody used something meanwhile: count again.
        """
        # First the quotas, then what is counted: who uses something between the two has made their revision an old one.
        quotas = await self.list_of(project)
        if not quotas:
            return []
        vms = (await self._store.list(VM.kind, project)).items
        used = NOTHING
        for stored in vms:
            used = add_usage(used, usage_in(stored.data))
        deployments = len((await self._store.list(Deployment.kind, project)).items)
        jobs = len((await self._store.list(Job.kind, project)).items)
        used = msgspec.structs.replace(used, deployments=deployments, jobs=jobs)
        wrong = [msgspec.structs.replace(quota, status=used) for quota in quotas if quota.status != used]
        if wrong:
            await self._store.transact([update_of(quota) for quota in wrong])
        return wrong

    async def credit(self, vm: VM) -> list[Operation]:
        """A VM that goes."""
        return await self.charge(vm.meta.project, usage_of(vm), NOTHING)
