"""What there is of a deployment: its revisions and replicas, from the cache, each read once for every version of its record."""

from __future__ import annotations

import msgspec

from volant.core.clock import Clock
from volant.core.condition import find_condition
from volant.core.deployment import Deployment, DeploymentRevision
from volant.core.ids import Uid
from volant.core.moment import seconds_left
from volant.core.node import NODE_READY, Node
from volant.core.resource import from_stored
from volant.core.vm import VM
from volant.reconcile.deployment.replica import Replica, read_replica
from volant.reconcile.owner import BY_OWNER
from volant.store.cache import Cache
from volant.store.contract import Key
from volant.store.records import read_resource


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    revisions: dict[int, DeploymentRevision]
    replicas: tuple[Replica, ...]
    """By index."""
    next_s: float | None = None
    """When the next replica will have been ready for long enough."""

    def with_serving(self, number: int) -> Observed:
        """The same, where the revision ``number`` serves."""
        hash_ = _hash_of(self.revisions, number)
        judged = (
            msgspec.structs.replace(one, serving=hash_ is not None and _hash_of(self.revisions, one.revision) == hash_)
            for one in self.replicas
        )
        return msgspec.structs.replace(self, replicas=tuple(judged))

    @property
    def numbers(self) -> list[int]:
        return sorted(self.revisions)


class _Memory(msgspec.Struct):
    """What is remembered of one deployment between two passes; nothing is lost with it but time."""

    numbers: tuple[int, ...] = ()
    read: dict[Key, tuple[int, Replica | None]] = {}
    revisions: dict[Key, tuple[int, DeploymentRevision]] = {}
    unwell: dict[str, float] = {}
    """Since when a replica is unwell, by its uid, on the monotonic clock."""
    seen: dict[int, int] = {}
    """The revision that each index had last."""
    unsettled: int = 0
    """How many were on their way to be available, or to be gone."""
    mark: str = ""
    mark_at: float = 0.0


