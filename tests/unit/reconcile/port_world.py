"""A registry of a few VMs with published ports, and what stands for guests: servers on the loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import msgspec

from volant.core.ids import Uid, new_uid
from volant.core.network import Network, NetworkSpec, NetworkStatus
from volant.core.resource import Meta
from volant.core.simulated_clock import SimulatedClock
from volant.core.vm import VM, Address, PublishedPort, VMSpec, VMStatus
from volant.net.simulated import SimulatedFabric
from volant.store.cache import Cache
from volant.store.contract import Create, Delete, Operation, Store, Update
from volant.store.records import create_of, find_resource, key_of, update_of
from volant.store.sqlite import open_store

LIMIT_S = 20.0


def make_vm(name: str = "web", *, ports: dict[int, int] | None = None, ip: str = "127.0.0.1", **changes: Any) -> VM:
    """A VM that is ready; ``ports`` gives the guest's port by the host's, ``changes`` are of its spec and status."""
    uid = new_uid()
    address = Address(network="default", ip=ip, mac="02:00:00:00:00:01", prefix_length=24, gateway="127.0.0.254")
    published = tuple(PublishedPort(port=port, host_port=host_port) for host_port, port in (ports or {}).items())
    vm = VM(
        meta=Meta(name=name, uid=uid, created_at="2026-01-01T00:00:00Z"),
        spec=VMSpec(plugin="nginx", ports=published),
        status=VMStatus(phase="Running", ready=True, addresses=(address,), started_token=0),
    )
    return change_vm(vm, **changes)


def change_vm(vm: VM, **changes: Any) -> VM:
    """``vm`` with fields of its spec or its status changed."""
    spec = {name: value for name, value in changes.items() if name in VMSpec.__struct_fields__}
    status = {name: value for name, value in changes.items() if name not in spec}
    return msgspec.structs.replace(
        vm, spec=msgspec.structs.replace(vm.spec, **spec), status=msgspec.structs.replace(vm.status, **status)
    )


class CountingStore:
    """A store that counts what is written to it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.writes: list[Sequence[Operation]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def transact(self, operations: Sequence[Operation]) -> int:
        self.writes.append(operations)
        return await self._store.transact(operations)


class World:
    def __init__(self, store: CountingStore) -> None:
        self.store: Any = store
        self.clock = SimulatedClock()
        self.cache = Cache(self.store, ("VM", "Event", "Network"), self.clock)
        self.fabric = SimulatedFabric()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, body: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(body)
        self._tasks.append(task)
        return task

    async def stop(self) -> None:
        """End what was started, the last first, and raise what one of them ended with."""
        while self._tasks:
            task = self._tasks.pop()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def add(self, vm: VM) -> VM:
        await self.see(await self.store.transact([create_of(vm)]))
        return vm

    async def add_network(self) -> None:
        network = Network(
            meta=Meta(name="default", uid=Uid("0" * 32)),
            spec=NetworkSpec(subnet="10.9.0.0/24", bridge="vbr0"),
            status=NetworkStatus(),
        )
        await self.see(await self.store.transact([create_of(network)]))

    async def change(self, name: str, **changes: Any) -> VM:
        vm = change_vm(await self.read(name), **changes)
        await self.see(await self.store.transact([update_of(vm)]))
        return vm

    async def delete(self, name: str) -> None:
        await self.see(await self.store.transact([Delete(key_of(await self.read(name)))]))

    async def read(self, name: str) -> VM:
        vm = await find_resource(self.store, VM, "default", name)
        assert vm is not None
        return vm

    async def see(self, revision: int) -> None:
        await self.cache.wait_revision(revision)

    async def events(self) -> list[tuple[str, str]]:
        listing = await self.store.list("Event")
        return [(stored.data["spec"]["reason"], stored.data["spec"]["message"]) for stored in listing.items]

    def power_writes(self) -> list[str]:
        """The power of every version of a VM that was written, in order."""
        writes = [each for operations in self.store.writes for each in operations if isinstance(each, (Create, Update))]
        return [each.data["spec"]["power"] for each in writes if each.key.kind == "VM"]


@contextlib.asynccontextmanager
async def open_world(path: Path) -> AsyncIterator[World]:
    """A world whose cache follows; what was started in it ends with it."""
    async with open_store(path / "volant.db", SimulatedClock()) as store:
        world = World(CountingStore(store))
        world.start(world.cache.run())
        await world.cache.wait_synced()
        try:
            yield world
        finally:
            await world.stop()


async def until(true: Callable[[], bool]) -> None:
    """Let everybody else work until ``true``."""
    async with asyncio.timeout(LIMIT_S):
        while not true():  # noqa: ASYNC110  # what is waited for tells nobody
            await asyncio.sleep(0)


async def until_read(true: Callable[[], Awaitable[bool]]) -> None:
    """As ``until``, of something that has to be read first."""
    async with asyncio.timeout(LIMIT_S):
        while not await true():  # noqa: ASYNC110  # what is waited for tells nobody
            await asyncio.sleep(0)
