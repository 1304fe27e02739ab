"""What may be asked of quotas."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from volant.core.clock import Clock, format_time
from volant.core.errors import AlreadyExists, Exhausted, InvalidInput, NotFound, StaleRevision
from volant.core.ids import check_name, new_uid
from volant.core.quota import Quota, QuotaSpec, QuotaStatus
from volant.core.resource import Meta, Wanted
from volant.intent.edited import Edit, edit_resource
from volant.intent.listing import Ask, Kind, Lister, Page
from volant.intent.vm_checks import check_generation, check_labels
from volant.store.cache import Cache
from volant.store.contract import Store
from volant.store.quotas import MAX_QUOTAS, QuotaLedger
from volant.store.records import create_of, delete_of, find_resource, update_of

ATTEMPTS = 32

QUOTAS: Kind[Quota] = Kind(
    cls=Quota,
    fields={"name": lambda data: data["meta"]["name"], "created_at": lambda data: data["meta"]["created_at"]},
    texts=lambda data: (data["meta"]["name"], *data["meta"]["labels"], *data["meta"]["labels"].values()),
)


class QuotaIntent:
    def __init__(self, store: Store, clock: Clock, cache: Cache | None = None) -> None:
        self._store = store
        self._clock = clock
        self._lister = Lister(store, cache)
        self._ledger = QuotaLedger(store)

    async def create(self, wanted: Wanted[QuotaSpec], *, project: str = "default", dry_run: bool = False) -> Quota:
        """Write a quota down, with what is used already. It may be less than that: then nothing more is given.

        Raises:
            InvalidInput: it limits nothing, or its name or labels cannot be. AlreadyExists: the name is taken.
            Exhausted: the project has as many as it may.
        """
        check_name(wanted.name)
        _check(wanted)
        if len(await self._ledger.list_of(project)) >= MAX_QUOTAS:
            raise Exhausted(f"a project has at most {MAX_QUOTAS} quotas", hint="volar quotas set changes one that there is")
        meta = Meta(
            name=wanted.name,
            uid=new_uid(),
            project=project,
            labels=wanted.labels,
            created_at=format_time(self._clock.now()),
        )
        quota = Quota(meta=meta, spec=wanted.spec, status=QuotaStatus())
        if await find_resource(self._store, Quota, project, wanted.name) is not None:
            raise _taken(wanted.name)
        if dry_run:
            return quota
        try:
            await self._store.transact([create_of(quota)])
        except AlreadyExists:
            raise _taken(wanted.name) from None
        # It is there before anything is counted: whoever uses something from now on has it changed, and the count begins again.
        for _ in range(ATTEMPTS):
            try:
                await self._ledger.recount(project)
            except StaleRevision:
                continue
            break
        return await self.get(wanted.name, project=project)

    async def get(self, name: str, *, project: str = "default") -> Quota:
        quota = await find_resource(self._store, Quota, project, name)
        if quota is None:
            raise NotFound(f"there is no quota named {name!r}", hint="volar quotas list shows those there are")
        return quota

    async def list_page(self, ask: Ask, *, project: str = "default") -> Page[Quota]:
        """Raises InvalidInput for an order, a filter or a cursor that cannot be."""
        return await self._lister.list_page(QUOTAS, project, ask)

    async def replace(
        self,
        name: str,
        wanted: Wanted[QuotaSpec],
        *,
        project: str = "default",
        expected_generation: int | None = None,
        dry_run: bool = False,
    ) -> Quota:
        """Have it be as ``wanted``. Raises NotFound, InvalidInput, StaleRevision when it is not at ``expected_generation``."""
        if wanted.name != name:
            raise InvalidInput("the name of a quota cannot be changed", field="name", hint=f"it is {name}")
        return await self._change(name, project, lambda quota: wanted, expected_generation, dry_run=dry_run)

    async def edit(
        self,
        name: str,
        edit: Edit,
        *,
        project: str = "default",
        expected_generation: int | None = None,
        dry_run: bool = False,
    ) -> Quota:
        """Change what ``edit`` changes. Raises as ``replace``."""
        return await self._change(name, project, lambda quota: edit_resource(quota, edit), expected_generation, dry_run=dry_run)

    async def delete(self, name: str, *, project: str = "default", expected_generation: int | None = None) -> None:
        """Nothing is limited by it any more. Raises NotFound, StaleRevision."""
        for _ in range(ATTEMPTS):
            quota = await self.get(name, project=project)
            check_generation(quota, expected_generation)
            try:
                await self._store.transact([delete_of(quota)])
            except StaleRevision:
                continue
            return
        raise StaleRevision(f"others keep changing the quota {name!r}", hint="try again")

    async def _change(
        self,
        name: str,
        project: str,
        settle: Callable[[Quota], Wanted[QuotaSpec]],
        expected: int | None,
        *,
        dry_run: bool,
    ) -> Quota:
        for _ in range(ATTEMPTS):
            quota = await self.get(name, project=project)
            check_generation(quota, expected)
            wanted = settle(quota)
            _check(wanted)
            if wanted.spec == quota.spec and wanted.labels == quota.meta.labels:
                return quota
            meta = msgspec.structs.replace(quota.meta, generation=quota.meta.generation + 1, labels=wanted.labels)
            changed = msgspec.structs.replace(quota, meta=meta, spec=wanted.spec)
            if dry_run:
                return changed
            try:
                revision = await self._store.transact([update_of(changed)])
            except StaleRevision:
                continue
            return msgspec.structs.replace(changed, revision=revision)
        raise StaleRevision(f"others keep changing the quota {name!r}", hint="try again")


def _check(wanted: Wanted[QuotaSpec]) -> None:
    check_labels(wanted.labels)
    if all(getattr(wanted.spec, name) is None for name in QuotaSpec.__struct_fields__):
        raise InvalidInput("a quota limits something", hint="one of: " + ", ".join(QuotaSpec.__struct_fields__))


def _taken(name: str) -> AlreadyExists:
    return AlreadyExists(f"there is a quota named {name!r} already", hint=f"change it: volar quotas set {name}")
