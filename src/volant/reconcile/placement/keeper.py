"""The node keeper: what becomes of the VMs of a node that is lost, or that may not keep them. It runs on the leader."""

from __future__ import annotations

import contextlib
from typing import Protocol

import msgspec
import structlog

from volant.core.clock import Clock, format_time
from volant.core.condition import Condition, is_true, set_condition
from volant.core.deployment import Deployment
from volant.core.errors import AlreadyExists, NotFound, StaleRevision, VolantError
from volant.core.job import Job
from volant.core.node import BEAT_S, LOST_AFTER_S, NODE_READY, Node
from volant.core.vm import READY, VM
from volant.reconcile.placement.filters import describe_taint, tolerates
from volant.reconcile.placement.release import release_claims
from volant.reconcile.placement.watch import SilenceWatch
from volant.reconcile.recorder import Note, event_operation
from volant.reconcile.versions import forget_versions
from volant.store.cache import Cache
from volant.store.contract import Delete, Operation, Store, Stored
from volant.store.quotas import QuotaLedger
from volant.store.records import delete_of, key_of, read_resource, update_of

log = structlog.get_logger()

PERIOD_S = BEAT_S / 2
BY_NODE = "node"
"""The cache's index of VMs by the node that they are on."""

LOST_MESSAGE = "its node is lost"


class Evictor(Protocol):
    """Who may take a replica away, within its deployment's budget."""

    async def evict(self, vm: VM) -> str:
        """Have it deleted, so that it is made elsewhere. Returns why not, or nothing."""
        ...


class NodeKeeper:
    def __init__(self, store: Store, cache: Cache, clock: Clock, evictor: Evictor | None = None) -> None:
        self._store = store
        self._cache = cache
        self._clock = clock
        self._evictor = evictor
        self._ledger = QuotaLedger(store)

    async def run(self) -> None:
        """A task body; runs until cancelled. Whoever begins to lead knows of nobody how long he was silent, and waits anew."""
        watch = SilenceWatch(PERIOD_S)
        while True:
            try:
                await self.look(watch)
            except VolantError as error:
                log.warning("nodes_not_kept", error=str(error))
            await self._clock.sleep(PERIOD_S)

    async def look(self, watch: SilenceWatch) -> None:
        """One pass over all nodes."""
        nodes = [read_resource(Node, stored) for stored in self._cache.list(Node.kind)]
        silence = watch.silence({node.name: node.status.heard_at for node in nodes}, self._clock.monotonic())
        for node in nodes:
            if node.deleting:
                await self._remove(node)
            elif silence[node.name] >= LOST_AFTER_S:
                await self._lose(node)
            elif any(taint.effect == "NoExecute" for taint in node.spec.taints) and self._evictor is not None:
                await self._evict(node, self._evictor)

    async def _lose(self, node: Node) -> None:
        if is_true(node.status.conditions, NODE_READY) or not node.status.conditions:
            await self._write_lost(node)
        for stored in self._list_vms(node.name):
            vm = read_resource(VM, stored)
            owner = self._find_owner(vm)
            try:
                if owner is not None or vm.deleting:
                    await self.remove_record(vm, owner)
                else:
                    await self._tell_lost(vm)
            except (StaleRevision, NotFound, AlreadyExists):
                continue  # somebody else wrote; the next pass looks again

    async def _remove(self, node: Node) -> None:
        """It was judged when it was marked that what it still has may be given up."""
        for stored in self._list_vms(node.name):
            vm = read_resource(VM, stored)
            with contextlib.suppress(StaleRevision, NotFound, AlreadyExists):
                await self.remove_record(vm, self._find_owner(vm))
        if self._list_vms(node.name):
            return  # until the cache has seen that they are gone
        with contextlib.suppress(StaleRevision, NotFound):
            await self._store.transact([delete_of(node)])
            log.info("node_removed", node=node.name)

    async def _write_lost(self, node: Node) -> None:
        now = format_time(self._clock.now())
        message = f"not heard of since {node.status.heard_at or 'its registration'}"
        unknown = Condition(type=NODE_READY, status="Unknown", reason="Silent", message=message)
        status = msgspec.structs.replace(node.status, conditions=set_condition(node.status.conditions, unknown, now))
        log.warning("node_lost", node=node.name, heard_at=node.status.heard_at)
        try:
            await self._store.transact([update_of(msgspec.structs.replace(node, status=status))])
        except (StaleRevision, NotFound):
            return  # it has just been heard of, or removed

    async def remove_record(self, vm: VM, owner: Deployment | Job | None = None) -> None:
        """Take the record of a VM away whose node cannot: what may still run there is swept when the node comes back."""
        await forget_versions(self._store, vm)
        operations: list[Operation] = [Delete(key_of(vm), vm.revision)]
        operations += await release_claims(self._store, self._cache, vm)
        operations += await self._ledger.credit(vm)
        note = Note("Warning", "NodeLost", f"{vm.name} is given up: its node {vm.status.node} is lost")
        operations.append(event_operation(self._cache, owner or vm, note, format_time(self._clock.now())))
        await self._store.transact(operations)
        log.warning("vm_given_up", name=vm.name, node=vm.status.node)

    async def _tell_lost(self, vm: VM) -> None:
        if vm.status.reason == "NodeLost":
            return
        now = format_time(self._clock.now())
        unknown = Condition(type=READY, status="Unknown", reason="NodeLost", message=LOST_MESSAGE)
        status = msgspec.structs.replace(
            vm.status,
            ready=False,
            reason="NodeLost",
            message=LOST_MESSAGE,
            conditions=set_condition(vm.status.conditions, unknown, now),
        )
        note = event_operation(self._cache, vm, Note("Warning", "NodeLost", LOST_MESSAGE), now)
        await self._store.transact([update_of(msgspec.structs.replace(vm, status=status)), note])

    async def _evict(self, node: Node, evictor: Evictor) -> None:
        """What does not tolerate a taint goes, as fast as budgets allow; what nobody would make again elsewhere is stopped by
        whoever tainted, if it is to be."""
        taints = [taint for taint in node.spec.taints if taint.effect == "NoExecute"]
        for stored in self._list_vms(node.name):
            vm = read_resource(VM, stored)
            owner = self._find_owner(vm)
            unwelcome = [taint for taint in taints if not tolerates(vm.spec.placement.tolerations, taint)]
            if owner is None or vm.deleting or not unwelcome:
                continue
            refusal = await evictor.evict(vm)
            log.info("vm_evicted" if not refusal else "eviction_waits", name=vm.name, node=node.name, reason=refusal)
            if not refusal:
                await self._tell_evicted(vm, owner, describe_taint(unwelcome[0]))

    async def _tell_evicted(self, vm: VM, owner: Deployment | Job, why: str) -> None:
        note = Note("Normal", "Evicted", f"{vm.name} is moved away from {vm.status.node}: {why}")
        with contextlib.suppress(AlreadyExists, NotFound):
            await self._store.transact([event_operation(self._cache, owner, note, format_time(self._clock.now()))])

    def _list_vms(self, node: str) -> list[Stored]:
        return self._cache.by_index(BY_NODE, node)

    def _find_owner(self, vm: VM) -> Deployment | Job | None:
        """The deployment or the job that would make it again."""
        if vm.meta.owner is None:
            return None
        for stored in self._cache.by_index("uid", vm.meta.owner):
            if stored.key.kind == Deployment.kind:
                return read_resource(Deployment, stored)
            if stored.key.kind == Job.kind:
                return read_resource(Job, stored)
        return None
