"""A volantd on a simulated host, its API served, and one VM that runs: what talking to VMs is tested on, client to guest."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import structlog

from volant.api.app import build_app
from volant.api.server import serve
from volant.auth.peer import PeerPolicy
from volant.client.client import Client
from volant.core.vm import VM
from volant.guest.simulated import SimulatedGuest
from volant.plane import ControlPlane

from .host import World, reach, want

T = TypeVar("T")


class Talk:
    """``client`` blocks: use it in ``off``, a thread."""

    def __init__(self, world: World, plane: ControlPlane, address: str, vm: VM) -> None:
        self.world = world
        self.plane = plane
        self.address = address
        self.client = Client(address)
        self.vm = vm

    @property
    def guest(self) -> SimulatedGuest:
        process = self.world.host.find(self.vm.uid)
        assert process is not None
        agent: Any = process.serve_agent
        guest: SimulatedGuest = agent.guest
        return guest

    async def off(self, work: Callable[[], T], timeout_s: float = 30.0) -> T:
        async with asyncio.timeout(timeout_s):
            return await asyncio.to_thread(work)


@contextlib.asynccontextmanager
async def talk(world: World, **workload: Any) -> AsyncIterator[Talk]:
    """``workload`` adds to the plugin's."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    path = world.root / "api.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(512)
        async with world.plane() as (plane, _):
            manifest = world.manifest()
            manifest["workload"] |= workload
            await plane.intents.plugins.install(manifest)
            await plane.intents.vms.create(want("web"))
            vm = await reach(plane, "web", lambda vm: vm.status.ready)
            listening = asyncio.Event()
            app = build_app(plane.intents, plane.node, "0.0.test", policy=PeerPolicy(own_uid=os.geteuid()))
            serving = asyncio.create_task(serve(app, [listener], on_listening=listening.set, grace_s=1))
            try:
                await listening.wait()
                yield Talk(world, plane, f"unix://{path}", vm)
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
                structlog.reset_defaults()
