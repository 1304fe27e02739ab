"""WebSockets to volantd on an event loop: programs, the workload, the console and ports. The twin of volant.client.exec."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidHandshake, InvalidStatus

from volant.client.aio.connection import Connection
from volant.client.connection import Query, format_query, open_socket
from volant.client.exec import STDIN_CHUNK_BYTES, Output
from volant.client.problem import raise_problem, read_problem
from volant.client.websocket import CLOSE_S, MESSAGE_MAX_BYTES, OPEN_S
from volant.core.errors import Unavailable

_STDIN, _STDOUT, _RESIZE, _SIGNAL = 0, 1, 4, 6


class WebSocketConnection:
    """Opened and closed as a context. Reading and writing may be done by different tasks."""

    what = "the conversation"

    def __init__(self, connection: Connection, path: str, query: Query | None = None) -> None:
        self._connection = connection
        self._target = f"{path}{format_query(query)}"
        self._socket: ClientConnection

    async def __aenter__(self) -> Self:
        """Raises the error that volantd answers with, or Unavailable."""
        address = self._connection.address
        opened = await asyncio.to_thread(open_socket, address, OPEN_S)
        opened.setblocking(False)
        try:
            self._socket = await connect(
                uri=f"ws://{address.authority}{self._target}", sock=opened, additional_headers=self._connection.credentials,
                compression=None, open_timeout=OPEN_S, close_timeout=CLOSE_S, max_size=MESSAGE_MAX_BYTES, proxy=None,
                ping_interval=None,
            )  # fmt: skip
        except InvalidStatus as error:
            opened.close()
            raise_problem(error.response.status_code, bytes(error.response.body or b""))
        except (InvalidHandshake, OSError, EOFError) as error:
            opened.close()
            raise Unavailable(f"volantd did not take up {self.what} ({type(error).__name__})") from error
        try:
            await self._begin()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def _begin(self) -> None:
        """What is said before anything else."""

    async def close(self) -> None:
        await self._socket.close()

    async def send(self, message: bytes | str) -> None:
        """Raises Unavailable when it is over."""
        try:
            await self._socket.send(message)
        except (ConnectionClosed, OSError) as error:
            raise Unavailable(f"{self.what} is over, or volantd is") from error

    async def receive(self) -> bytes | dict[str, object] | None:
        """Bytes, a document, or None at the end. Raises what volantd tells, Unavailable when it ends without a word."""
        try:
            message = await self._socket.recv()
        except ConnectionClosedOK:
            return None
        except (ConnectionClosed, OSError, EOFError) as error:
            raise Unavailable(f"the connection to {self.what} was lost", hint="is volantd still running?") from error
        if not isinstance(message, str):
            return bytes(message)
        told: dict[str, object] = msgspec.json.decode(message)
        if "detail" in told:
            raise read_problem(int(str(told.get("status", 500))), told)
        return told


class ExecConnection(WebSocketConnection):
    """Iterate for ``("stdout" | "stderr", bytes)``; then ``code`` or ``signal`` says how the program ended. Leaving the context
    hangs up on a program that still runs."""

    what = "the program"

    def __init__(self, connection: Connection, path: str, asked: dict[str, Any]) -> None:
        super().__init__(connection, path)
        self.code: int | None = None
        self.signal: int | None = None
        self._asked = asked

    async def _begin(self) -> None:
        await self.send(msgspec.json.encode(self._asked).decode())

    async def write_stdin(self, content: bytes) -> None:
        """Raises Unavailable when the exec is over."""
        for start in range(0, len(content), STDIN_CHUNK_BYTES):
            await self.send(bytes([_STDIN]) + content[start : start + STDIN_CHUNK_BYTES])

    async def close_stdin(self) -> None:
        await self.send(bytes([_STDIN]))

    async def send_signal(self, number: int) -> None:
        """To the program's process group."""
        await self.send(bytes([_SIGNAL, number]))

    async def resize(self, rows: int, cols: int) -> None:
        """Its terminal has another size now, 1 to 9,999 each."""
        await self.send(bytes([_RESIZE]) + struct.pack(">HH", rows, cols))

    async def __aiter__(self) -> AsyncIterator[Output]:
        """Raises the error that volantd tells, or Unavailable when it ends without a word."""
        while True:
            message = await self.receive()
            if message is None:
                raise Unavailable(f"the connection to {self.what} was lost", hint="is volantd still running?")
            if isinstance(message, dict):
                self.code, self.signal = _number(message.get("code")), _number(message.get("signal"))
                return
            if message:
                yield ("stdout" if message[0] == _STDOUT else "stderr", message[1:])


class AttachConnection(ExecConnection):
    """As an exec, of the workload itself; ``has_tty`` and ``pid`` say what it is. Leaving the context ends nothing."""

    what = "the workload"
    has_tty = False
    pid = 0

    async def _begin(self) -> None:
        await super()._begin()
        told = await self.receive()
        if not isinstance(told, dict):
            raise Unavailable("volantd did not say what was attached to")
        self.has_tty = bool(told.get("tty"))
        self.pid = _number(told.get("pid")) or 0


class ConsoleConnection(WebSocketConnection):
    """Iterate for what the serial console prints, until the VM is deleted."""

    what = "the console"

    async def _begin(self) -> None:
        await self.receive()

    async def write_stdin(self, content: bytes) -> None:
        """Type. Raises Unavailable when it is over."""
        for start in range(0, len(content), STDIN_CHUNK_BYTES):
            await self.send(content[start : start + STDIN_CHUNK_BYTES])

    async def __aiter__(self) -> AsyncIterator[Output]:
        while isinstance(message := await self.receive(), bytes):
            yield "stdout", message


class PortConnection(WebSocketConnection):
    """``send`` and ``receive`` bytes; no bytes are the end of a direction, on either side."""

    what = "the port"

    def __init__(self, connection: Connection, path: str, host: str | None) -> None:
        super().__init__(connection, path, {"host": host})

    async def _begin(self) -> None:
        await self.receive()


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None
