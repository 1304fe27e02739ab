"""Ports of a scripted guest: each connection goes to a handler of asyncio streams."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from volant.core.errors import GuestUnreachable, Unavailable

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class FakePort:
    """Implements door.PortStream over one end of a socket pair."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self, limit: int = 65536) -> bytes:
        try:
            return await self._reader.read(limit)
        except OSError as error:
            raise GuestUnreachable("the connection was reset") from error

    async def write(self, content: bytes) -> None:
        try:
            self._writer.write(content)
            await self._writer.drain()
        except OSError as error:
            raise GuestUnreachable("the connection was reset") from error

    async def write_eof(self) -> None:
        self._writer.write_eof()

    def close(self) -> None:
        self._writer.transport.abort()


class FakePorts:
    """``open`` is what the door does. ``open_now`` counts connections that nobody let go of."""

    def __init__(self) -> None:
        self.handlers: dict[int, Handler] = {}
        self.hosts: list[str] = []
        self.open_now = 0
        self.let_go = asyncio.Event()

    @asynccontextmanager
    async def open(self, port: int, host: str) -> AsyncIterator[FakePort]:
        handler = self.handlers.get(port)
        if handler is None:
            raise Unavailable(f"nobody listens at {host} port {port} in the guest")
        self.hosts.append(host)
        ours, theirs = socket.socketpair()
        ours_opened = await asyncio.open_unix_connection(sock=ours)
        theirs_opened = await asyncio.open_unix_connection(sock=theirs)
        handling = asyncio.ensure_future(handler(*theirs_opened))
        connection = FakePort(*ours_opened)
        self.open_now += 1
        self.let_go.clear()
        try:
            yield connection
        finally:
            connection.close()
            theirs_opened[1].transport.abort()
            handling.cancel()
            await asyncio.gather(handling, return_exceptions=True)
            self.open_now -= 1
            self.let_go.set()
