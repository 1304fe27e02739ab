"""The real server over a control plane in memory, on a UNIX socket, in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import structlog

from volant.api.app import build_app
from volant.api.server import serve
from volant.auth.peer import Peer, PeerPolicy
from volant.auth.token import TokenFile

from .control_plane import ControlPlane

T = TypeVar("T")
PATIENCE_S = 20.0


class Served:
    """Use as a context. ``allow`` decides about every peer."""

    def __init__(self, directory: Path, allow: Callable[[Peer], bool] = lambda _peer: True) -> None:
        self.path = directory / "volantd.sock"
        self.address = f"unix://{self.path}"
        self.peers: list[Peer] = []
        self._allow = allow
        self._listening = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="served")

    def __enter__(self) -> Served:
        structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
        self._thread.start()
        assert self._listening.wait(PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        structlog.reset_defaults()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def stop(self) -> None:
        """As SIGTERM makes volantd do; returns when the server is gone."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._serving.cancel)
            self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.plane = ControlPlane()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self.path))
        listener.listen()
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        self.tcp_address = f"http://127.0.0.1:{tcp.getsockname()[1]}"
        self.tokens = TokenFile(self.path.with_name("token"))
        self.tokens.ensure()
        policy = _Recording(self.peers, self._allow)
        app = self.app = build_app(self.plane.intents, self.plane.door, "0.0.test", policy=policy, tokens=self.tokens)
        self._serving = asyncio.create_task(serve(app, [listener, tcp], on_listening=self._listening.set, grace_s=1))
        try:
            await self._serving
        except asyncio.CancelledError:
            return


class _Recording(PeerPolicy):
    def __init__(self, peers: list[Peer], allow: Callable[[Peer], bool]) -> None:
        super().__init__(own_uid=-1)
        object.__setattr__(self, "_peers", peers)
        object.__setattr__(self, "_allow", allow)

    def allows(self, peer: Peer) -> bool:
        self._peers.append(peer)  # type: ignore[attr-defined]
        return self._allow(peer)  # type: ignore[attr-defined, no-any-return]