class Observer:
    def __init__(self, cache: Cache, clock: Clock) -> None:
        self._cache = cache
        self._clock = clock
        self._memories: dict[Uid, _Memory] = {}

    def forget(self, uid: Uid) -> None:
        self._memories.pop(uid, None)

    def size(self, uid: Uid) -> int:
        """How many replicas there were when it was looked last."""
        memory = self._memories.get(uid)
        return 0 if memory is None else len(memory.read)

    def count_unsettled(self, uid: Uid) -> int:
        """How many of them were on their way to be available, or to be gone."""
        memory = self._memories.get(uid)
        return 0 if memory is None else memory.unsettled

    def observe(self, deployment: Deployment) -> Observed:
        memory = self._memories.setdefault(deployment.uid, _Memory())
        owned = self._cache.by_index(BY_OWNER, deployment.uid)
        revisions: dict[int, DeploymentRevision] = {}
        kept: dict[Key, tuple[int, DeploymentRevision]] = {}
        for stored in owned:
            if stored.key.kind != DeploymentRevision.kind:
                continue
            found = memory.revisions.get(stored.key)
            if found is None or found[0] != stored.revision:
                found = (stored.revision, read_resource(DeploymentRevision, stored))
            kept[stored.key] = found
            revisions[found[1].spec.number] = found[1]
        memory.revisions = kept
        numbers = tuple(sorted(revisions))
        if numbers != memory.numbers:
            memory.numbers, memory.read = numbers, {}
        read: dict[Key, tuple[int, Replica | None]] = {}
        for stored in owned:
            if stored.key.kind == VM.kind:
                known = memory.read.get(stored.key)
                if known is None or known[0] != stored.revision:
                    vm = read_resource(VM, stored)
                    known = (stored.revision, read_replica(vm, deployment.name, revisions))
                read[stored.key] = known
        memory.read = read
        return self._judge(deployment, revisions, memory)

    def _judge(self, deployment: Deployment, revisions: dict[int, DeploymentRevision], memory: _Memory) -> Observed:
        now = self._clock.now()
        status = deployment.status
        lost, closed = self._find_nodes()
        hashes = {number: revision.spec.hash for number, revision in revisions.items()}
        target, serving = hashes.get(deployment.spec.target), hashes.get(status.serving)
        judged: list[Replica] = []
        moments: list[float] = []
        for key, (revision, replica) in memory.read.items():
            if replica is None:
                continue
            hash_ = hashes.get(replica.revision)
            is_current = hash_ is not None and hash_ == target and not (replica.drift is not None and replica.drift.replace)
            available = False
            if replica.ready_since is not None and not replica.going and replica.node not in lost:
                left = seconds_left(replica.ready_since, deployment.spec.min_ready_s, now)
                available = left <= 0
                if not available:
                    moments.append(left)
            is_serving = hash_ is not None and hash_ == serving
            is_disrupted = not available and replica.uid in status.disrupted
            is_held = replica.node in closed
            facts = (is_current, is_serving, available, is_disrupted, is_held)
            # Most are as they were: of a thousand at rest none is made anew.
            if facts != (replica.current, replica.serving, replica.available, replica.disrupted, replica.held):
                replica = msgspec.structs.replace(
                    replica, current=is_current, serving=is_serving, available=available, disrupted=is_disrupted, held=is_held
                )
                memory.read[key] = (revision, replica)
            judged.append(replica)
        judged.sort(key=lambda one: one.index)
        memory.unsettled = sum(not one.available or one.going for one in judged)
        self._remember(judged, memory)
        return Observed(revisions=revisions, replicas=tuple(judged), next_s=min(moments, default=None))

    def _remember(self, replicas: list[Replica], memory: _Memory) -> None:
        now = self._clock.monotonic()
        # One that fails again and again is unwell all the while, also in the moments at which it is being started.
        was = memory.unwell
        memory.unwell = {
            one.uid: was.get(one.uid, now)
            for one in replicas
            if not one.available and not one.going and (one.fault is not None or one.uid in was)
        }
        for replica in replicas:
            if not replica.going and replica.revision:
                memory.seen[replica.index] = replica.revision

    def unwell_s(self, deployment: Deployment, replica: Replica) -> float:
        """For how long ``replica`` is not available with something wrong with it, as far as this volantd has seen."""
        since = self._memories[deployment.uid].unwell.get(replica.uid)
        return 0.0 if since is None else self._clock.monotonic() - since

    def last_revision(self, deployment: Deployment, index: int) -> int:
        """The revision that the replica ``index`` had last; 0 when that is not known."""
        return self._memories[deployment.uid].seen.get(index, 0)

    def stalled_s(self, deployment: Deployment) -> float:
        """For how long ``rollout.progressed_at`` says the same, by the monotonic clock: a jump of the other is no standstill."""
        memory = self._memories[deployment.uid]
        rollout = deployment.status.rollout
        mark = f"{rollout.revision} {rollout.progressed_at} {deployment.status.phase == 'Paused'}"
        if memory.mark != mark:
            memory.mark, memory.mark_at = mark, self._clock.monotonic()
        return self._clock.monotonic() - memory.mark_at

    def _find_nodes(self) -> tuple[set[str], set[str]]:
        """Those that are lost, and those on which nothing is to start."""
        lost, closed = set(), set()
        for stored in self._cache.list(Node.kind):
            node = from_stored(Node, stored.data, stored.revision)
            ready = find_condition(node.status.conditions, NODE_READY)
            if ready is not None and ready.status != "True":
                lost.add(stored.key.name)
            if node.spec.unschedulable:
                closed.add(stored.key.name)
        return lost, closed


def _hash_of(revisions: dict[int, DeploymentRevision], number: int) -> str | None:
    found = revisions.get(number)
    return None if found is None else found.spec.hash
