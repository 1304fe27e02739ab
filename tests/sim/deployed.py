"""A deployment of simulated guests that answer at a port, and people who ask there."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from volant.core.deployment import Deployment, DeploymentSpec
from volant.core.resource import Wanted
from volant.core.vm import VM, PublishedPort, VMSpec
from volant.guest.simulated import SimulatedGuest
from volant.guest.simulated_agent import make_agent_factory
from volant.guest.simulated_types import Machinelike
from volant.hypervisor.simulated import SimulatedHost
from volant.plane import ControlPlane

from .host import LIMIT_S, World

HOST_PORT = 8080
GUEST_PORT = 80
METRICS_PORT = 9100


class Served:
    """What the guests of a world answer with: a request is a line, an answer the guest's uid, a while later."""

    def __init__(self, world: World, *, answer_s: float = 0.02) -> None:
        self.answer_s = answer_s
        world.host = SimulatedHost(world.clock, agent_factory=make_agent_factory(world.clock, self._make))
        self._world = world

    def _make(self, machine: Machinelike) -> SimulatedGuest:
        guest = SimulatedGuest(self._world.clock)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.readline():
                await asyncio.sleep(self.answer_s)
                if guest.state == "stopping":
                    return  # its workload was told to stop, and does
                writer.write(f"{machine.uid}\n".encode())
            writer.write_eof()

        guest.ports[GUEST_PORT] = serve
        guest.ports[METRICS_PORT] = guest.use.serve_metrics
        return guest


def guest_of(world: World, vm: VM) -> SimulatedGuest:
    return world.host.running[vm.uid].serve_agent.guest  # type: ignore[union-attr,no-any-return]  # the simulated agent's


async def deploy(
    plane: ControlPlane, world: World, replicas: int = 1, *, vm: dict[str, Any] | None = None, **fields: Any
) -> Deployment:
    """Deploy ``web``, whose guests are reached through their channels, as nothing else leads to a simulated one."""
    await plane.intents.plugins.install(world.manifest())
    spec = DeploymentSpec(
        replicas=replicas,
        vm=VMSpec(plugin="nginx", network_mode="vsock", start="cold", **(vm or {})),
        ports=(PublishedPort(port=GUEST_PORT, host_port=HOST_PORT),),
        **fields,
    )
    return await plane.intents.deployments.create(Wanted(name="web", labels={}, spec=spec))


async def wait_deployment(plane: ControlPlane, satisfied: Any) -> Deployment:
    last: Deployment | None = None
    try:
        async with asyncio.timeout(LIMIT_S):
            async for last in plane.intents.deployments.watch("web"):
                if last is not None and satisfied(last):
                    return last
    except TimeoutError:
        raise AssertionError(f"web did not get there: {last and last.status}") from None
    raise AssertionError("web was deleted")


async def list_replicas(plane: ControlPlane) -> list[VM]:
    vms, _ = await plane.intents.vms.list()
    return [vm for vm in vms if vm.meta.owner and not vm.deleting]


async def ask(world: World) -> str:
    """The uid of the guest that answered. Raises OSError or EOFError where none did."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.fabric.listening[HOST_PORT])
    try:
        writer.write(b"hello\n")
        async with asyncio.timeout(LIMIT_S):
            answer = await reader.readline()
        if not answer.endswith(b"\n"):
            raise EOFError("half an answer")
        return answer.decode().strip()
    finally:
        writer.transport.abort()


class Load:
    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []


@contextlib.asynccontextmanager
async def under_load(world: World, workers: int = 8) -> AsyncIterator[Load]:
    """People who ask one request after the other, each on a connection of its own, and try none twice."""
    load, is_over = Load(), asyncio.Event()

    async def work() -> None:
        while not is_over.is_set():
            try:
                load.answers[await ask(world)] += 1
            except (OSError, EOFError, TimeoutError) as error:
                load.failures.append(repr(error))

    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(work())
        try:
            yield load
        finally:
            is_over.set()
