"""What is given out of every node, kept from the changes that the cache sees: a look costs the same however many VMs are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from volant.core.claim import device_claim_name
from volant.core.condition import is_true
from volant.core.hardware import Hardware
from volant.core.node import NODE_READY, Node, NodeRoom, whole_room
from volant.core.vm import SCHEDULED, VM
from volant.reconcile.placement.candidate import Candidate, Term, Wish
from volant.reconcile.placement.slots import Slots
from volant.reconcile.placement.tally import Placed, Tally
from volant.store.cache import Cache
from volant.store.contract import Change, Stored
from volant.store.records import read_resource


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What one VM holds of its node. One that is at rest holds nothing but its slot."""

    node: str
    cpu_cores: int = 0
    memory_mb: int = 0
    owner: str = ""
    placed: Placed | None = None
    """None for those that nobody is to be near to or apart from."""


class Assumed(msgspec.Struct, kw_only=True):
    """A placement that was decided and that the cache has not seen. ``revision`` is that of its write, 0 until it is known."""

    held: Held
    revision: int = 0


class Account:
    """Subscribes to ``cache`` for good, before it is run."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._nodes: dict[str, Node] = {}
        self._given: dict[str, NodeRoom] = {}
        self._slots: dict[str, Slots] = {}
        self._devices: dict[str, set[str]] = {}
        """Addresses that are claimed, by node."""
        self._kin: dict[str, dict[str, int]] = {}
        self._seen: dict[str, Held] = {}
        """By uid, what the cache says."""
        self._assumed: dict[str, Assumed] = {}
        self._counted: dict[str, Held] = {}
        """By uid, what is in the sums: what is assumed, or else what was seen."""
        self._tally = Tally(self._list_placed)
        cache.subscribe(self._on_change)

    def candidates(self) -> list[Candidate]:
        return [self._describe(node) for _, node in sorted(self._nodes.items())]

    def room(self, node: Node) -> tuple[NodeRoom, NodeRoom]:
        """``(given, free)`` of a node."""
        given, whole = self._given.get(node.name, NodeRoom()), whole_room(node)
        free = NodeRoom(
            vms=self._slots[node.name].left if node.name in self._slots else whole.vms,
            cpu_cores=round(max(0.0, whole.cpu_cores - given.cpu_cores), 2),
            memory_mb=max(0, whole.memory_mb - given.memory_mb),
        )
        return given, free

    def wish_of(self, vm: VM, hardware: Hardware) -> Wish:
        """Raises InvalidInput for a selector that cannot be read."""
        placement, project = vm.spec.placement, vm.meta.project
        owner = vm.meta.owner or ""
        kin = self._kin.get(owner, {}) if owner else {}
        affinity = tuple(Term(topology=one.topology, counts=self._tally.count(project, one.vms)) for one in placement.affinity)
        spread = tuple(
            Term(topology=one.topology, counts=self._tally.count(project, one.vms) if one.vms else kin)
            for one in placement.spread
        )
        return Wish(
            cpu_cores=vm.spec.cpu_cores or 0,
            memory_mb=vm.spec.memory_mb or 0,
            placement=placement,
            hardware=hardware,
            affinity=affinity,
            spread=spread,
            kin=kin,
            pinned=vm.status.node if vm.status.slot is not None else "",
            matches_itself=tuple(self._tally.chooses(project, one.vms, vm.meta.labels) for one in placement.affinity),
        )

    def slots_of(self, node: str) -> Slots:
        return self._slots.setdefault(node, Slots())

    def assume(self, vm: VM, node: str) -> None:
        """Count ``vm`` as placed on ``node`` from now on, until the cache says so, or ``forget``."""
        held = Held(
            node=node,
            cpu_cores=vm.spec.cpu_cores or 0,
            memory_mb=vm.spec.memory_mb or 0,
            owner=vm.meta.owner or "",
            placed=_placed(vm.meta.project, node, vm.meta.labels, vm.spec.power),
        )
        self._assumed[vm.uid] = Assumed(held=held)
        self._count(vm.uid)

    def settle(self, vm: VM, revision: int) -> None:
        """What was assumed was written at ``revision``."""
        assumed = self._assumed.get(vm.uid)
        if assumed is None:
            return
        assumed.revision = revision
        if self._cache.revision >= revision:
            del self._assumed[vm.uid]
            self._count(vm.uid)

    def forget(self, vm: VM) -> None:
        """What was assumed was not written."""
        if self._assumed.pop(vm.uid, None) is not None:
            self._count(vm.uid)

    def _describe(self, node: Node) -> Candidate:
        claimed = self._devices.get(node.name, set())
        return Candidate(
            node=node,
            ready=not node.status.conditions or is_true(node.status.conditions, NODE_READY),
            whole=whole_room(node),
            given=self._given.get(node.name, NodeRoom()),
            has_slot=self.slots_of(node.name).left > 0,
            devices=tuple(one for one in node.status.devices if one.address not in claimed),
        )

    def _list_placed(self) -> Iterator[Placed]:
        return (held.placed for held in self._counted.values() if held.placed is not None)

    def _on_change(self, change: Change, _old: Stored | None) -> None:
        match change.key.kind:
            case VM.kind:
                self._on_vm(change)
            case "Claim":
                self._on_claim(change)
            case Node.kind:
                if change.type == "delete":
                    self._nodes.pop(change.key.name, None)
                elif (stored := self._cache.get(change.key)) is not None:
                    self._nodes[change.key.name] = read_resource(Node, stored)

    def _on_vm(self, change: Change) -> None:
        uid = change.data["meta"]["uid"]
        assumed = self._assumed.get(uid)
        stored = self._cache.get(change.key)
        if change.type == "delete":
            # A clone that is taken passes to another record of the same uid, in one transaction.
            if self._seen.get(uid) is not None and not self._passed_on(uid):
                del self._seen[uid]
                self._assumed.pop(uid, None)
        else:
            self._seen[uid] = read_held(change.data)
            if assumed is not None and assumed.revision and stored is not None and stored.revision >= assumed.revision:
                del self._assumed[uid]
        self._count(uid)

    def _passed_on(self, uid: str) -> bool:
        return any(stored.key.kind == VM.kind for stored in self._cache.by_index("uid", uid))

    def _on_claim(self, change: Change) -> None:
        spec = change.data["spec"]
        node, thing = spec["node"], spec["thing"]
        if thing == "slot":
            slot = int(change.key.name.rpartition(".")[2])
            (self.slots_of(node).drop if change.type == "delete" else self.slots_of(node).put)(slot)
        elif thing == "device":
            address = change.key.name.removeprefix(device_claim_name(node, ""))
            claimed = self._devices.setdefault(node, set())
            (claimed.discard if change.type == "delete" else claimed.add)(address)

    def _count(self, uid: str) -> None:
        """Bring the sums to what is assumed of a VM, or else seen."""
        assumed = self._assumed.get(uid)
        new = self._seen.get(uid) if assumed is None else assumed.held
        old = self._counted.get(uid)
        if old == new:
            return
        if old is not None:
            self._add(old, -1)
            del self._counted[uid]
        if new is not None and new.node:
            self._add(new, 1)
            self._counted[uid] = new

    def _add(self, held: Held, by: int) -> None:
        given = self._given.get(held.node, NodeRoom())
        self._given[held.node] = NodeRoom(
            vms=given.vms + by,
            cpu_cores=given.cpu_cores + by * held.cpu_cores,
            memory_mb=given.memory_mb + by * held.memory_mb,
        )
        if held.placed is not None:
            (self._tally.put if by > 0 else self._tally.drop)(held.placed)
            if held.owner:
                counts = self._kin.setdefault(held.owner, {})
                counts[held.node] = counts.get(held.node, 0) + by
                if not counts[held.node]:
                    del counts[held.node]
                if not counts:
                    del self._kin[held.owner]


def read_held(data: Mapping[str, Any]) -> Held:
    """What the VM of this record holds: memory and cores from its placement on, until it is at rest."""
    meta, spec, status = data["meta"], data["spec"], data["status"]
    node = status["node"] if status["slot"] is not None else ""
    holds = bool(node) and holds_room(status)
    goes = meta.get("deleting_at") is not None
    return Held(
        node=node,
        cpu_cores=(spec["cpu_cores"] or 0) if holds else 0,
        memory_mb=(spec["memory_mb"] or 0) if holds else 0,
        owner=meta.get("owner") or "",
        placed=_placed(meta["project"], node, meta["labels"], spec["power"]) if node and not goes else None,
    )


def holds_room(status: Mapping[str, Any]) -> bool:
    """Whether the VM of this status has memory and cores of its node."""
    if status["slot"] is None:
        return False
    if status["pid"] is not None or status["started_at"] is not None:
        return True
    return not any(one["type"] == SCHEDULED and one["status"] == "False" for one in status["conditions"])


def _placed(project: str, node: str, labels: Mapping[str, str], power: str) -> Placed | None:
    return None if power == "parked" else Placed(project, node, labels)
