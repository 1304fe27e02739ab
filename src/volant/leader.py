"""What only one node of a cluster does: deployments, jobs, placement. On a single machine it is this one."""

from __future__ import annotations

import asyncio

from volant.config import Config
from volant.core.clock import Clock
from volant.intent import VMIntent
from volant.node.door import NodeDoor
from volant.reconcile.engine import Engine
from volant.store.cache import Cache
from volant.store.contract import Change, Store, Stored


class LeaderPlane:
    """The controllers of the whole cluster. ``vms`` is how they make VMs, ``door`` how they reach them."""

    def __init__(self, config: Config, store: Store, clock: Clock, cache: Cache, *, vms: VMIntent, door: NodeDoor) -> None:
        self._config = config
        self._store = store
        self._clock = clock
        self._cache = cache
        self.engines: tuple[Engine, ...] = ()

    async def run(self) -> None:
        """A task body; runs until cancelled. The cache must be run by somebody."""
        unsubscribe = self._cache.subscribe(self._on_change)
        try:
            async with asyncio.TaskGroup() as group:
                for engine in self.engines:
                    group.create_task(engine.run())
        finally:
            unsubscribe()

    def _on_change(self, change: Change, old: Stored | None) -> None:
        """A change of one kind that another kind's controller has to look at."""
