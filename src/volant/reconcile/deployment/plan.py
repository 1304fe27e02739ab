"""Which replicas to make, remove and restart now: pure, from what there is. It never goes back on what a strategy promises.

- There are never more VMs, those that are going among them, than the wanted number and what may be beyond it.
- Of those that are available none is taken while too few others are. What is not available may always go, and goes first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from volant.core.amount import count_amount
from volant.core.deployment import Budget, Strategy
from volant.core.disruption import allowed_disruptions
from volant.core.rollout_preview import free_indices
from volant.reconcile.deployment.replica import Replica


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is aimed at. ``rolling``: replicas of other revisions are on their way out."""

    wanted: int
    strategy: Strategy = Strategy()
    budget: Budget = Budget()
    rolling: bool = False
    cap: int | None = None
    """Of a canary: so many of the target revision, for now."""
    switched: bool = False
    """Of blue-green: the new set serves, and the old one ``is_over`` once it was kept for its time."""
    is_over: bool = False
    sleeping: bool = False
    """Nobody needs it: one replica, if any, and it need not be available."""


class Bounds(msgspec.Struct, frozen=True):
    """``most`` VMs may be there, and at least ``least`` have to stay available."""

    most: int
    least: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """``make`` and ``make_old`` are indices; the others are replicas. ``take`` are available now, ``remove`` are not."""

    make: tuple[int, ...] = ()
    make_old: tuple[int, ...] = ()
    """Of the revision that is left, because the rollout stands still or may not go on."""
    remove: tuple[Replica, ...] = ()
    take: tuple[Replica, ...] = ()
    restart: tuple[Replica, ...] = ()


def bound(wish: Wish) -> Bounds:
    wanted = wish.wanted
    if wish.sleeping:
        return Bounds(wanted, 0)
    strategy = wish.strategy
    surge = count_amount(strategy.max_surge, wanted, up=True)
    missing = min(wanted, count_amount(strategy.max_unavailable, wanted, up=False))
    if strategy.type == "recreate":
        return Bounds(wanted, max(0, wanted - max(1, missing)))
    if strategy.type == "blue-green":
        return Bounds(2 * wanted, wanted)
    if not surge and not missing:
        missing = min(1, wanted)
    return Bounds(wanted + surge, wanted - missing)


def plan(wish: Wish, replicas: Sequence[Replica]) -> Plan:
    """The steps that may be taken at once. ``replicas`` are all, those that are going too."""
    work = _Work(wish, replicas)
    if not wish.rolling:
        _rest(work)
    elif wish.strategy.type == "recreate" or wish.sleeping:
        _recreate(work)
    elif wish.strategy.type == "blue-green":
        _swap(work)
    else:
        _roll(work)
    return work.finish()


class _Work:
    """The state of one plan in the making."""

    def __init__(self, wish: Wish, replicas: Sequence[Replica]) -> None:
        self.wish = wish
        self.bounds = bound(wish)
        self.wanted = wish.wanted
        self.taken = {replica.index for replica in replicas}
        self.live = sorted((replica for replica in replicas if not replica.going), key=lambda replica: replica.index)
        self.going = [replica for replica in replicas if replica.going]
        self.available = sum(replica.counts for replica in self.live)
        self.room = self.bounds.most - len(replicas)
        self.make: list[int] = []
        self.make_old: list[int] = []
        self.removed: list[Replica] = []
        self.took: list[Replica] = []

    @property
    def current(self) -> list[Replica]:
        return [replica for replica in self.live if replica.current]

    @property
    def old(self) -> list[Replica]:
        return [replica for replica in self.live if not replica.current]

    @property
    def low_free(self) -> list[int]:
        return [index for index in range(self.wanted) if index not in self.taken]

    def remove(self, replicas: Iterable[Replica], *, most: int | None = None, freely: bool = False) -> None:
        """Remove ``replicas``, those that are not available first, as far as enough others stay; ``freely``: all the same."""
        left = len(self.live) if most is None else most
        for replica in sorted(replicas, key=lambda one: (one.counts, one.current, -one.index)):
            if left <= 0:
                return
            if replica.counts:
                if not freely and self.available - 1 < self.bounds.least:
                    return
                self.available -= 1
                self.took.append(replica)
            else:
                self.removed.append(replica)
            self.live.remove(replica)
            left -= 1

    def create(self, indices: Iterable[int], *, old: bool = False) -> None:
        for index in indices:
            if self.room <= 0:
                return
            (self.make_old if old else self.make).append(index)
            self.taken.add(index)
            self.room -= 1

    def free(self, count: int) -> list[int]:
        return free_indices(self.taken, max(0, count))

    def restart(self) -> tuple[Replica, ...]:
        chosen = []
        for replica in self.live:
            if not replica.restart_due or not replica.current:
                continue
            if replica.counts:
                budget = allowed_disruptions(self.wish.budget, self.wanted, self.available)
                if self.available - 1 < self.bounds.least or budget == 0:
                    continue
                self.available -= 1
            chosen.append(replica)
        return tuple(chosen)

    def finish(self) -> Plan:
        return Plan(
            restart=self.restart(),
            make=tuple(self.make),
            make_old=tuple(self.make_old),
            remove=tuple(self.removed),
            take=tuple(self.took),
        )


