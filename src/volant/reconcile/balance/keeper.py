"""The balance keeper: a balancer for every deployment that has ports, as deployments and their replicas come, change and go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from volant.core.clock import Clock
from volant.core.deployment import Deployment
from volant.core.errors import HostError
from volant.core.ids import Uid
from volant.core.vm import VM
from volant.net.fabric import Fabric
from volant.reconcile.balance.balancer import Balancer, Traffic
from volant.reconcile.guest_way import GuestWay, OpenPort
from volant.reconcile.owner import BY_OWNER
from volant.store.cache import Cache
from volant.store.contract import Change, Key, Store, Stored
from volant.store.records import read_resource

log = structlog.get_logger()

RESYNC_S = 60.0


class BalanceKeeper:
    """Listens on the ports of every deployment, and knows what goes through them."""

    def __init__(
        self,
        store: Store,
        cache: Cache,
        clock: Clock,
        fabric: Fabric,
        open_port: OpenPort | None = None,
        *,
        on_drained: Callable[[Uid], None] = lambda uid: None,
    ) -> None:
        """``on_drained`` is called when a replica whose end waits for its connections (``hold_end``) has none any more."""
        self._store = store
        self._cache = cache
        self._clock = clock
        self._fabric = fabric
        self._way = GuestWay(fabric, open_port)
        self._on_drained = on_drained
        self.on_wanted: Callable[[Key], None] = lambda key: None
        """Called when somebody comes to a deployment that sleeps; set by who can wake it."""
        self._balancers: dict[Key, tuple[Balancer, asyncio.Task[None]]] = {}
        self._by_uid: dict[Uid, Balancer] = {}
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """A task body; runs until cancelled, and then nothing is open. The cache must be run by somebody."""
        unsubscribe = self._cache.subscribe(self._on_change)
        try:
            await self._cache.wait_synced()
            async with asyncio.TaskGroup() as group:
                self._group = group
                try:
                    while True:
                        self._resync()
                        await self._clock.sleep(RESYNC_S)
                finally:
                    self._group = None
                    for key in list(self._balancers):
                        self._close(key)
        finally:
            unsubscribe()

    def find_traffic(self, uid: Uid) -> Traffic | None:
        """What goes through the ports of the deployment ``uid``; None when it has none."""
        balancer = self._by_uid.get(uid)
        return None if balancer is None else balancer.traffic

    def hold_end(self, vm: VM) -> float:
        """As Balancer.hold_end; 0 for a VM that is no replica behind a port."""
        balancer = self._by_uid.get(Uid(vm.meta.owner or ""))
        return 0.0 if balancer is None else balancer.hold_end(vm)

    def has_port(self, uid: Uid, host_port: int) -> bool:
        """True while connections to ``host_port`` are the deployment's."""
        balancer = self._by_uid.get(uid)
        return balancer is not None and balancer.has_port(host_port)

    def _on_change(self, change: Change, old: Stored | None) -> None:
        if change.key.kind == Deployment.kind:
            self._look(change.key)
        elif change.key.kind == VM.kind and self._by_uid:
            if old is not None and (change.type == "delete" or old.data["meta"]["uid"] != change.data["meta"]["uid"]):
                self._drop_replica(old)
            stored = self._cache.get(change.key)
            if stored is not None and change.type == "put":
                self._take_replica(stored)

    def _resync(self) -> None:
        for key in [*(stored.key for stored in self._cache.list(Deployment.kind)), *list(self._balancers)]:
            self._look(key)
        for balancer, _ in self._balancers.values():
            self._take_all(balancer)
            balancer.end_idle()

    def _look(self, key: Key) -> None:
        if self._group is None:
            return
        deployment = self._find(key)
        held = self._balancers.get(key)
        if held is not None and (deployment is None or held[0].deployment.uid != deployment.uid):
            self._close(key)
            held = None
        if deployment is None:
            return
        if held is not None:
            held[0].update(deployment)
            return
        balancer = Balancer(
            self._store,
            self._cache,
            self._clock,
            self._fabric,
            self._way,
            deployment,
            on_wanted=lambda asleep: self.on_wanted(Key(asleep.kind, asleep.meta.project, asleep.name)),
            on_drained=self._on_drained,
        )
        self._take_all(balancer)
        self._balancers[key] = balancer, self._group.create_task(balancer.run())
        self._by_uid[deployment.uid] = balancer

    def _find(self, key: Key) -> Deployment | None:
        """The deployment ``key`` when it has ports."""
        stored = self._cache.get(key)
        if stored is None or not stored.data["spec"].get("ports"):
            return None
        try:
            return read_resource(Deployment, stored)
        except HostError as error:
            log.warning("ports_unreadable", name=key.name, error=str(error))
            return None

    def _take_all(self, balancer: Balancer) -> None:
        there = self._cache.by_index(BY_OWNER, balancer.deployment.uid)
        uids = {stored.data["meta"]["uid"] for stored in there}
        for stored in there:
            if stored.key.kind == VM.kind:
                self._take(balancer, stored)
        for uid in balancer.members.uids:
            if uid not in uids:
                balancer.remove_replica(uid)

    def _take_replica(self, stored: Stored) -> None:
        balancer = self._by_uid.get(Uid(stored.data["meta"].get("owner") or ""))
        if balancer is not None:
            self._take(balancer, stored)

    def _take(self, balancer: Balancer, stored: Stored) -> None:
        try:
            balancer.update_replica(read_resource(VM, stored))
        except HostError as error:
            log.warning("replica_unreadable", name=stored.key.name, error=str(error))

    def _drop_replica(self, old: Stored) -> None:
        balancer = self._by_uid.get(Uid(old.data["meta"].get("owner") or ""))
        if balancer is not None:
            balancer.remove_replica(Uid(old.data["meta"]["uid"]))

    def _close(self, key: Key) -> None:
        balancer, task = self._balancers.pop(key)
        self._by_uid.pop(balancer.deployment.uid, None)
        balancer.leave()
        task.cancel()
