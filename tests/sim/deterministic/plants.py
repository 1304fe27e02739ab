"""Defects that are put into volantd on purpose: a simulation that does not find them is worth nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from volant.core.queue import Why
from volant.plane import ControlPlane
from volant.store.contract import Create, Delete, Key, Operation, Update
from volant.store.fenced import FencedStore

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


def break_now_and_then(world: World) -> None:
    """A controller with a bug, which its engine survives."""

    def plant(plane: ControlPlane, store: FaultyStore) -> None:
        controller: Any = plane.vms._controller
        reconcile = controller.reconcile

        async def careless(key: Key) -> Any:
            if world.source.random() < 0.005:
                return {}[key]
            return await reconcile(key)

        controller.reconcile = careless

    world.planted = plant


def count_failures_as_done(world: World) -> None:
    """A job whose runs always end well."""
    from volant.reconcile.job import controller

    def plant(plane: ControlPlane, store: FaultyStore) -> None:
        if not hasattr(controller.read_run, "planted"):
            read_run = controller.read_run

            def flatter(job: Any, vm: Any) -> Any:
                run = read_run(job, vm)
                return msgspec.structs.replace(run, state="succeeded") if run is not None and run.state == "failed" else run

            flatter.planted = True  # type: ignore[attr-defined]  # once is enough
            controller.read_run = flatter

    world.planted = plant


def run_one_too_many(world: World) -> None:
    """A job that runs one more at a time than it may."""
    from volant.reconcile.job import decision

    def plant(plane: ControlPlane, store: FaultyStore) -> None:
        if not hasattr(decision._choose_starts, "planted"):
            choose = decision._choose_starts

            def wider(job: Any, *args: Any) -> Any:
                spec = msgspec.structs.replace(job.spec, parallelism=job.spec.parallelism + 1)
                return choose(msgspec.structs.replace(job, spec=spec), *args)

            wider.planted = True  # type: ignore[attr-defined]  # once is enough
            decision._choose_starts = wider

    world.planted = plant


def give_for_nothing(world: World) -> None:
    """What goes is not taken off what a quota says is used."""
    _without(world, lambda operations: [each for each in operations if not (_is_quota(each) and _some_go(operations))])


def place_anywhere(world: World) -> None:
    """A scheduler that minds no cordon."""
    from volant.reconcile.placement import filters

    def plant(plane: ControlPlane, store: FaultyStore) -> None:
        filters.ALL = tuple(one for one in filters.ALL if one is not filters.check_cordon)

    world.planted = plant


def lead_all_the_same(world: World) -> None:
    """A leader whose writes do not need its lease."""

    def plant(plane: ControlPlane, store: FaultyStore) -> None:
        async def transact(self: FencedStore, operations: Sequence[Operation]) -> int:
            return await self._store.transact(operations)

        FencedStore.transact = transact  # type: ignore[method-assign]  # the defect

    world.planted = plant


def mind_no_budget(world: World) -> None:
    """People may stop as many replicas as they like."""

    def plant(plane: ControlPlane, store: FaultyStore) -> None:
        guard: Any = plane.intents.vms._disruption

        async def agree(*args: Any) -> str:
            return ""

        guard._judge = agree

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


def _is_quota(operation: Operation) -> bool:
    return isinstance(operation, Update) and operation.key.kind == "Quota"


def _some_go(operations: Sequence[Operation]) -> bool:
    return any(_deletes(each, kind, "") for each in operations for kind in ("VM", "Deployment", "Job"))


def _update(key: Key, data: dict[str, Any], revision: int) -> Operation:
    return msgspec.structs.replace(Update(key, data), revision=revision)


PLANTS: dict[str, Callable[[World], None]] = {
    "forget-writes": forget_writes,
    "leak-claims": leak_claims,
    "delete-bystanders": delete_bystanders,
    "kill-strangers": kill_strangers,
    "never-look-again": never_look_again,
    "take-one-too-many": take_one_too_many,
    "make-one-too-many": make_one_too_many,
    "break-now-and-then": break_now_and_then,
    "count-failures-as-done": count_failures_as_done,
    "run-one-too-many": run_one_too_many,
    "give-for-nothing": give_for_nothing,
    "place-anywhere": place_anywhere,
    "mind-no-budget": mind_no_budget,
    "lead-all-the-same": lead_all_the_same,
}
