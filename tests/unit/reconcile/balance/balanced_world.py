"""A deployment with ports whose replicas are servers on addresses of the loopback, and a balance keeper before them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from volant.core.deployment import DEPLOYMENT_LABEL, REVISION_LABEL, Deployment, DeploymentSpec, DeploymentStatus
from volant.core.ids import Uid, new_uid
from volant.core.resource import Meta
from volant.core.simulated_clock import SimulatedClock
from volant.core.vm import VM, Address, PublishedPort, VMSpec, VMStatus
from volant.net.simulated import SimulatedFabric
from volant.reconcile.balance.keeper import BalanceKeeper
from volant.reconcile.owner import BY_OWNER, index_owner
from volant.store.cache import Cache
from volant.store.contract import Delete, Key, Store
from volant.store.records import create_of, find_resource, key_of, update_of
from volant.store.sqlite import open_store

LIMIT_S = 20.0
HOST_PORT = 8080
GUEST_PORT = 18_080


class Server:
    """What stands for a replica: says its name to who connects, and then echoes until the client's end."""

    def __init__(self, name: str, ip: str) -> None:
        self.name = name
        self.ip = ip
        self.served = 0
        self.writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, self.ip, GUEST_PORT, backlog=1024)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.served += 1
        self.writers.append(writer)
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(self.name.encode() + b" " + data)
            writer.write_eof()

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, words: bytes = b"hello") -> str:
        """The name of the replica that answered."""
        self.writer.write(words)
        async with asyncio.timeout(LIMIT_S):
            answer = await self.reader.readuntil(words)
        return answer.decode().split(" ")[0]

    async def is_reset(self) -> bool:
        try:
            async with asyncio.timeout(LIMIT_S):
                while await self.reader.read(1):
                    pass
        except ConnectionResetError:
            return True
        return False

    def close(self) -> None:
        self.writer.close()


class World:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = SimulatedClock()
        self.cache = Cache(store, ("VM", "Deployment", "Event"), self.clock)
        self.cache.add_index(BY_OWNER, index_owner)
        self.fabric = SimulatedFabric()
        self.drained: list[Uid] = []
        self.wanted: list[Key] = []
        self.keeper = BalanceKeeper(store, self.cache, self.clock, self.fabric, on_drained=self.drained.append)
        self.keeper.on_wanted = self.wanted.append
        self.uid = new_uid()
        self.servers: dict[str, Server] = {}
        self.clients: list[Client] = []

    async def add_deployment(self, **fields: Any) -> None:
        spec = DeploymentSpec(vm=VMSpec(plugin="nginx"), ports=(PublishedPort(port=GUEST_PORT, host_port=HOST_PORT),), **fields)
        meta = Meta(name="web", uid=self.uid, created_at="2026-01-01T00:00:00Z")
        await self.see(await self.store.transact([create_of(Deployment(meta=meta, spec=spec, status=DeploymentStatus()))]))
        await until(lambda: self.keeper.has_port(self.uid, HOST_PORT))

    async def change_deployment(self, **status: Any) -> Deployment:
        before = await find_resource(self.store, Deployment, "default", "web")
        assert before is not None
        changed = msgspec.structs.replace(before, status=msgspec.structs.replace(before.status, **status))
        await self.see(await self.store.transact([update_of(changed)]))
        return changed

    async def add(self, index: int, *, revision: int = 1, up: bool = True, **changes: Any) -> VM:
        name, ip = f"web-{index}", f"127.0.0.{index + 2}"
        server = self.servers[name] = Server(name, ip)
        if up:
            await server.start()
        address = Address(network="default", ip=ip, mac="02:00:00:00:00:01", prefix_length=24, gateway="127.0.0.1")
        vm = VM(
            meta=Meta(
                name=name,
                uid=new_uid(),
                owner=self.uid,
                labels={DEPLOYMENT_LABEL: "web", REVISION_LABEL: str(revision)},
                created_at="2026-01-01T00:00:00Z",
            ),
            spec=VMSpec(plugin="nginx", stop_grace_s=10),
            status=VMStatus(phase="Running", ready=True, addresses=(address,), started_token=0),
        )
        vm = _change(vm, **changes)
        await self.see(await self.store.transact([create_of(vm)]))
        return await self.read(name)

    async def change(self, index: int, **changes: Any) -> VM:
        vm = _change(await self.read(f"web-{index}"), **changes)
        await self.see(await self.store.transact([update_of(vm)]))
        return await self.read(vm.name)

    async def delete(self, index: int) -> None:
        await self.see(await self.store.transact([Delete(key_of(await self.read(f"web-{index}")))]))

    async def read(self, name: str) -> VM:
        vm = await find_resource(self.store, VM, "default", name)
        assert vm is not None
        return vm

    async def see(self, revision: int) -> None:
        await self.cache.wait_revision(revision)

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.fabric.listening[HOST_PORT]))
        self.clients.append(client)
        return client

    @property
    def connections(self) -> int:
        traffic = self.keeper.find_traffic(self.uid)
        assert traffic is not None
        return traffic.connections

    @property
    def held(self) -> int:
        traffic = self.keeper.find_traffic(self.uid)
        assert traffic is not None
        return traffic.held


def _change(vm: VM, **changes: Any) -> VM:
    spec = {name: value for name, value in changes.items() if name in VMSpec.__struct_fields__}
    meta = {name: value for name, value in changes.items() if name == "deleting_at"}
    status = {name: value for name, value in changes.items() if name not in spec and name not in meta}
    return msgspec.structs.replace(
        vm,
        meta=msgspec.structs.replace(vm.meta, **meta),
        spec=msgspec.structs.replace(vm.spec, **spec),
        status=msgspec.structs.replace(vm.status, **status),
    )


async def until(true: Any) -> None:
    """Let everybody else work until ``true``."""
    async with asyncio.timeout(LIMIT_S):
        while not true():  # noqa: ASYNC110  # what is waited for tells nobody
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def open_world(path: Path) -> AsyncIterator[World]:
    async with open_store(path / "volant.db", SimulatedClock()) as store:
        world = World(store)
        tasks = [asyncio.ensure_future(world.cache.run())]
        await world.cache.wait_synced()
        tasks.append(asyncio.ensure_future(world.keeper.run()))
        try:
            yield world
        finally:
            for client in world.clients:
                client.close()
            for server in world.servers.values():
                server.stop()
            for task in reversed(tasks):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            for server in world.servers.values():
                for writer in server.writers:
                    writer.close()
