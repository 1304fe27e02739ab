"""Ports of this machine that lead into a VM: each connection becomes one inside the guest, through volantd and the agent."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from volant.client.connection import Connection, format_query, open_socket
from volant.client.problem import raise_problem, read_problem
from volant.core.errors import HostError, Unavailable, VolantError

READ_BYTES = 64 * 1024
OPEN_S = 30.0
MAX_CONNECTIONS = 256
"""At once; more wait until one has ended."""

Tell = Callable[[dict[str, Any]], None]


class Forward(NamedTuple):
    """``local`` 0 is any port that is free."""

    local: int
    remote: int


class Forwarder:
    """``tell`` hears of every ``listening``, ``opened``, ``closed`` and ``failed``."""

    def __init__(
        self, connection: Connection, path: str, forwards: Sequence[Forward], *, address: str, host: str | None, tell: Tell
    ) -> None:
        self._connection = connection
        self._path = path
        self._forwards = forwards
        self._address = address
        self._host = host
        self._tell = tell
        self._room = asyncio.Semaphore(MAX_CONNECTIONS)

    async def run(self) -> None:
        """Listen and pass on until cancelled. Raises HostError when a port cannot be listened at."""
        async with contextlib.AsyncExitStack() as stack:
            for forward in self._forwards:
                server = await self._listen(forward)
                stack.callback(server.close)
            await asyncio.get_running_loop().create_future()

    async def _listen(self, forward: Forward) -> asyncio.Server:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            async with self._room:
                await self._serve(forward.remote, reader, writer)

        try:
            server = await asyncio.start_server(serve, self._address, forward.local, limit=READ_BYTES)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            hint = "choose another, or 0 for any that is free: 0:" + str(forward.remote)
            raise HostError(f"{self._address} port {forward.local} cannot be listened at: {why}", hint=hint) from error
        port = server.sockets[0].getsockname()[1]
        self._tell({"event": "listening", "address": self._address, "port": port, "remote": forward.remote})
        return server

    async def _serve(self, remote: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        about = {"remote": remote, "peer": f"{peer[0]}:{peer[1]}" if peer else ""}
        with contextlib.suppress(OSError):
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            async with self._open(remote) as guest:
                self._tell({"event": "opened", **about})
                sent, received = await _pass_both(guest, reader, writer)
            self._tell({"event": "closed", **about, "sent_bytes": sent, "received_bytes": received})
        except VolantError as error:
            self._tell({"event": "failed", **about, "message": error.message})
        except (OSError, ConnectionClosed, TimeoutError) as error:
            self._tell({"event": "failed", **about, "message": f"the connection was lost ({type(error).__name__})"})
        finally:
            writer.close()

    @contextlib.asynccontextmanager
    async def _open(self, remote: int) -> AsyncIterator[ClientConnection]:
        opened = await asyncio.to_thread(open_socket, self._connection.address, OPEN_S)
        opened.setblocking(False)
        uri = f"ws://{self._connection.address.authority}{self._path}/ports/{remote}{format_query({'host': self._host})}"
        try:
            guest = await connect(
                uri=uri,
                sock=opened,
                additional_headers=self._connection.credentials,
                compression=None,
                open_timeout=OPEN_S,
                close_timeout=2,
                proxy=None,
                ping_interval=None,
            )
        except InvalidStatus as error:
            opened.close()
            raise_problem(error.response.status_code, bytes(error.response.body or b""))
        except (InvalidHandshake, OSError, EOFError) as error:
            opened.close()
            raise Unavailable(f"volantd did not take up the connection ({type(error).__name__})") from error
        async with guest:
            _check_opened(await guest.recv())
            yield guest


def _check_opened(message: str | bytes) -> None:
    told = msgspec.json.decode(message) if isinstance(message, str) else {}
    if "port" not in told:
        raise read_problem(int(told.get("status", 500)), told)


async def _pass_both(guest: ClientConnection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, int]:
    """Bytes sent and received, once both directions have ended."""

    async def send() -> int:
        count = 0
        while data := await reader.read(READ_BYTES):
            count += len(data)
            await guest.send(data)
        await guest.send(b"")
        return count

    async def receive() -> int:
        count = 0
        async for message in guest:
            if isinstance(message, str):
                problem = msgspec.json.decode(message)
                raise read_problem(int(problem.get("status", 500)), problem)
            if not message:
                writer.write_eof()
                continue
            count += len(message)
            writer.write(message)
            await writer.drain()
        return count

    sending, receiving = asyncio.ensure_future(send()), asyncio.ensure_future(receive())
    try:
        await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_EXCEPTION)
        return sending.result() if sending.done() else 0, await receiving
    finally:
        for task in (sending, receiving):
            task.cancel()
        await asyncio.gather(sending, receiving, return_exceptions=True)
