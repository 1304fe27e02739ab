"""Placement as the leader runs it: the account, the scheduler and its engine, wired."""

from __future__ import annotations

from collections.abc import Iterator

from volant.core.clock import Clock
from volant.core.vm import VM
from volant.reconcile.engine import Engine
from volant.reconcile.placement.account import Account
from volant.reconcile.placement.keeper import BY_NODE
from volant.reconcile.placement.release import BY_CLAIMANT, index_claimant
from volant.reconcile.placement.scheduler import Scheduler
from volant.reconcile.placement.waiting import WaitingRoom
from volant.store.cache import Cache
from volant.store.contract import Key, Store, Stored


class Placing:
    """Made before the cache is run, on every node: what is given out is known there too. ``engine`` is the leader's alone."""

    def __init__(self, store: Store, cache: Cache, clock: Clock) -> None:
        cache.add_index(BY_CLAIMANT, index_claimant)
        cache.add_index(BY_NODE, _index_node, kinds=(VM.kind,))
        self.account = Account(cache)
        scheduler = Scheduler(store, cache, clock, self.account, WaitingRoom(self._look))
        self.engine = Engine(scheduler, cache, clock, concerns=scheduler.concerns)

    def _look(self, key: Key, after_s: float) -> None:
        self.engine.look(key, after_s=after_s)


def _index_node(stored: Stored) -> Iterator[str]:
    if stored.key.kind == VM.kind and stored.data["status"]["node"]:
        yield stored.data["status"]["node"]
