"""The control plane of one host: every part built and wired, run in one TaskGroup, stopped in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import platform
from collections.abc import AsyncIterator
from pathlib import Path

import structlog

from volant import __version__
from volant.artifact.plugin_fetch import PluginFetch
from volant.artifact.registry.allowance import read_allowance
from volant.artifact.registry.settings import RegistrySettings, limit_to, read_registry_settings
from volant.artifact.trust import Trust
from volant.config import Config
from volant.core.clock import Clock
from volant.core.hardware import read_architecture, read_cpu_features
from volant.core.ids import Uid
from volant.core.leader import LEADER
from volant.core.network import Network, NetworkSpec
from volant.core.node import NodeStatus
from volant.core.plugin import Plugin
from volant.core.plugin_versions import plugin_names
from volant.core.resource import from_stored
from volant.core.vm import VM
from volant.host import Hands, check_hands, check_kernels, check_trust
from volant.intent import (
    ApplyIntent,
    ConfigurationIntent,
    CronJobIntent,
    DeploymentIntent,
    DrainIntent,
    EventIntent,
    Intents,
    JobIntent,
    NetworkIntent,
    NodeIntent,
    PluginIntent,
    PoolIntent,
    QuotaIntent,
    SnapshotIntent,
    SystemIntent,
    VMIntent,
)
from volant.intent.apply_kinds import appliers_of
from volant.intent.bootstrap import ensure_default_network, note_plugin_versions, register_node
from volant.intent.cards import CardChooser
from volant.intent.kept_answers import KeptAnswers, MarkingStore
from volant.intent.ownership import OwningStore
from volant.intent.queues import QueueIntent
from volant.intent.system import BY_STATE, index_state
from volant.leader import LeaderPlane
from volant.node.boot_files import BootFileReader
from volant.node.door import Check
from volant.node.host import count_cores, count_memory_mib, read_boot_id, read_nameservers
from volant.node.local import LocalNode
from volant.reconcile.admission import Admission
from volant.reconcile.balance.keeper import BalanceKeeper
from volant.reconcile.engine import Engine
from volant.reconcile.exit import stop_all
from volant.reconcile.idle import IdleWatch
from volant.reconcile.leadership import Leadership
from volant.reconcile.network import NetworkController, NetworkKeeper, changes_forwards, leaves_rules
from volant.reconcile.owner import BY_OWNER, index_owner
from volant.reconcile.placement.beat import NodeBeat
from volant.reconcile.plugin import BY_PLUGIN, BY_VERSION, PluginController, index_plugin, index_version
from volant.reconcile.pool import PoolController
from volant.reconcile.ports import PortKeeper
from volant.reconcile.snapshot import SnapshotController
from volant.reconcile.start_gate import StartGate
from volant.reconcile.sweep import Sweeper
from volant.reconcile.template_build import TemplateBuilder
from volant.reconcile.template_desk import TemplateDesk
from volant.reconcile.templates import TemplateKeeper
from volant.reconcile.vm import VMController
from volant.reconcile.vm_live import LiveChanges
from volant.reconcile.vm_sleep import Sleeper
from volant.reconcile.vm_start import VMStarter
from volant.store.cache import Cache
from volant.store.contract import Change, Key, Store, Stored
from volant.store.fenced import FencedStore
from volant.store.plugins import PluginShelf

log = structlog.get_logger()

RECOUNT_S = 0.5
LEFTOVER_S = 5.0
"""Rules for a tap that is gone let nobody speak; they may wait for others to go with, since rules are computed from all VMs."""

A_VM_S = 0.0001
"""Computing rules takes about so long for each VM."""

FORWARDS_SHARE, LEFTOVERS_SHARE = 0.2, 0.02
"""However many VMs come and go, rules are computed for no more than these parts of the time."""

STARTING_A_CORE = 2
MIN_STARTING = 4

SIMULATED_CORES, SIMULATED_MEMORY_MB = 8192, 16 * 1024 * 1024
"""Of a host whose VMs cost nothing: room for tens of thousands of them."""

CACHED_KINDS = (
    "VM",
    "Plugin",
    "Network",
    "Claim",
    "Event",
    "Snapshot",
    "Node",
    "Quota",
    "Deployment",
    "DeploymentRevision",
    "Job",
    "CronJob",
)


class ControlPlane:
    """Everything of one volantd but its sockets. Simulations run exactly this, on a clock and a host of their own."""

    def __init__(self, config: Config, store: Store, clock: Clock, hands: Hands) -> None:
        self.config = config
        self.store = store
        self.clock = clock
        self.hands = hands
        self.cache = Cache(store, CACHED_KINDS, clock)
        self.cache.add_index("uid", lambda stored: [stored.data["meta"]["uid"]])
        self.cache.add_index(BY_PLUGIN, index_plugin, kinds=(VM.kind,))
        self.cache.add_index(BY_VERSION, index_version, kinds=(VM.kind,))
        self.cache.add_index(BY_OWNER, index_owner)
        self.cache.add_index(BY_STATE, index_state, kinds=(VM.kind,))
        self._allowance = read_allowance(config.plugin_download_allow)
        trust = Trust(config.trust_policy, Path(config.trust_keys))
        self.node = LocalNode(
            driver=hands.driver,
            places=hands.places,
            artifacts=hands.artifacts,
            clock=clock,
            on_change=self._look_at,
            check_host=self._check_host,
            client=f"volantd/{__version__}",
        )
        self.ports = PortKeeper(store, self.cache, clock, hands.fabric, self._look_at_networks, self.node.open_port)
        self.idle = IdleWatch(store, self.cache, clock, hands.fabric, self.ports.last_active)
        self.balance = BalanceKeeper(store, self.cache, clock, hands.fabric, self.node.open_port, on_drained=self._look_at)
        keeper = self.network_keeper = NetworkKeeper(self.cache, hands.fabric, self.ports.has_port)
        self.templates = TemplateKeeper(hands.templates, hands.driver, clock, self._look_at_waiting)
        plugins = PluginShelf(store, self.cache)
        self.starter = VMStarter(
            store=store,
            plugins=plugins,
            clock=clock,
            driver=hands.driver,
            node=self.node,
            templates=self.templates,
            artifacts=hands.artifacts,
            disks=hands.disks,
            fabric=hands.fabric,
            networks=keeper,
            admission=Admission(plugins, trust),
            nameservers=read_nameservers(),
        )
        self.builder = TemplateBuilder(self.templates, self.starter, self.node, clock)
        self.templates.build = self.builder.build
        self.desk = TemplateDesk(store, clock, hands.driver, self.templates, self.builder, self.starter)
        self.node.open_templates(self.desk)
        sleeper = Sleeper(clock, hands.driver, self.node, self.starter, hands.snapshots)
        self.live = LiveChanges(hands.places, self.starter, self.node.apply_limits)
        self.vms = Engine(
            VMController(
                store,
                self.cache,
                clock,
                self.node,
                self.starter,
                sleeper,
                StartGate(clock, max(MIN_STARTING, STARTING_A_CORE * count_cores()), self._look_at),
                self.live,
                node_name=config.node_name,
                hold_end=self.balance.hold_end,
            ),
            self.cache,
            clock,
        )
        self.snapshots = Engine(
            SnapshotController(
                store,
                self.cache,
                clock,
                self.node,
                self.starter,
                hands.snapshots,
                node_name=config.node_name,
            ),
            self.cache,
            clock,
            workers=2,
        )
        self.pool_controller = PoolController(store, self.cache, clock, is_offered=self.templates.is_offered)
        self.pools = Engine(self.pool_controller, self.cache, clock, workers=1)
        self.plugins = Engine(PluginController(store, self.cache, clock, hands.artifacts, trust), self.cache, clock, workers=2)
        self.networks = Engine(NetworkController(store, clock, keeper), self.cache, clock, workers=1, resync_s=30.0)
        self.sweeper = Sweeper(
            store,
            clock,
            self.node,
            hands.fabric,
            hands.artifacts,
            hands.snapshots,
            tend_templates=lambda: self.desk.tend(config.template_disk_mb * 1024 * 1024),
            spare=lambda: self.builder.active,
            cache=self.cache,
        )
        marking = OwningStore(MarkingStore(store))
        vm_intent = self._intend_vms(marking)
        fetch = PluginFetch(hands.artifacts, self._load_registries)
        plugin_intent = PluginIntent(marking, clock, self.node.artifact_size, trust, fetch, self.cache, fetch)
        job_intent = JobIntent(marking, clock, vm_intent, cache=self.cache)
        node_intent = NodeIntent(marking, clock, self.cache, lambda node: self.leader.placing.account.room(node))
        self.intents = Intents(
            vms=vm_intent,
            plugins=plugin_intent,
            events=EventIntent(marking),
            system=SystemIntent(marking, vm_intent, plugin_intent, node_intent, self.cache),
            snapshots=SnapshotIntent(marking, clock, vm_intent),
            pools=PoolIntent(marking),
            networks=NetworkIntent(marking, clock),
            nodes=node_intent,
            drains=DrainIntent(marking, clock, node_intent, vm_intent, self.cache),
            quotas=QuotaIntent(marking, clock, self.cache),
            jobs=job_intent,
            cron_jobs=CronJobIntent(marking, clock, job_intent, cache=self.cache),
            deployments=DeploymentIntent(marking, clock, vm_intent, cache=self.cache),
            configuration=ConfigurationIntent(clock, vm_intent),
            kept_answers=KeptAnswers(store, clock),
            queues=QueueIntent(store, lambda: (*self.engines, *self.leader.engines), lambda: self.leadership.held),
        )
        self.intents = dataclasses.replace(self.intents, apply=ApplyIntent(marking, appliers_of(marking, self.intents)))
        self.leadership = Leadership(store, clock, config.node_name, self._lead)
        # What the leader's controllers write needs its lease, the VMs that they make too.
        fenced = FencedStore(store, LEADER, config.node_name, lambda: self.leadership.held)
        leader_vms = self._intend_vms(fenced, vm_intent.cards)
        self.beat = NodeBeat(store, clock, config.node_name)
        self.leader = LeaderPlane(config, fenced, clock, self.cache, vms=leader_vms, door=self.node, balance=self.balance)
        self.cache.subscribe(self._on_change)

    async def register(self) -> None:
        """Write down this node and its network, before anything is asked of them."""
        simulated = self.hands.driver.name == "simulated"
        status = NodeStatus(
            boot_id=read_boot_id(),
            cpu_cores=SIMULATED_CORES if simulated else count_cores(),
            memory_mb=SIMULATED_MEMORY_MB if simulated else count_memory_mib(),
            architecture=read_architecture(platform.machine()),
            cpu_features=read_cpu_features(),
            hypervisor=f"{self.hands.driver.name} {self.hands.driver.version}".strip(),
            volant_version=__version__,
        )
        await note_plugin_versions(self.store)
        await register_node(self.store, self.clock, self.config.node_name, status)
        spec = NetworkSpec(subnet=self.config.subnet, bridge=self.config.bridge)
        await ensure_default_network(self.store, self.clock, spec)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.TaskGroup]:
        """Controllers and VMs are tended inside; outside nothing of ours runs, and the VMs go on."""
        async with asyncio.TaskGroup() as below:
            tending = [below.create_task(task) for task in (self.cache.run(), self.node.run(), self.templates.run())]
            try:
                await self.cache.wait_synced()
                await self.node.wait_running()
                async with asyncio.TaskGroup() as above:
                    controllers = [above.create_task(engine.run()) for engine in self.engines]
                    keepers = (self.sweeper.run(), self.ports.run(), self.balance.run(), self.idle.run(), self.leadership.run())
                    controllers += [above.create_task(task) for task in (*keepers, self.beat.run())]
                    try:
                        yield above
                    finally:
                        for task in controllers:
                            task.cancel()
                if self.config.stop_vms_on_exit:
                    await stop_all(self.store, self.cache, self.clock, self.node)
            finally:
                for task in tending:
                    task.cancel()

    @property
    def engines(self) -> tuple[Engine, ...]:
        return (self.networks, self.plugins, self.vms, self.snapshots, self.pools)

    def _intend_vms(self, through: Store, cards: CardChooser | None = None) -> VMIntent:
        return VMIntent(
            through,
            self.clock,
            cache=self.cache,
            files=BootFileReader(self.hands.artifacts),
            policy=self.config.trust_policy,
            cmdline_allow=tuple(self.config.kernel_cmdline_allow.split()),
            cards=cards,
        )

    async def _lead(self) -> None:
        await self.leader.run()

    def _look_at_waiting(self) -> None:
        """A template is there, or will not be."""
        for stored in self.cache.list(VM.kind):
            if stored.data["status"]["started_at"] is None:
                self.vms.look(stored.key)

    def _look_at_networks(self, after_s: float = RECOUNT_S) -> None:
        for stored in self.cache.list(Network.kind):
            self.networks.look(stored.key, after_s=after_s)

    def _pace_rules(self, seconds: float, share: float) -> float:
        """``seconds``, or longer where there are so many VMs that computing the rules would take more than ``share``."""
        return max(seconds, self.network_keeper.size * A_VM_S / share)

    def _look_at(self, uid: Uid) -> None:
        for stored in self.cache.by_index("uid", uid):
            if stored.key.kind == VM.kind:
                self.vms.look(stored.key)

    def _on_change(self, change: Change, old: Stored | None) -> None:
        if changes_forwards(change, old):
            self._look_at_networks(self._pace_rules(RECOUNT_S, FORWARDS_SHARE))
        elif leaves_rules(change):
            self._look_at_networks(self._pace_rules(LEFTOVER_S, LEFTOVERS_SHARE))
        if change.key.kind == VM.kind and "parked" in (change.data["spec"]["power"], old and old.data["spec"]["power"]):
            for name in plugin_names(change.data):
                self.pools.look(Key(Plugin.kind, change.key.project, name))
        if change.key.kind == VM.kind and (old is None or change.type == "delete"):
            # Many VMs that come or go together are one recount.
            for name in plugin_names(change.data):
                self.plugins.look(Key(Plugin.kind, change.key.project, name), after_s=RECOUNT_S)

    def _load_registries(self) -> RegistrySettings:
        settings = read_registry_settings(Path(self.config.registries)) if self.config.registries else RegistrySettings()
        return limit_to(settings, self._allowance)

    async def _check_host(self) -> list[Check]:
        plugins = [from_stored(Plugin, stored.data, stored.revision) for stored in self.cache.list(Plugin.kind)]
        return [*await check_hands(self.hands, self.config), *check_kernels(plugins), *check_trust(self.config)]
