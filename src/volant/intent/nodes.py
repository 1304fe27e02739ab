"""What may be asked of nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import msgspec

from volant.core.clock import Clock, format_time
from volant.core.condition import is_true
from volant.core.errors import InUse, InvalidInput, NotFound, StaleRevision, TimedOut, WrongState
from volant.core.node import NODE_READY, Node, NodeRoom, NodeSpec
from volant.core.resource import Wanted
from volant.core.vm import VM
from volant.intent.edited import Edit, edit_resource
from volant.intent.follow import follow_resource
from volant.intent.listing import Ask, Kind, Lister, Page
from volant.intent.vm_checks import check_generation, check_labels
from volant.store.cache import Cache
from volant.store.contract import Store
from volant.store.records import find_resource, key_of, list_resources, update_of

ATTEMPTS = 32
MAX_TAINTS = 32


Rooms = Callable[[Node], tuple[NodeRoom, NodeRoom]]
"""What a node's VMs hold, and what is free on it, as whoever keeps account of it has it."""


def _state(data: Mapping[str, Any]) -> str:
    conditions = data["status"].get("conditions") or ()
    if data["meta"].get("deleting_at"):
        return "Deleting"
    if conditions and not any(one["type"] == NODE_READY and one["status"] == "True" for one in conditions):
        return "Lost"
    return "Cordoned" if data["spec"]["unschedulable"] else "Ready"


NODES: Kind[Node] = Kind(
    cls=Node,
    fields={
        "name": lambda data: data["meta"]["name"],
        "created_at": lambda data: data["meta"]["created_at"],
        "state": _state,
        "cpu_cores": lambda data: data["status"]["cpu_cores"],
        "memory_mb": lambda data: data["status"]["memory_mb"],
    },
    texts=lambda data: (data["meta"]["name"], *data["meta"]["labels"], *data["meta"]["labels"].values()),
)


