"""Stopping a replica by hand, within the disruption budget of its deployment."""

from __future__ import annotations

from volant.core.clock import Clock, format_time
from volant.core.deployment import DEPLOYMENT_LABEL, Deployment, wanted_replicas
from volant.core.disruption import has_limit, is_available, judge_disruption, with_disrupted
from volant.core.errors import OverBudget
from volant.core.vm import VM
from volant.store.cache import Cache
from volant.store.contract import Operation, Store
from volant.store.owned import OwnedReader
from volant.store.records import find_resource, update_of


class DisruptionGuard:
    """Gives what belongs into the transaction that stops a VM; nothing for one that no budget holds."""

    def __init__(self, store: Store, clock: Clock, cache: Cache | None = None) -> None:
        self._store = store
        self._owned = OwnedReader(store, cache)
        self._clock = clock

    async def allow(self, vm: VM, *, disrupt: bool) -> list[Operation]:
        """``disrupt``: whatever the budget says. The operation is guarded by the deployment's revision: StaleRevision means that
        somebody else stopped one, or that it has changed, so ask again.

        Raises:
            OverBudget: too many replicas would be down.
        """
        deployment = await self._find_deployment(vm)
        if deployment is None or deployment.deleting or not has_limit(deployment.spec.budget):
            return []
        now = self._clock.now()
        if not disrupt:
            refusal = await self._judge(deployment, vm)
            if refusal:
                raise OverBudget(
                    f"{vm.name} cannot be stopped now: of the deployment {deployment.name}, {refusal}",
                    hint="wait until more are available, or stop it all the same: --disrupt (disrupt=true)",
                )
        return [update_of(with_disrupted(deployment, vm.uid, format_time(now)))]

    async def _judge(self, deployment: Deployment, vm: VM) -> str:
        now, spec = self._clock.now(), deployment.spec
        own = await self._owned.list_of(VM, deployment, {DEPLOYMENT_LABEL: deployment.name})
        # The others as they were seen last; this one as it is.
        available = [one.uid for one in own if one.uid != vm.uid and is_available(one, spec.min_ready_s, now)]
        available += [vm.uid] if is_available(vm, spec.min_ready_s, now) else []
        return judge_disruption(spec.budget, wanted_replicas(deployment), available, deployment.status.disrupted, vm.uid)

    async def _find_deployment(self, vm: VM) -> Deployment | None:
        if vm.meta.owner is None:
            return None
        # By its name, not by its label: that may have been changed by hand.
        name = vm.name.rpartition("-")[0]
        found = await find_resource(self._store, Deployment, vm.meta.project, name) if name else None
        return found if found is not None and found.uid == vm.meta.owner else None
