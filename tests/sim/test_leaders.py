"""Two whole control planes on one store: one of them does what only one may do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from volant.artifact.store import ArtifactStore
from volant.core.clock import HostClock
from volant.host import Hands, prepare_saved
from volant.hypervisor.simulated import SimulatedDriver
from volant.net.simulated import SimulatedFabric
from volant.plane import ControlPlane
from volant.store.contract import Store
from volant.store.sqlite import open_store
from volant.volume.saved import SavedStore
from volant.volume.simulated import SimulatedDisks

from .host import World

LIMIT_S = 30.0


@asynccontextmanager
async def plane_of(world: World, store: Store, node: str) -> AsyncIterator[ControlPlane]:
    hands = Hands(
        driver=SimulatedDriver(world.host, capabilities=world.capabilities),
        fabric=SimulatedFabric(),
        disks=SimulatedDisks(),
        artifacts=ArtifactStore(world.root / "artifacts"),
        places=world.places,
        templates=SavedStore(world.places.templates),
        snapshots=SavedStore(world.places.snapshots),
    )
    await prepare_saved(hands)
    await hands.fabric.open()
    plane = ControlPlane(msgspec.structs.replace(world.config, node=node), store, world.clock, hands)
    await plane.register()
    async with plane.running():
        yield plane


async def until(satisfied: Callable[[], bool]) -> None:
    """Looks again and again, since nobody tells; what ends the test is LIMIT_S."""
    async with asyncio.timeout(LIMIT_S):
        while not satisfied():
            await HostClock().sleep(0.01)


def leads(plane: ControlPlane) -> bool:
    return plane.leadership.held and all(queue.running for queue in (engine.describe() for engine in plane.leader.engines))


def does_nothing(plane: ControlPlane) -> bool:
    return not plane.leadership.held and not any(engine.describe().running for engine in plane.leader.engines)


async def test_one_of_two_planes_leads_and_the_other_takes_over_when_it_ends(tmp_path: Path) -> None:
    worlds = [World(tmp_path / name) for name in ("one", "two")]
    for world in worlds:
        world.root.mkdir()
        await world.prepare()
    async with open_store(tmp_path / "volant.db", HostClock()) as store, AsyncExitStack() as stack:
        async with plane_of(worlds[0], store, "one") as first:
            await until(lambda: leads(first))
            second = await stack.enter_async_context(plane_of(worlds[1], store, "two"))
            await until(lambda: all(engine.describe().running for engine in second.engines))
            assert leads(first)
            assert does_nothing(second)
            queues = second.intents.queues
            assert queues is not None
            assert (await queues.leader()).node == "one"
        assert does_nothing(first)
        await until(lambda: leads(second))
        leader = await queues.leader()
        assert (leader.node, leader.here) == ("two", True)
    for world in worlds:
        await world.host.close()
