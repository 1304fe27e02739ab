"""The real intents on a real store behind the served API, in a thread with a loop of its own; a test plays the controllers."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import msgspec
import structlog

from volant.api.app import build_app
from volant.api.server import serve
from volant.artifact.trust import Trust
from volant.auth.peer import PeerPolicy
from volant.core.clock import HostClock
from volant.core.condition import Condition, set_condition
from volant.core.errors import StaleRevision
from volant.core.network import NetworkSpec
from volant.core.node import NodeStatus
from volant.core.vm import VM
from volant.intent import ConfigurationIntent, PluginIntent, VMIntent
from volant.intent.bootstrap import ensure_default_network, register_node
from volant.store.records import find_resource, update_of
from volant.store.sqlite import SqliteStore, open_store

from .control_plane import FakeDoor

T = TypeVar("T")
PATIENCE_S = 20.0

KERNEL, INITRAMFS = b"\x7fELF" + bytes(100), b"070701" + bytes(100)
DIGESTS = {content: "sha256:" + hashlib.sha256(content).hexdigest() for content in (KERNEL, INITRAMFS)}
MANIFEST = {
    "schema_version": "v1",
    "name": "job",
    "version": "1.0",
    "workload": {"type": "exec", "entrypoint": ["/bin/job"]},
    "resources": {"memory_mb": 128},
    "boot": {"kernel": {"url": "kernel", "checksum": DIGESTS[KERNEL]}},
    "initramfs": {"url": "initramfs", "checksum": DIGESTS[INITRAMFS]},
}


class Door(FakeDoor):
    async def read_head(self, digest: str, size: int) -> bytes | None:
        return self.artifacts[digest][:size] if digest in self.artifacts else None


class RealPlane:
    """Use as a context; the plugin ``job`` is installed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.address = f"unix://{directory}/v.sock"
        self.door: Door
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="real plane")

    def __enter__(self) -> RealPlane:
        structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
        self._thread.start()
        assert self._ready.wait(PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._serving.cancel)
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        structlog.reset_defaults()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def look_after(self, name: str, *conditions: Condition) -> None:
        """From now on the VM's status follows its generation, as if it ran, with ``conditions``."""

        async def begin() -> None:
            self._tasks.append(asyncio.create_task(self._follow(name, conditions)))

        self.run(begin())

    async def _follow(self, name: str, conditions: tuple[Condition, ...]) -> None:
        async for vm in self.intents.vms.watch(name):
            if vm is not None and vm.status.observed_generation < vm.meta.generation:
                await self._observe(vm, conditions)

    async def _observe(self, vm: VM, conditions: tuple[Condition, ...]) -> None:
        current = await find_resource(self._store, VM, vm.meta.project, vm.name)
        assert current is not None
        told = current.status.conditions
        for condition in conditions:
            told = set_condition(told, condition, current.meta.created_at)
        seen = current.meta.generation
        status = msgspec.structs.replace(current.status, phase="Running", ready=True, observed_generation=seen, conditions=told)
        try:
            await self._store.transact([update_of(msgspec.structs.replace(current, status=status))])
        except StaleRevision:
            return  # the change that came meanwhile is looked at, too

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: list[asyncio.Task[None]] = []
        clock = HostClock()
        async with open_store(self._directory / "volant.db", clock) as store:
            self._store: SqliteStore = store
            self.door = Door()
            self.door.artifacts |= {digest: content for content, digest in DIGESTS.items()}
            await register_node(store, clock, "here", NodeStatus(cpu_cores=2, memory_mb=1024))
            await ensure_default_network(store, clock, NetworkSpec(subnet="10.9.0.0/16"))
            vms = VMIntent(store, clock, files=self.door)
            plugins = PluginIntent(store, clock, self.door.artifact_size, Trust("off", self._directory / "trust"))
            # What these routes ask of; the other intents have tests of their own.
            self.intents: Any = SimpleNamespace(vms=vms, plugins=plugins, configuration=ConfigurationIntent(clock, vms))
            await plugins.install(MANIFEST)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(str(self._directory / "v.sock"))
            listener.listen()
            app = build_app(self.intents, self.door, "0", policy=PeerPolicy(own_uid=0))  # type: ignore[arg-type]  # scripted
            self._serving = asyncio.create_task(serve(app, [listener], on_listening=self._ready.set, grace_s=1))
            try:
                await self._serving
            except asyncio.CancelledError:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
