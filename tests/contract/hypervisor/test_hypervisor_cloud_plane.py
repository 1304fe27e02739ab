"""The whole control plane over Cloud Hypervisor as the suite plays it: agents by vsock, devices that come and go, sleep, a
volantd that ends. The agents are the simulated ones, in this process; the network is simulated but for the taps."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.sim.host import World, reach, reach_gone, want

from volant.artifact.store import ArtifactStore
from volant.core.condition import find_condition, is_true
from volant.core.ids import Uid
from volant.core.patch import merge_patch
from volant.core.vm import RESTART_REQUIRED
from volant.guest.simulated_agent import SimulatedAgent, make_agent_factory
from volant.host import Hands, prepare_saved
from volant.hypervisor.choice import DriverChoice
from volant.hypervisor.cloud_hypervisor import CloudHypervisorDriver
from volant.hypervisor.cloud_hypervisor.work import WORK
from volant.hypervisor.driver import Instance
from volant.hypervisor.machine import Files, Machine, Unit
from volant.hypervisor.socket import CONSOLE, bind_socket, connect_socket
from volant.net.simulated import SimulatedFabric
from volant.plane import ControlPlane
from volant.store.sqlite import open_store
from volant.volume.saved import SavedStore
from volant.volume.simulated import SimulatedDisks

from . import hypervisor_hosts
from .hypervisor_hosts import CloudHypervisorSide

KERNEL = b"\x7fELF" + bytes(4096)


class TapFabric(SimulatedFabric):
    """Gives real taps, which hang nowhere and are nobody's to count."""

    async def open_tap(self, name: str, bridge: str) -> int:
        os.close(await super().open_tap(name, bridge))
        return hypervisor_hosts.open_tap(name)


class PlayedGuests:
    """A driver whose guests' agents are simulated in this process, where the VM process finds them."""

    def __init__(self, driver: CloudHypervisorDriver, world: CloudWorld) -> None:
        self._driver = driver
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    async def launch(self, unit: Unit, machine: Machine, files: Files) -> Instance:
        self._world.agents.pop(unit.uid, None)
        return await self._play(unit, await self._driver.launch(unit, machine, files))

    async def restore(self, unit: Unit, machine: Machine, files: Files, saved: Path, base: Path | None = None) -> Instance:
        return await self._play(unit, await self._driver.restore(unit, machine, files, saved, base))

    async def _play(self, unit: Unit, instance: Instance) -> Instance:
        agent = self._world.agents.get(unit.uid)
        if agent is None:
            agent = self._world.agents[unit.uid] = make_agent_factory(self._world.clock)(instance.machine)
        listener = bind_socket(unit.state / WORK, "agent.sock_1024")
        os.chown(unit.state / WORK / "agent.sock_1024", instance.machine.host_uid, -1)
        listener.setblocking(False)
        self._world.servers.append(await asyncio.start_unix_server(agent, sock=listener))

        async def end() -> None:
            await _print(unit, agent.guest.farewell)
            await instance._api.put("vm.power-button")

        agent.guest.on_power_off = lambda: self._world.offs.append(asyncio.ensure_future(end()))
        return instance


async def _print(unit: Unit, line: bytes) -> None:
    """Have it come out of the guest's console, which gives back what is typed."""
    reader, writer = await asyncio.open_unix_connection(sock=connect_socket(unit.sockets, CONSOLE))
    try:
        writer.write(line)
        async with asyncio.timeout(10):
            await reader.readuntil(line.strip())
            await reader.readline()
    finally:
        writer.close()


class CloudWorld(World):
    def __init__(self, root: Path, side: CloudHypervisorSide) -> None:
        super().__init__(root)
        self.side = side
        self.fabric = TapFabric()
        self.agents: dict[Uid, SimulatedAgent] = {}
        self.servers: list[asyncio.Server] = []
        self.offs: list[asyncio.Future[None]] = []

    @contextlib.asynccontextmanager
    async def cloud_plane(self) -> AsyncIterator[ControlPlane]:
        async with open_store(self.root / "volant.db", self.clock) as store:
            driver = PlayedGuests(await self.side.open_driver(), self)
            hands = Hands(
                driver=DriverChoice({"cloud-hypervisor": driver}, {"qemu": "not in this test"}),
                fabric=self.fabric,
                disks=SimulatedDisks(),
                artifacts=ArtifactStore(self.root / "artifacts"),
                places=self.places,
                templates=SavedStore(self.places.templates),
                snapshots=SavedStore(self.places.snapshots),
            )
            await prepare_saved(hands)
            await hands.fabric.open()
            plane = ControlPlane(self.config, store, self.clock, hands)
            await plane.register()
            async with plane.running():
                yield plane
            await hands.fabric.close()

    async def close(self) -> None:
        for server in self.servers:
            server.close()
        await asyncio.gather(*self.offs, return_exceptions=True)