class NodeIntent:
    """``rooms`` fills in what is given out and free; without it neither is told."""

    def __init__(self, store: Store, clock: Clock, cache: Cache | None = None, rooms: Rooms | None = None) -> None:
        self._store = store
        self._clock = clock
        self._lister = Lister(store, cache)
        self._rooms = rooms

    async def get(self, name: str) -> Node:
        return self._describe(await self._find(name))

    async def list_page(self, ask: Ask) -> Page[Node]:
        """Raises InvalidInput for an order, a filter or a cursor that cannot be."""
        page = await self._lister.list_page(NODES, "", ask)
        return msgspec.structs.replace(page, items=tuple(map(self._describe, page.items)))

    async def replace(
        self, name: str, wanted: Wanted[NodeSpec], *, expected_generation: int | None = None, dry_run: bool = False
    ) -> Node:
        """Have what an operator decides of it be as ``wanted``. Nodes are made by their volantd alone.

        Raises:
            NotFound. InvalidInput: a label or a taint that cannot be. StaleRevision: it is not at ``expected_generation``.
        """
        if wanted.name != name:
            raise InvalidInput("the name of a node cannot be changed", field="name", hint=f"it is {name}")
        return await self._change(name, lambda node: wanted, expected_generation, dry_run=dry_run)

    async def edit(self, name: str, edit: Edit, *, expected_generation: int | None = None, dry_run: bool = False) -> Node:
        """Change what ``edit`` changes. Raises as ``replace``."""
        return await self._change(name, lambda node: edit_resource(node, edit), expected_generation, dry_run=dry_run)

    async def cordon(self, name: str) -> Node:
        """Nothing new is placed on it from now on."""
        return await self.edit(name, lambda before: {**before, "unschedulable": True})

    async def delete(self, name: str, *, expected_generation: int | None = None, force: bool = False) -> Node:
        """Mark it; the leader takes it away, and with ``force`` gives up what VMs it has.

        Raises:
            WrongState: its volantd is there. InUse: it has VMs. Neither with ``force``.
        """
        for _ in range(ATTEMPTS):
            node = await self._find(name)
            check_generation(node, expected_generation)
            if node.deleting:
                return self._describe(node)
            if not force:
                await self._check_deletable(node)
            meta = msgspec.structs.replace(
                node.meta, deleting_at=format_time(self._clock.now()), generation=node.meta.generation + 1
            )
            try:
                marked = msgspec.structs.replace(node, meta=meta)
                revision = await self._store.transact([update_of(marked)])
            except StaleRevision:
                continue
            return self._describe(msgspec.structs.replace(marked, revision=revision))
        raise StaleRevision(f"others keep changing the node {name!r}", hint="try again")

    async def wait_gone(self, node: Node, *, timeout_s: float) -> Node | None:
        """Follow it until it is gone. Raises TimedOut."""
        try:
            async with asyncio.timeout(timeout_s):
                following: AsyncIterator[Node | None] = follow_resource(self._store, Node, key_of(node), node.uid)
                async for current in following:
                    if current is None or not current.deleting:
                        return current
        except TimeoutError:
            raise TimedOut(
                f"node {node.name!r} was not gone after {timeout_s:g} s", hint=f"volar nodes get {node.name}"
            ) from None
        return None

    async def list_vms(self, name: str) -> list[VM]:
        """Every VM that is on the node, whatever its project; a pool's clones too."""
        vms, _ = await list_resources(self._store, VM, None)
        return [vm for vm in vms if vm.status.node == name]

    async def _check_deletable(self, node: Node) -> None:
        if is_true(node.status.conditions, NODE_READY):
            raise WrongState(
                f"the volantd of node {node.name!r} is there, and would register it again",
                hint="stop it first; --force gives up the node and its VMs",
            )
        vms = await self.list_vms(node.name)
        if vms:
            more = f" and {len(vms) - 1} more" if len(vms) > 1 else ""
            raise InUse(
                f"the node {node.name!r} has the VM {vms[0].name!r}{more}",
                hint="delete them, or: volar nodes delete --force, which gives them up",
            )

    async def _find(self, name: str) -> Node:
        node = await find_resource(self._store, Node, "", name)
        if node is None:
            raise NotFound(f"there is no node named {name!r}", hint="volar nodes list shows those there are")
        return node

    async def _change(
        self, name: str, settle: Callable[[Node], Wanted[NodeSpec]], expected: int | None, *, dry_run: bool
    ) -> Node:
        for _ in range(ATTEMPTS):
            node = await self._find(name)
            check_generation(node, expected)
            wanted = settle(node)
            _check(wanted)
            if wanted.spec == node.spec and wanted.labels == node.meta.labels:
                return self._describe(node)
            meta = msgspec.structs.replace(node.meta, generation=node.meta.generation + 1, labels=wanted.labels)
            changed = msgspec.structs.replace(node, meta=meta, spec=wanted.spec)
            if dry_run:
                return self._describe(changed)
            try:
                revision = await self._store.transact([update_of(changed)])
            except StaleRevision:
                continue  # most likely only its volantd saying that it is there
            return self._describe(msgspec.structs.replace(changed, revision=revision))
        raise StaleRevision(f"others keep changing the node {name!r}", hint="try again")

    def _describe(self, node: Node) -> Node:
        """``node`` with what is given out of it."""
        if self._rooms is None:
            return node
        given, free = self._rooms(node)
        return msgspec.structs.replace(node, status=msgspec.structs.replace(node.status, given=given, free=free))


def _check(wanted: Wanted[NodeSpec]) -> None:
    check_labels(wanted.labels)
    taints = wanted.spec.taints
    if len(taints) > MAX_TAINTS:
        raise InvalidInput(f"a node has at most {MAX_TAINTS} taints", field="taints")
    seen: set[tuple[str, str]] = set()
    for taint in taints:
        if not taint.key or len(taint.key) + len(taint.value) > 253 or any(mark in taint.key for mark in "=: ,"):
            raise InvalidInput(
                f"{taint.key[:40]!r} cannot be the key of a taint", field="taints", hint="as in gpu=yes:NoSchedule"
            )
        if (taint.key, taint.effect) in seen:
            raise InvalidInput(f"the taint {taint.key}:{taint.effect} is there twice", field="taints")
        seen.add((taint.key, taint.effect))
