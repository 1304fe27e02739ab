"""What only one node of a cluster does: deployments, jobs, placement. On a single machine it is this one."""

from __future__ import annotations

import asyncio

from volant.config import Config
from volant.core.clock import Clock
from volant.core.job import Job
from volant.intent import JobIntent, VMIntent
from volant.intent.eviction import Eviction
from volant.node.door import NodeDoor
from volant.reconcile.autoscale.controller import AutoscaleController
from volant.reconcile.balance.keeper import BalanceKeeper
from volant.reconcile.cron.controller import CronController
from volant.reconcile.deployment.controller import DeploymentController
from volant.reconcile.deployment.looks import find_deployments
from volant.reconcile.engine import Engine
from volant.reconcile.job import find_looks
from volant.reconcile.job.controller import JobController
from volant.reconcile.placement.keeper import NodeKeeper
from volant.reconcile.placement.placing import Placing
from volant.reconcile.placement.quota_keeper import QuotaKeeper
from volant.store.cache import Cache
from volant.store.contract import Change, Store, Stored


class LeaderPlane:
    """The controllers of the whole cluster. ``vms`` is how they make VMs, ``door`` how they reach them, ``balance`` what knows
    of the connections to them."""

    def __init__(
        self, config: Config, store: Store, clock: Clock, cache: Cache, *, vms: VMIntent, door: NodeDoor, balance: BalanceKeeper
    ) -> None:
        self._config = config
        self._store = store
        self._clock = clock
        self._cache = cache
        self.placing = Placing(store, cache, clock)
        self.node_keeper = NodeKeeper(store, cache, clock, Eviction(store, clock, cache))
        self.quota_keeper = QuotaKeeper(store, cache, clock)
        self.engines: tuple[Engine, ...] = (self.placing.engine,)
        self.autoscaling = Engine(AutoscaleController(store, cache, clock, door, balance.find_traffic), cache, clock, workers=4)
        balance.on_wanted = self.autoscaling.look
        self.engines += (self.autoscaling,)
        self.job_controller = JobController(store, cache, clock, vms)
        self.jobs = Engine(self.job_controller, cache, clock, workers=4)
        self.deployment_controller = DeploymentController(store, cache, clock, vms)
        self.deployments = Engine(self.deployment_controller, cache, clock, workers=8)
        self.engines += (self.deployments,)
        job_intent = JobIntent(store, clock, vms, cache=cache)
        self.cron_jobs = Engine(CronController(store, cache, clock, job_intent), cache, clock, workers=2)
        self.engines += (self.jobs, self.cron_jobs)

    async def run(self) -> None:
        """A task body; runs until cancelled. The cache must be run by somebody."""
        unsubscribe = self._cache.subscribe(self._on_change)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.node_keeper.run())
                group.create_task(self.quota_keeper.run())
                for engine in self.engines:
                    group.create_task(engine.run())
        finally:
            unsubscribe()

    def _on_change(self, change: Change, old: Stored | None) -> None:
        """A change of one kind that another kind's controller has to look at."""
        for key, uid in find_deployments(self._cache, change, old):
            self.deployments.look(key, after_s=self.deployment_controller.gather_s(uid))
        if (maker := find_looks(self._cache, change, old)) is not None:
            (self.jobs if maker.kind == Job.kind else self.cron_jobs).look(maker)
