"""The end of a deployment: its replicas first, at once; then its revisions, its ports, and itself."""

from __future__ import annotations

from volant.core.clock import Clock
from volant.core.deployment import Deployment
from volant.core.errors import AlreadyExists, NotFound
from volant.core.usage import NOTHING
from volant.reconcile.deployment.history import release_ports, remove_revisions
from volant.reconcile.deployment.observe import Observed
from volant.reconcile.deployment.steps import Steps
from volant.reconcile.outcome import After, Again, Done, Outcome
from volant.reconcile.owner import list_owned
from volant.reconcile.recorder import Note, event_operation
from volant.store.cache import Cache
from volant.store.contract import Delete, Operation, Store
from volant.store.quotas import DEPLOYMENT, QuotaLedger
from volant.store.records import key_of

GOING_S = 30.0
CHANGED_AGAIN_S = 0.05


class Deleter:
    def __init__(self, store: Store, cache: Cache, clock: Clock, steps: Steps) -> None:
        self._store = store
        self._cache = cache
        self._clock = clock
        self._steps = steps

    async def step(self, deployment: Deployment, observed: Observed) -> tuple[Outcome, int]:
        """One step, and the revision that it wrote. Done once it is gone."""
        live = [replica for replica in observed.replicas if not replica.going]
        if live:
            made = await self._steps.remove(deployment, live)
            if made.error is not None:
                raise made.error
            # One that has changed since is not there yet to be seen as it is: that takes as long as it takes.
            return Again() if made.done else After(CHANGED_AGAIN_S), made.revision
        if list_owned(self._cache, deployment.uid):
            return After(GOING_S), 0  # each that goes is looked at
        if observed.revisions:
            return Again(), await remove_revisions(self._store, list(observed.revisions.values()))
        operations: list[Operation] = [Delete(key_of(deployment), deployment.revision)]
        operations += await release_ports(self._store, deployment)
        operations += await QuotaLedger(self._store).charge(deployment.meta.project, DEPLOYMENT, NOTHING)
        event = event_operation(self._cache, deployment, Note("Normal", "Deleted", "it is gone"), self._steps.now)
        try:
            return Done(), await self._store.transact([*operations, event])
        except (AlreadyExists, NotFound):
            return Done(), await self._store.transact(operations)