def _rest(work: _Work) -> None:
    """The number is kept. What lies beyond it goes, from the highest on; what is missing comes, from the lowest."""
    wanted = work.wanted
    # Where none may be missing, one that has to be restarted needs somebody in its place.
    is_tight = work.bounds.least >= wanted or allowed_disruptions(work.wish.budget, wanted, min(work.available, wanted)) == 0
    spare = int(is_tight and any(replica.restart_due and replica.counts for replica in work.live))
    surplus = len(work.live) - wanted - spare
    if surplus > 0:
        beyond = [replica for replica in work.live if replica.index >= wanted]
        work.remove(beyond, most=surplus)
    # One that is going comes again under its name, once that is free.
    names = work.bounds.most if work.wish.strategy.type == "blue-green" else wanted
    returning = sum(replica.index < names for replica in work.going)
    work.create(work.free(wanted + spare - len(work.live) - returning), old=True)


def _recreate(work: _Work) -> None:
    work.remove(work.old, freely=True)
    if not work.wish.sleeping:
        work.remove([replica for replica in work.live if replica.index >= work.wanted], freely=True)
    if not any(not replica.current for replica in work.going):
        work.create(work.free(work.wanted - len(work.live)))


def _roll(work: _Work) -> None:
    wanted = work.wanted
    cap = wanted if work.wish.cap is None else min(wanted, work.wish.cap)
    # 1. What is not needed any more. A canary needs the old ones that it does not replace.
    spare_old = max(0, len(work.old) - (wanted - cap))
    work.remove(work.old, most=spare_old)
    low_done = all(replica.current for replica in work.live if replica.index < wanted) and not work.low_free
    surge = work.bounds.most - wanted
    beyond = [replica for replica in work.current if replica.index >= wanted]
    is_full = work.room < 0
    useless = [r for r in beyond if not r.counts and (low_done or is_full or r.index >= wanted + surge)]
    work.remove(useless, most=len(useless) if low_done or not is_full else -work.room)
    if cap == wanted and not work.old:
        work.remove([replica for replica in work.current if replica.index >= wanted and replica.counts])
    # 2. What is missing.
    if cap == wanted:
        work.create(work.low_free)
    else:
        work.create(work.low_free[: max(0, cap - len(work.current))])
    if work.old:
        more = cap - len(work.current) - len(work.make)
        work.create([index for index in range(wanted, wanted + surge) if index not in work.taken][: max(0, more)])
    if cap < wanted and len(work.current) + len(work.make) >= cap:
        work.create(work.free(wanted - len(work.live) - len(work.make)), old=True)


def _swap(work: _Work) -> None:
    wanted = work.wanted
    new = work.current
    if work.wish.switched:
        if work.wish.is_over:
            work.remove(work.old)
        work.remove(new, most=max(0, len(new) - wanted))
        work.create(work.free(wanted - len(work.current)))
        return
    serving = [replica for replica in work.old if replica.serving]
    others = [replica for replica in work.old if not replica.serving]
    work.remove(others)
    work.remove(new, most=max(0, len(new) - wanted))
    work.remove(serving, most=max(0, len(serving) - wanted))
    missing = wanted - len(work.current)
    if missing > work.room:
        # There has to be room for the new set, and of the old one this serves nobody.
        held = len(work.going) + len(work.removed) + len(work.took)
        down = [replica for replica in work.old if replica.serving and not replica.counts]
        work.remove(down, most=max(0, missing - work.room - held))
    work.create(work.free(missing))
    left = [replica for replica in work.old if replica.serving]
    if serving and len(left) == len(serving):
        work.create(work.free(wanted - len(left)), old=True)
