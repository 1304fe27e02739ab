"""A simulated host that outlives the control planes on it, and a store that can crash its user at any transaction."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from volant.artifact.store import ArtifactStore
from volant.config import Config
from volant.core.clock import HostClock
from volant.core.errors import VolantError
from volant.core.ids import Digest
from volant.core.resource import Wanted
from volant.core.vm import VM, VMSpec
from volant.guest.simulated_agent import make_agent_factory
from volant.host import Hands, prepare_saved
from volant.hypervisor.simulated import ALL_CAPABILITIES, SimulatedDriver, SimulatedHost
from volant.net.simulated import SimulatedFabric
from volant.node.unit import Places
from volant.plane import ControlPlane
from volant.store.contract import Operation
from volant.store.sqlite import SqliteStore, open_store
from volant.volume.saved import SavedStore
from volant.volume.simulated import SimulatedDisks

CONTENT = b"a kernel, an initramfs and a root, all in one"
LIMIT_S = 30.0


class Crash(BaseException):
    """volantd is killed here. Not an Exception, so nothing of volantd's own handles it."""


class CrashingStore:
    """A store whose ``crash_at``-th write kills volantd just before or just after it is durable."""

    def __init__(self, store: SqliteStore, crash_at: int | None = None, *, after: bool = False) -> None:
        self._store = store
        self._crash_at = crash_at
        self._after = after
        self.writes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def transact(self, operations: Sequence[Operation]) -> int:
        self.writes += 1
        mine = self.writes == self._crash_at
        if mine and not self._after:
            raise Crash(f"before write {self.writes}")
        revision = await self._store.transact(operations)
        if mine:
            raise Crash(f"after write {self.writes}")
        return revision


class World:
    """The host, its registry and its directories; control planes come and go."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = HostClock()
        self.host = SimulatedHost(self.clock, agent_factory=make_agent_factory(self.clock))
        self.capabilities = ALL_CAPABILITIES
        self.fault: Callable[[str], None] = lambda step: None
        self.host.fault = lambda step, machine: self.fault(f"launch {step}")
        self.fabric = SimulatedFabric(before=lambda step: self.fault(f"network {step}"))
        self.digest: Digest = Digest("")
        self.config = Config(data_dir=str(root), runtime_dir=str(root / "run"), hypervisor="simulated", node="here")

    @property
    def places(self) -> Places:
        return Places(data=self.root, runtime=self.root / "run")

    async def prepare(self) -> None:
        """Store the one artifact that the plugins of these tests are made of."""

        async def content() -> AsyncIterator[bytes]:
            yield CONTENT

        self.digest = Digest("sha256:" + hashlib.sha256(CONTENT).hexdigest())
        artifacts = ArtifactStore(self.root / "artifacts")
        await artifacts.prepare()
        await artifacts.put(content(), self.digest)

    @contextlib.asynccontextmanager
    async def plane(
        self, crash_at: int | None = None, *, after: bool = False
    ) -> AsyncIterator[tuple[ControlPlane, CrashingStore]]:
        """A volantd on this host."""
        async with open_store(self.root / "volant.db", self.clock) as kept:
            store = CrashingStore(kept, crash_at, after=after)
            hands = Hands(
                driver=SimulatedDriver(self.host, capabilities=self.capabilities),
                fabric=self.fabric,
                disks=SimulatedDisks(before=lambda step: self.fault(f"disk {step}")),
                artifacts=ArtifactStore(self.root / "artifacts"),
                places=self.places,
                templates=SavedStore(self.places.templates),
                snapshots=SavedStore(self.places.snapshots),
            )
            await prepare_saved(hands)
            await hands.fabric.open()
            plane = ControlPlane(self.config, store, self.clock, hands)
            try:
                await plane.register()
                async with plane.running():
                    yield plane, store
            finally:
                await hands.fabric.close()

    def manifest(self, name: str = "nginx") -> dict[str, Any]:
        medium = {"url": f"artifact:{self.digest}", "checksum": self.digest}
        return {
            "schema_version": "v1",
            "name": name,
            "version": "1.0",
            "workload": {"type": "http", "base_url": "http://127.0.0.1:80", "entrypoint": ["/usr/sbin/nginx"]},
            "health_check": {"endpoint": "/"},
            "boot": {"kernel": medium, "initramfs": medium},
            "rootfs": medium,
        }


def want(name: str, **spec: Any) -> Wanted[VMSpec]:
    return Wanted(name=name, labels={}, spec=VMSpec(plugin="nginx", **spec))


async def reach(plane: ControlPlane, name: str, satisfied: Callable[[VM], bool]) -> VM:
    """The VM once ``satisfied`` holds; fails with where it stood."""
    last: VM | None = None
    try:
        async with asyncio.timeout(LIMIT_S):
            async for last in plane.intents.vms.watch(name):
                if last is not None and satisfied(last):
                    return last
    except TimeoutError:
        raise AssertionError(f"{name} did not get there: {last and last.status}") from None
    raise AssertionError(f"{name} was deleted")


async def reach_gone(plane: ControlPlane, name: str) -> None:
    try:
        async with asyncio.timeout(LIMIT_S):
            async for vm in plane.intents.vms.watch(name):
                if vm is None:
                    return
    except VolantError:
        return


async def check_nothing_left(world: World, plane: ControlPlane) -> None:
    """No claim without owner, no owner without claim, nothing on the host that no VM answers for."""
    await plane.sweeper.sweep()
    vms, _ = await plane.intents.vms.list()
    claims = (await plane.store.list("Claim")).items
    owners = {claim.data["spec"]["owner_uid"] for claim in claims}
    assert owners == {vm.uid for vm in vms}
    assert set(world.host.running) <= {vm.uid for vm in vms}
    assert world.places.known_uids() <= {vm.uid for vm in vms}
    assert len(await world.fabric.list_taps()) <= len(vms)
