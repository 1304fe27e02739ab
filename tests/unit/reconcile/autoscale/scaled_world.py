"""A deployment with autoscaling, its replicas as records, and a door that tells what it is told to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from volant.core.autoscale import Autoscale
from volant.core.deployment import DEPLOYMENT_LABEL, Deployment, DeploymentSpec, DeploymentStatus
from volant.core.errors import Unavailable, WrongState
from volant.core.ids import Uid, new_uid
from volant.core.resource import Meta
from volant.core.simulated_clock import SimulatedClock
from volant.core.vm import VM, PublishedPort, VMSpec, VMStatus
from volant.node.door import PortStream, VMStats
from volant.reconcile.autoscale.controller import AutoscaleController
from volant.reconcile.balance.balancer import Traffic
from volant.reconcile.outcome import After, Outcome
from volant.reconcile.owner import BY_OWNER, index_owner
from volant.store.cache import Cache
from volant.store.contract import Delete, Key, Store
from volant.store.records import create_of, find_resource, key_of, update_of
from volant.store.sqlite import open_store

KEY = Key("Deployment", "default", "web")
MIB = 1024 * 1024


class Door:
    """The part of a NodeDoor that is asked. Busy cores count up on the clock."""

    def __init__(self, clock: SimulatedClock) -> None:
        self._clock = clock
        self._cpu_s: dict[Uid, float] = {}
        self._at_s = 0.0
        self.busy_cores: dict[Uid, float] = {}
        self.memory_percent: dict[Uid, float] = {}
        self.texts: dict[Uid, bytes] = {}
        self.asked = 0
        self.is_silent = False

    async def read_stats(self, uid: Uid) -> VMStats:
        self.asked += 1
        if self.is_silent:
            await asyncio.Event().wait()
        if uid not in self.busy_cores:
            raise WrongState("the VM does not run")
        used = self.memory_percent.get(uid)
        return VMStats(
            memory_private_bytes=0,
            memory_shared_bytes=0,
            process_private_bytes=0,
            process_shared_bytes=0,
            cpu_s=self._cpu_s.get(uid, 0.0),
            guest_memory_total_bytes=None if used is None else 100 * MIB,
            guest_memory_available_bytes=None if used is None else round((100 - used) * MIB),
        )

    def work(self, seconds: float) -> None:
        for uid, cores in self.busy_cores.items():
            self._cpu_s[uid] = self._cpu_s.get(uid, 0.0) + cores * seconds

    def restart(self, uid: Uid) -> None:
        self._cpu_s[uid] = 0.0

    @contextlib.asynccontextmanager
    async def open_port(self, uid: Uid, port: int) -> AsyncIterator[PortStream]:
        if uid not in self.texts:
            raise Unavailable(f"nobody listens at port {port}")
        yield _Answer(self.texts[uid])


class _Answer:
    def __init__(self, text: bytes) -> None:
        self._answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + text

    async def read(self, limit: int = 65536) -> bytes:
        data, self._answer = self._answer[:limit], self._answer[limit:]
        return data

    async def write(self, content: bytes) -> None: ...

    async def write_eof(self) -> None: ...

    def close(self) -> None: ...


class World:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = SimulatedClock()
        self.cache = Cache(store, ("VM", "Deployment", "Event"), self.clock)
        self.cache.add_index(BY_OWNER, index_owner)
        self.door = Door(self.clock)
        self.uid = new_uid()
        self.traffic: Traffic | None = None
        self.controller = self.begin()

    def begin(self) -> AutoscaleController:
        """A controller that remembers nothing."""
        self.controller = AutoscaleController(self.store, self.cache, self.clock, self.door, lambda uid: self.traffic)  # type: ignore[arg-type]  # the part that is asked
        return self.controller

    async def add(self, autoscale: Autoscale | None, *, replicas: int = 1, ports: bool = False) -> None:
        published = (PublishedPort(port=80, host_port=8080),) if ports else ()
        spec = DeploymentSpec(vm=VMSpec(plugin="nginx"), replicas=replicas, autoscale=autoscale, ports=published)
        meta = Meta(name="web", uid=self.uid, created_at="2026-01-01T00:00:00Z")
        await self._see(create_of(Deployment(meta=meta, spec=spec, status=DeploymentStatus())))

    async def add_replica(self, index: int, *, busy_cores: float | None = 0.0, **status: Any) -> VM:
        meta = Meta(
            name=f"web-{index}",
            uid=new_uid(),
            owner=self.uid,
            labels={DEPLOYMENT_LABEL: "web"},
            created_at="2026-01-01T00:00:00Z",
        )
        fields: dict[str, Any] = {"phase": "Running", "ready": True, "run_id": "r", **status}
        vm = VM(meta=meta, spec=VMSpec(plugin="nginx", cpu_cores=2), status=VMStatus(**fields))
        if busy_cores is not None:
            self.door.busy_cores[vm.uid] = busy_cores
        await self._see(create_of(vm))
        return vm

    async def remove_replica(self, vm: VM) -> None:
        await self._see(Delete(key_of(vm)))

    async def change(self, **spec: Any) -> None:
        before = await self.read()
        await self._see(update_of(msgspec.structs.replace(before, spec=msgspec.structs.replace(before.spec, **spec))))

    async def _see(self, operation: Any) -> None:
        await self.cache.wait_revision(await self.store.transact([operation]))

    async def read(self) -> Deployment:
        found = await find_resource(self.store, Deployment, "default", "web")
        assert found is not None
        return found

    async def look(self) -> Outcome:
        outcome = await self.controller.reconcile(KEY)
        # What was written is seen, as a watch would have it.
        await self.cache.wait_revision((await self.read()).revision)
        return outcome

    async def replicas(self) -> int | None:
        return (await self.read()).status.autoscale.replicas

    async def look_again(self, seconds: float = 15.0) -> int | None:
        """The time of an interval passes, and it is looked."""
        self.door.work(seconds)
        await self.clock.advance(seconds)
        assert isinstance(await self.look(), After)
        return await self.replicas()

    async def events(self) -> list[str]:
        listing = await self.store.list("Event")
        return [stored.data["spec"]["message"] for stored in listing.items if stored.data["spec"]["reason"] == "Scaled"]


@contextlib.asynccontextmanager
async def open_world(path: Path) -> AsyncIterator[World]:
    async with open_store(path / "volant.db", SimulatedClock()) as store:
        world = World(store)
        following = asyncio.ensure_future(world.cache.run())
        await world.cache.wait_synced()
        try:
            yield world
        finally:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following
