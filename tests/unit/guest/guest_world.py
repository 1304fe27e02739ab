"""A simulated guest, a link to it over socket pairs, and a clock that the test turns."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Awaitable, Callable

from volant.core.simulated_clock import SimulatedClock
from volant.guest.document import Document, Restart, Root, Workload, encode_document
from volant.guest.link import AgentLink
from volant.guest.simulated import SimulatedGuest
from volant.guest.simulated_agent import SimulatedAgent
from volant.guest.state import AgentState

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def open_pair() -> tuple[Streams, Streams]:
    """Both ends of a socket pair as streams."""
    ours, theirs = socket.socketpair()
    return await asyncio.open_unix_connection(sock=ours), await asyncio.open_unix_connection(sock=theirs)


class World:
    """One guest, the agent (or impostor) that serves its port, and the host's link to it."""

    def __init__(self) -> None:
        self.clock = SimulatedClock()
        self.guest = SimulatedGuest(self.clock)
        self.serve: Serve = SimulatedAgent(self.guest)
        self.secret = secrets.token_bytes(32)
        self.states: list[AgentState] = []
        self.connections: list[asyncio.StreamWriter] = []
        self._running: list[asyncio.Task[None]] = []
        self.link = self.make_link()

    def make_link(self) -> AgentLink:
        return AgentLink(self.connect, self.secret, on_change=self.states.append, clock=self.clock, client="volantd/test")

    async def connect(self) -> Streams:
        host, guest = await open_pair()
        self.connections.append(guest[1])
        self.spawn(self._serve(*guest))
        return host

    def spawn(self, body: Awaitable[None]) -> asyncio.Task[None]:
        async def run() -> None:
            await body

        task = asyncio.ensure_future(run())
        self._running.append(task)
        return task

    def start(self) -> asyncio.Task[None]:
        return self.spawn(self.link.run())

    async def pass_until(
        self, predicate: Callable[[AgentState], bool], *, step_s: float = 0.05, limit_s: float = 120.0
    ) -> AgentState:
        """Turn the clock until the link's state is as wanted."""
        begun = self.clock.monotonic()
        while not predicate(self.link.state):
            assert self.clock.monotonic() - begun < limit_s, f"never so: {self.link.state}"
            await self.clock.advance(step_s)
        return self.link.state

    async def connected(self) -> AgentState:
        return await self.pass_until(lambda state: state.connected)

    async def cut(self) -> None:
        """The connection breaks; the link notices."""
        self.connections[-1].transport.abort()
        await self.pass_until(lambda state: not state.connected, step_s=0.0)

    def document(self, restart: Restart | None = None) -> bytes:
        return encode_document(
            Document(
                channel_secret=self.secret.hex(),
                entropy="0" * 128,
                unix_ns=0,
                hostname="web",
                machine_id="0" * 32,
                root=Root(writable="none"),
                workloads=(Workload(argv=("/usr/sbin/nginx",), restart=restart or Restart()),),
            )
        )

    async def configured(self, restart: Restart | None = None) -> AgentState:
        await self.connected()
        await self.link.configure(self.document(restart))
        return await self.pass_until(lambda state: state.workload is not None)

    async def stop(self) -> None:
        """End everything; what ended by an error of its own is an error of the test."""
        for task in self._running:
            task.cancel()
        for ended in await asyncio.gather(*self._running, return_exceptions=True):
            if isinstance(ended, BaseException) and not isinstance(ended, asyncio.CancelledError):
                raise ended

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self.serve(reader, writer)
        except OSError:
            pass  # The host hung up on an impostor.
        finally:
            writer.transport.abort()
