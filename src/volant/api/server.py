"""The HTTP server inside volantd's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence

import uvicorn
from litestar import Litestar

from volant.api.access_log import log_requests
from volant.api.app import HANDLERS
from volant.api.finish import finish_answers
from volant.api.idempotency import remember_answers
from volant.api.protocol import PeerProtocol
from volant.api.stopping import stopping_of

MESSAGE_MAX_BYTES = 128 * 1024
"""Of one WebSocket message that a client sends."""

CUT_AFTER_S = 2
"""How long the server may take to close what was cut, past its grace."""


class EmbeddedServer(uvicorn.Server):
    """A server without signal handlers that sleeps until it is told to stop, instead of looking ten times a second."""

    def __init__(self, config: uvicorn.Config, on_listening: Callable[[], None], grace_s: float) -> None:
        super().__init__(config)
        self._told = asyncio.Event()
        self._on_listening = on_listening
        self._grace_s = grace_s

    def stop(self) -> None:
        self.should_exit = True
        self._told.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_listening()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self._told.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more, let what is in flight end, cut it after the grace. Looks at tasks, not at the clock."""
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await self._end_tasks()
        for connection in list(self.server_state.connections):
            connection.transport.close()

    async def _end_tasks(self) -> None:
        tasks = set(self.server_state.tasks)
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=self._grace_s)
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left, timeout=CUT_AFTER_S)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    app: Litestar, sockets: Sequence[socket.socket], *, on_listening: Callable[[], None] = lambda: None, grace_s: float = 3.0
) -> None:
    """Serve on bound, listening UNIX sockets until cancelled; then close them and stop within ``grace_s`` seconds.

    Requests in flight are answered, waits answer with Unavailable, streams and execs are cut. ``on_listening`` is called
    once requests are taken.
    """
    server = EmbeddedServer(_configure(app), on_listening, grace_s)
    serving = asyncio.create_task(server.serve(list(sockets)), name="api")
    try:
        await asyncio.shield(serving)
    finally:
        stopping_of(app).set()
        server.stop()
        await asyncio.wait({serving}, timeout=grace_s + 2 * CUT_AFTER_S)
        if not serving.done():
            serving.cancel()
            await asyncio.wait({serving})


def _configure(app: Litestar) -> uvicorn.Config:
    return uvicorn.Config(
        log_requests(finish_answers(remember_answers(app), HANDLERS)),
        loop="none",
        http=PeerProtocol,
        ws="websockets-sansio",
        ws_max_size=MESSAGE_MAX_BYTES,
        ws_per_message_deflate=False,
        ws_ping_interval=None,  # who is slow to read is not gone, and a socket of this host ends with its owner
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=30,
    )
