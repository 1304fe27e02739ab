"""The composition root: builds every part, runs them in one TaskGroup, stops them in reverse. Only this module knows everyone."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import platform
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import structlog

from volant import __version__
from volant.api.app import build_app
from volant.api.listen import bind_loopback, bind_socket, format_address
from volant.api.server import serve
from volant.artifact.plugin_fetch import PluginFetch
from volant.artifact.registry.allowance import read_allowance
from volant.artifact.registry.settings import RegistrySettings, limit_to, read_registry_settings
from volant.artifact.trust import Trust
from volant.auth.token import TokenFile
from volant.config import Config
from volant.core.clock import Clock, HostClock
from volant.core.errors import HostError, VolantError
from volant.core.hardware import read_architecture, read_cpu_features
from volant.core.ids import Uid
from volant.core.network import Network, NetworkSpec
from volant.core.node import NodeStatus
from volant.core.plugin import Plugin
from volant.core.plugin_versions import plugin_names
from volant.core.resource import from_stored
from volant.core.types import prepare_all_types
from volant.core.vm import VM
from volant.host import Hands, build_hands, check_hands, check_host, check_kernels, check_trust, open_hands
from volant.intent import (
    ConfigurationIntent,
    EventIntent,
    Intents,
    NetworkIntent,
    PluginIntent,
    PoolIntent,
    SnapshotIntent,
    SystemIntent,
    VMIntent,
)
from volant.intent.bootstrap import ensure_default_network, note_plugin_versions, register_node
from volant.intent.kept_answers import KeptAnswers, MarkingStore
from volant.node.boot_files import BootFileReader
from volant.node.door import Check
from volant.node.host import count_cores, count_memory_mib, raise_file_limit, read_boot_id, read_nameservers
from volant.node.local import LocalNode
from volant.node.lock import lock_directory
from volant.observe.notify import notify_manager
from volant.reconcile.admission import Admission
from volant.reconcile.engine import Engine
from volant.reconcile.exit import stop_all
from volant.reconcile.idle import IdleWatch
from volant.reconcile.network import NetworkController, NetworkKeeper, changes_forwards, leaves_rules
from volant.reconcile.plugin import BY_PLUGIN, PluginController, index_plugin
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
from volant.store.sqlite import open_store

log = structlog.get_logger()

RECOUNT_S = 0.5
COLLECTOR_THRESHOLDS = (5_000, 5, 20)
"""Objects in the youngest generation, then how often each is looked through before the next one is, too."""
STARTING_A_CORE = 2
MIN_STARTING = 4

CACHED_KINDS = ("VM", "Plugin", "Network", "Claim", "Event", "Snapshot")


class ControlPlane:
    """Everything of one volantd but its sockets. Simulations run exactly this, on a clock and a host of their own."""

    def __init__(self, config: Config, store: Store, clock: Clock, hands: Hands) -> None:
        self.config = config
        self.store = store
        self.clock = clock
        self.hands = hands
        self.cache = Cache(store, CACHED_KINDS, clock)
        self.cache.add_index("uid", lambda stored: [stored.data["meta"]["uid"]])
        self.cache.add_index(BY_PLUGIN, index_plugin)
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
        keeper = NetworkKeeper(self.cache, hands.fabric, self.ports.has_port)
        self.templates = TemplateKeeper(hands.templates, hands.driver, clock, self._look_at_waiting)
        self.starter = VMStarter(
            store=store,
            clock=clock,
            driver=hands.driver,
            node=self.node,
            templates=self.templates,
            artifacts=hands.artifacts,
            disks=hands.disks,
            fabric=hands.fabric,
            networks=keeper,
            admission=Admission(store, trust),
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
        )
        marking = MarkingStore(store)
        vm_intent = VMIntent(
            marking,
            clock,
            cache=self.cache,
            files=BootFileReader(hands.artifacts),
            policy=config.trust_policy,
            cmdline_allow=tuple(config.kernel_cmdline_allow.split()),
        )
        fetch = PluginFetch(hands.artifacts, self._load_registries)
        plugin_intent = PluginIntent(marking, clock, self.node.artifact_size, trust, fetch, self.cache, fetch)
        self.intents = Intents(
            vms=vm_intent,
            plugins=plugin_intent,
            events=EventIntent(marking),
            system=SystemIntent(marking, vm_intent, plugin_intent),
            snapshots=SnapshotIntent(marking, clock, vm_intent),
            pools=PoolIntent(marking),
            networks=NetworkIntent(marking, clock),
            configuration=ConfigurationIntent(clock, vm_intent),
            kept_answers=KeptAnswers(store, clock),
        )
        self.cache.subscribe(self._on_change)

    async def register(self) -> None:
        """Write down this node and its network, before anything is asked of them."""
        status = NodeStatus(
            boot_id=read_boot_id(),
            cpu_cores=count_cores(),
            memory_mb=count_memory_mib(),
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
                    controllers += [above.create_task(task) for task in (self.sweeper.run(), self.ports.run(), self.idle.run())]
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

    def _look_at_waiting(self) -> None:
        """A template is there, or will not be."""
        for stored in self.cache.list(VM.kind):
            if stored.data["status"]["started_at"] is None:
                self.vms.look(stored.key)

    def _look_at_networks(self) -> None:
        for stored in self.cache.list(Network.kind):
            self.networks.look(stored.key, after_s=RECOUNT_S)

    def _look_at(self, uid: Uid) -> None:
        for stored in self.cache.by_index("uid", uid):
            if stored.key.kind == VM.kind:
                self.vms.look(stored.key)

    def _on_change(self, change: Change, old: Stored | None) -> None:
        if leaves_rules(change) or changes_forwards(change, old):
            self._look_at_networks()
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


async def serve_daemon(config: Config) -> None:
    """Run until SIGTERM or SIGINT. Prints ``volantd ready ADDRESS`` once requests are answered.

    Raises:
        VolantError: it cannot start; nothing was changed beyond its own directories.
    """
    data, runtime = Path(config.data_dir), Path(config.runtime_dir)
    for directory in (data, runtime):
        try:
            directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        except OSError as error:
            raise HostError(f"cannot use {directory}: {error.strerror}", hint="volantd needs to be root") from error
    clock = HostClock()
    prepare_all_types()
    raise_file_limit()
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(lock_directory(data))
        store = await stack.enter_async_context(open_store(data / "volant.db", clock))
        hands = await stack.enter_async_context(open_hands(config, clock, fresh=not (await store.list(VM.kind)).items))
        plane = ControlPlane(config, store, clock, hands)
        await plane.register()
        listening = [stack.enter_context(bind_socket(config.socket_path))]
        tokens = None
        if config.tcp_address is not None:
            listening.append(stack.enter_context(bind_loopback(*config.tcp_address)))
            tokens = TokenFile(data / "token")
            tokens.ensure()
        app = build_app(plane.intents, plane.node, __version__, tokens=tokens)
        stopping = asyncio.Event()
        _stop_on_signals(stopping)
        async with plane.running() as group:
            api = group.create_task(serve(app, listening, on_listening=lambda: _say_ready(config, listening)))
            await stopping.wait()
            log.info("stopping")
            api.cancel()


def _calm_collector() -> None:
    """Have the collector of cycles stop the event loop for less, and less often: with two hundred VMs it did for 100 ms."""
    gc.collect()
    gc.freeze()  # what is there now, code mostly, stays
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


def _say_ready(config: Config, listening: Sequence[socket.socket]) -> None:
    _calm_collector()
    notify_manager("READY=1")
    print(f"volantd ready unix:{config.socket_path}", flush=True)  # noqa: T201  # the line that scripts wait for
    tcp = [format_address(each) for each in listening if each.family != socket.AF_UNIX]
    log.info("ready", address=f"unix:{config.socket_path}", version=__version__, **({"tcp": tcp[0]} if tcp else {}))


def _stop_on_signals(stopping: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)


async def check_daemon(config: Config) -> list[Check]:
    """The host's checks without a running volantd. Changes nothing."""
    try:
        hands = await build_hands(config, HostClock())
    except VolantError as error:
        broken = Check(name="hypervisor", state="failed", message=str(error), fix=error.hint or "")
        return [*check_host(Path(config.data_dir)), broken]
    return [*await check_hands(hands, config, opened=False), *check_trust(config)]


def describe_error(error: VolantError) -> str:
    return f"volantd: {error}" + (f"\n  hint: {error.hint}" if error.hint else "")


def first_error(group: BaseExceptionGroup[Any]) -> BaseException:
    """The first plain exception in a group of groups."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