@pytest.fixture
async def world(
    tmp_path: Path, cloud_hypervisor: CloudHypervisorSide, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[CloudWorld]:
    monkeypatch.setattr("tests.sim.host.CONTENT", KERNEL)
    made = CloudWorld(tmp_path / "host", cloud_hypervisor)
    await made.prepare()
    yield made
    await made.close()


async def test_a_vm_lives_under_it(world: CloudWorld) -> None:
    async with world.cloud_plane() as plane:
        await plane.intents.plugins.install(world.manifest())
        await plane.intents.vms.create(want("web", memory_mb=256))
        vm = await reach(plane, "web", lambda vm: vm.status.ready)
        assert (vm.status.hypervisor, vm.status.isolation) == ("cloud-hypervisor", "hardware")
        assert vm.status.start is not None and vm.status.start.kind == "cold"
        assert "shares no memory" in vm.status.start.reason or "cannot start clones" in vm.status.start.reason
        pid = vm.status.pid

        async def edit(**fields: Any) -> Any:
            changed = await plane.intents.configuration.edit("web", lambda before: merge_patch(before, fields))
            found = await reach(plane, "web", lambda now: now.status.observed_generation >= changed.meta.generation)
            condition = find_condition(found.status.conditions, RESTART_REQUIRED)
            return "" if condition is None or not is_true(found.status.conditions, RESTART_REQUIRED) else condition.message

        assert await edit(memory_mb=128) == "", "the balloon takes it at once"
        assert await edit(disks=[{"name": "scratch", "size_mb": 64}]) == "", "a disk is added while it runs"
        run = await plane.node.find(vm.uid)
        assert [disk.serial for disk in run.instance.machine.disks][-1] == "scratch"
        async with asyncio.timeout(20):
            while (await run.instance.read_counters()).memory_mib != 128:  # noqa: ASYNC110  # the guest gives it as it can
                await asyncio.sleep(0.02)
        assert await edit(disks=[]) == ""
        assert "scratch" not in [disk.serial for disk in run.instance.machine.disks]
        assert await edit(disks=[{"name": "kept", "size_mb": 64}]) == ""
        assert await edit(extra_networks=["default"]) == "", "a card is added while it runs"
        vm = await plane.intents.vms.get("web")
        assert [nic.mac for nic in run.instance.machine.networks] == [address.mac for address in vm.status.addresses]
        assert len(vm.status.addresses) == 2
    async with world.cloud_plane() as plane:
        vm = await reach(plane, "web", lambda vm: vm.status.ready)
        assert vm.status.pid == pid, "it outlived volantd"
        await plane.intents.vms.suspend("web")
        await reach(plane, "web", lambda vm: vm.status.phase == "Suspended")
        await plane.intents.vms.resume("web")
        vm = await reach(plane, "web", lambda vm: vm.status.ready and vm.status.pid != pid)
        assert vm.status.start is not None and vm.status.start.kind == "resume"
        run = await plane.node.find(vm.uid)
        assert (run.instance.machine.disks[-1].serial, len(run.instance.machine.networks)) == ("kept", 2)
        await plane.intents.vms.stop("web")
        vm = await reach(plane, "web", lambda vm: vm.status.phase == "Stopped")
        assert vm.status.last_end is not None and vm.status.last_end.kind == "powered_off"
        await plane.intents.vms.delete("web")
        await reach_gone(plane, "web")


async def test_what_ends_while_volantd_is_away_is_known(world: CloudWorld) -> None:
    async with world.cloud_plane() as plane:
        await plane.intents.plugins.install(world.manifest())
        await plane.intents.vms.create(want("once", memory_mb=128, restart_policy="never"))
        vm = await reach(plane, "once", lambda vm: vm.status.ready)
    world.agents[vm.uid].guest.crash_workload({"code": 7})
    await asyncio.gather(*world.offs)
    async with world.cloud_plane() as plane:
        vm = await reach(plane, "once", lambda vm: vm.status.last_end is not None)
        assert vm.status.last_end is not None
        assert (vm.status.last_end.kind, vm.status.last_end.exit_code, vm.status.last_end.clean) == ("powered_off", 7, False)
        await plane.intents.vms.delete("once")
        await reach_gone(plane, "once")
