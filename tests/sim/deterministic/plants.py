"""Defects that are put into volantd on purpose: a simulation that does not find them is worth nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from volant.core.queue import Why
from volant.plane import ControlPlane
from volant.store.contract import Create, Delete, Key, Operation

from .boundary import FaultyStore
from .world import World


def forget_writes(world: World) -> None:
    """The store acknowledges some writes and does not keep them."""

    def plant(plane: ControlPlane, store: FaultyStore) -> None:
        kept = store._store
        transact = kept.transact

        async def forgetful(operations: Sequence[Operation]) -> int:
            if any(isinstance(each, Create) and each.key.kind == "VM" for each in operations) and world.source.random() < 0.2:
                return world.registry.revision + 1
            return await transact(operations)

        kept.transact = forgetful  # type: ignore[method-assign]  # the defect

    world.planted = plant


def leak_claims(world: World) -> None:
    """A VM goes and leaves its addresses claimed."""
    _without(world, lambda operations: [each for each in operations if not _deletes(each, "Claim", "ip.")])


def delete_bystanders(world: World) -> None:
    """A controller that ends one more VM than it may: somebody's own."""

    def plant(plane: ControlPlane, store: FaultyStore) -> None:
        controller: Any = plane.vms._controller
        reconcile = controller.reconcile

        async def greedy(key: Key) -> Any:
            stored = await store.get(key)
            if stored is not None and stored.data["status"]["ready"] and world.source.random() < 0.01:
                meta = {**stored.data["meta"], "deleting_at": stored.data["meta"]["created_at"]}
                await store.transact([_update(stored.key, {**stored.data, "meta": meta}, stored.revision)])
            return await reconcile(key)

        controller.reconcile = greedy

    world.planted = plant


def kill_strangers(world: World) -> None:
    """What no resource answers for is ended, whoever it belongs to."""

    def plant(plane: ControlPlane, store: FaultyStore) -> None:
        sweep = plane.sweeper.sweep

        async def harsh() -> None:
            known = {data["meta"]["uid"] for key, data in world.registry.records.items() if key.kind == "VM"}
            for uid, process in world.host.running.items():
                if uid not in known and process.machine.name == "somebody-elses":
                    world.host.crash(uid, signal=9)
            await sweep()

        plane.sweeper.sweep = harsh  # type: ignore[method-assign]  # the defect

    world.planted = plant


def never_look_again(world: World) -> None:
    """A controller that looks only when something changes: not later, not now and then."""

    def plant(plane: ControlPlane, store: FaultyStore) -> None:
        queue = plane.vms.queue
        add = queue.add

        def add_changed(key: Key, why: Why = Why.CHANGE) -> None:
            if why != Why.RESYNC:
                add(key, why)

        queue.add = add_changed  # type: ignore[method-assign]  # the defect
        queue.add_after = lambda *args, **kwargs: None  # type: ignore[method-assign]  # the defect

    world.planted = plant


def take_one_too_many(world: World) -> None:
    """A deployment controller that thinks one replica more may be missing than its strategy says."""
    _bounds(world, lambda bounds: msgspec.structs.replace(bounds, least=max(0, bounds.least - 1)))


def make_one_too_many(world: World) -> None:
    """One that thinks there may be one VM more."""
    _bounds(world, lambda bounds: msgspec.structs.replace(bounds, most=bounds.most + 1))


def make_again(world: World) -> None:
    """One that does not wait until it knows of what it made."""

    def plant(plane: ControlPlane, store: FaultyStore) -> None:
        async def go_on(deployment: object) -> None:
            return

        plane.leader.deployment_controller._catch_up = go_on  # type: ignore[method-assign]  # the defect

    world.planted = plant


def _bounds(world: World, change: Callable[[Any], Any]) -> None:
    def plant(plane: ControlPlane, store: FaultyStore) -> None:
        from volant.reconcile.deployment import plan

        if not hasattr(plan.bound, "planted"):
            bound = plan.bound

            def wrong(wish: plan.Wish) -> plan.Bounds:
                changed: plan.Bounds = change(bound(wish))
                return changed

            wrong.planted = True  # type: ignore[attr-defined]  # once is enough
            plan.bound = wrong

    world.planted = plant


def _without(world: World, choose: Callable[[Sequence[Operation]], list[Operation]]) -> None:
    def plant(plane: ControlPlane, store: FaultyStore) -> None:
        kept = store._store
        transact = kept.transact

        async def lossy(operations: Sequence[Operation]) -> int:
            return await transact(choose(operations))

        kept.transact = lossy  # type: ignore[method-assign]  # the defect

    world.planted = plant


def _deletes(operation: Operation, kind: str, prefix: str) -> bool:
    return isinstance(operation, Delete) and operation.key.kind == kind and operation.key.name.startswith(prefix)


def _update(key: Key, data: dict[str, Any], revision: int) -> Operation:
    from volant.store.contract import Update

    return msgspec.structs.replace(Update(key, data), revision=revision)


PLANTS: dict[str, Callable[[World], None]] = {
    "forget-writes": forget_writes,
    "leak-claims": leak_claims,
    "delete-bystanders": delete_bystanders,
    "kill-strangers": kill_strangers,
    "never-look-again": never_look_again,
    "take-one-too-many": take_one_too_many,
    "make-one-too-many": make_one_too_many,
    "make-again": make_again,
}
