"""The whole of volantd on a simulated host, served on loopback with a token, in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import structlog
from tests.sim.host import World, want

from volant.api.app import build_app
from volant.api.listen import bind_loopback, bind_socket, format_address
from volant.api.server import serve
from volant.auth.token import TokenFile
from volant.plane import ControlPlane

T = TypeVar("T")
PATIENCE_S = 60.0


class SimulatedVolantd:
    """Use as a context. The plugin ``nginx`` is installed and the VM ``web`` is ready."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ready = threading.Event()
        self._broken: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="simulated volantd")
        self.tokens = TokenFile(directory / "token")
        self.unix = f"unix://{directory / 'v.sock'}"
        self.url: str
        self.plane: ControlPlane

    def __enter__(self) -> SimulatedVolantd:
        structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
        self._thread.start()
        self._ready.wait(PATIENCE_S)
        if self._broken is not None:
            raise self._broken
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE_S)
        structlog.reset_defaults()
        assert not self._thread.is_alive()
        if self._broken is not None:
            raise self._broken

    @property
    def token(self) -> str:
        return self.tokens.path.read_text(encoding="ascii").strip()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001  # told in the test's thread
            self._broken = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        world = World(self._directory / "data")
        world.root.mkdir()
        await world.prepare()
        self.digest = world.digest
        self.tokens.ensure()
        try:
            async with world.plane() as (plane, _):
                self.plane = plane
                await plane.intents.plugins.install(world.manifest())
                vm = await plane.intents.vms.create(want("web"))
                await plane.intents.vms.wait(vm, "ready", timeout_s=PATIENCE_S)
                with bind_loopback("127.0.0.1", 0) as tcp, bind_socket(self._directory / "v.sock") as unix:
                    await self._answer(plane, [tcp, unix])
        finally:
            await world.host.close()

    async def _answer(self, plane: ControlPlane, sockets: list[socket.socket]) -> None:
        self.url = f"http://{format_address(sockets[0])}"
        self.app = build_app(plane.intents, plane.node, "0.0.test", tokens=self.tokens)
        serving = asyncio.create_task(serve(self.app, sockets, on_listening=self._ready.set, grace_s=1))
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        serving.cancel()
        stopping.cancel()
        await asyncio.gather(serving, stopping, return_exceptions=True)
