"""The autoscaler: looks at every deployment that asks for it once an interval, and says how many replicas there should be."""

from __future__ import annotations

import msgspec
import structlog

from volant.core.autoscale import Autoscale, AutoscaleStatus
from volant.core.clock import Clock, format_time
from volant.core.deployment import Deployment
from volant.core.errors import AlreadyExists, NotFound, StaleRevision, VolantError
from volant.core.ids import Uid
from volant.core.vm import VM
from volant.node.door import NodeDoor
from volant.reconcile.autoscale.decision import Decision, begin_with, bound, decide, may_sleep
from volant.reconcile.autoscale.readings import FindTraffic, MetricReader
from volant.reconcile.autoscale.window import Window
from volant.reconcile.outcome import After, Done, Outcome
from volant.reconcile.owner import list_owned
from volant.reconcile.recorder import Note, event_operation
from volant.store.cache import Cache
from volant.store.contract import Key, Operation, Store
from volant.store.records import find_resource, read_resource, update_of

log = structlog.get_logger()

WRITES = 8
"""How often a write that another one came before is tried again within one look."""


class _Watched(msgspec.Struct):
    """``next_s`` is on the monotonic clock."""

    autoscale: Autoscale
    window: Window
    next_s: float
    uid: Uid


class AutoscaleController:
    """Implements engine.Controller for deployments, beside the one that makes their replicas: that reads what is said here.

    The wishes of the last while are in memory. Who begins anew begins with what there is (Window).
    """

    kind = Deployment.kind

    def __init__(self, store: Store, cache: Cache, clock: Clock, door: NodeDoor, find_traffic: FindTraffic) -> None:
        self._store = store
        self._cache = cache
        self._clock = clock
        self._find_traffic = find_traffic
        self._reader = MetricReader(door, clock, find_traffic)
        self._watched: dict[Key, _Watched] = {}

    async def reconcile(self, key: Key) -> Outcome:
        stored = self._cache.get(key)
        if stored is None or stored.data["spec"].get("autoscale") is None or stored.data["meta"].get("deleting_at"):
            self._forget(key)
            has_said = stored is not None and stored.data["status"].get("autoscale", {}).get("replicas") is not None
            return await self._clear(key) if has_said else Done()
        deployment = read_resource(Deployment, stored)
        autoscale = deployment.spec.autoscale
        assert autoscale is not None
        now_s = self._clock.monotonic()
        current = deployment.status.autoscale.replicas
        watched = self._watched.get(key)
        if watched is not None and watched.uid != deployment.uid:
            self._forget(key)
            watched = None
        if watched is None:
            watched = self._watched[key] = _Watched(autoscale, Window(), now_s, deployment.uid)
        if current is None:
            first = begin_with(deployment, autoscale)
            return await self._write(
                key, deployment.uid, None, Decision(replicas=first, message="it begins with what is asked for")
            )
        is_due = now_s >= watched.next_s or watched.autoscale != autoscale or self._is_woken(deployment)
        sleeps = may_sleep(deployment)
        if bound(current, autoscale, sleeps=sleeps) == current and not is_due:
            return After(watched.next_s - now_s)
        watched.autoscale, watched.next_s = autoscale, now_s + autoscale.interval_s
        # One that is not ready is left out: what it does is not what it will do.
        replicas = [vm for vm in list_owned(self._cache, deployment.uid) if _counts(vm)] if current else []
        readings = await self._reader.read(deployment, replicas) if current else []
        traffic = self._find_traffic(deployment.uid)
        decision = decide(autoscale, current, readings, traffic, watched.window, self._clock.monotonic(), sleeps=sleeps)
        return await self._write(key, deployment.uid, current, decision)

    async def report_failure(self, key: Key, error: VolantError, failures: int) -> None:
        """Its status says how the replicas are, which is another controller's; the log says this (Engine)."""

    def _is_woken(self, deployment: Deployment) -> bool:
        traffic = self._find_traffic(deployment.uid) if deployment.status.autoscale.replicas == 0 else None
        return traffic is not None and traffic.connections > 0

    def _forget(self, key: Key) -> None:
        watched = self._watched.pop(key, None)
        if watched is not None:
            self._reader.forget(watched.uid)

    async def _clear(self, key: Key) -> Outcome:
        """Nothing is said any more of a deployment that is not autoscaled."""
        deployment = await find_resource(self._store, Deployment, key.project, key.name)
        if deployment is None or deployment.spec.autoscale is not None or deployment.deleting:
            return Done()
        status = msgspec.structs.replace(deployment.status, autoscale=AutoscaleStatus())
        await self._store.transact([update_of(msgspec.structs.replace(deployment, status=status))])
        return Done()

    async def _write(self, key: Key, uid: Uid, current: int | None, decision: Decision) -> Outcome:
        """Write what was decided on the ground of ``current``, unless it is said already."""
        for _ in range(WRITES):
            deployment = await find_resource(self._store, Deployment, key.project, key.name)
            if deployment is None or deployment.uid != uid or deployment.spec.autoscale is None or deployment.deleting:
                return Done()
            after = After(deployment.spec.autoscale.interval_s)
            if deployment.status.autoscale.replicas != current:
                return after  # it was decided about what is no longer so
            try:
                await self._write_once(deployment, decision)
            except StaleRevision:
                continue  # others write other things of it; what was measured is as true as before
            return after
        raise StaleRevision(f"{key.name} is changed all the time")

    async def _write_once(self, deployment: Deployment, decision: Decision) -> None:
        before, now = deployment.status.autoscale, format_time(self._clock.now())
        is_changed = decision.replicas != before.replicas
        said = AutoscaleStatus(
            replicas=decision.replicas,
            at=before.at,
            changed_at=now if is_changed else before.changed_at,
            readings=decision.readings,
            message=decision.message,
        )
        if said == before:
            return
        said = msgspec.structs.replace(said, at=now)
        changed = msgspec.structs.replace(deployment, status=msgspec.structs.replace(deployment.status, autoscale=said))
        operations: list[Operation] = [update_of(changed)]
        if is_changed and before.replicas is not None:
            words = f"from {before.replicas} to {decision.replicas}: {decision.reason}"
            operations.append(event_operation(self._cache, deployment, Note("Normal", "Scaled", words), now))
            log.info("autoscaled", name=deployment.name, replicas=decision.replicas, reason=decision.reason)
        try:
            await self._store.transact(operations)
        except (AlreadyExists, NotFound):
            # The cache had not seen that this event came, or that it was swept; the number matters more than its count.
            await self._store.transact(operations[:1])


def _counts(vm: VM) -> bool:
    return vm.status.ready and not vm.deleting and vm.spec.power == "running"
