"""Taking a VM away from its node on purpose, within the disruption budget of whoever makes it again elsewhere."""

from __future__ import annotations

import msgspec

from volant.core.clock import Clock, format_time
from volant.core.deployment import DEPLOYMENT_LABEL
from volant.core.errors import NotFound, OverBudget, StaleRevision
from volant.core.job import JOB_LABEL
from volant.core.vm import VM
from volant.intent.disruption import DisruptionGuard
from volant.store.cache import Cache
from volant.store.contract import Store
from volant.store.records import find_resource, update_of

ATTEMPTS = 8


class Eviction:
    def __init__(self, store: Store, clock: Clock, cache: Cache | None = None) -> None:
        self._store = store
        self._clock = clock
        self._guard = DisruptionGuard(store, clock, cache)

    async def evict(self, vm: VM, *, force: bool = False) -> str:
        """Have ``vm`` deleted, so that it is made elsewhere; with ``force`` whatever the budget says. Returns why not, or
        nothing. A VM that nobody would make again is never taken."""
        for _ in range(ATTEMPTS):
            found = await find_resource(self._store, VM, vm.meta.project, vm.name)
            if found is None or found.uid != vm.uid or found.deleting:
                return ""
            if found.meta.owner is None:
                return "nobody makes it again elsewhere"
            if JOB_LABEL in found.meta.labels and DEPLOYMENT_LABEL not in found.meta.labels and not force:
                return "it runs for a job, which would count it as failed"
            meta = msgspec.structs.replace(
                found.meta, deleting_at=format_time(self._clock.now()), generation=found.meta.generation + 1
            )
            try:
                allowed = await self._guard.allow(found, disrupt=force)
                await self._store.transact([update_of(msgspec.structs.replace(found, meta=meta)), *allowed])
            except OverBudget as error:
                return str(error)
            except (StaleRevision, NotFound):
                continue
            return ""
        return "others keep changing it"
