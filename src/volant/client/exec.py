"""A program in a guest, its workload, and its console, over a WebSocket. The messages are those of docs/reference/api.md."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from volant.client.connection import Connection, Query
from volant.client.websocket import WebSocketConnection
from volant.core.errors import Unavailable

_STDIN, _STDOUT, _RESIZE, _SIGNAL = 0, 1, 4, 6
STDIN_CHUNK_BYTES = 32 * 1024

Output = tuple[Literal["stdout", "stderr"], bytes]


class ExecConnection(WebSocketConnection):
    """Iterate for ``("stdout" | "stderr", bytes)``; then ``code`` or ``signal`` says how the program ended.

    Reading and writing may be done by different threads. Leaving the context hangs up on a program that still runs.
    """

    what = "the program"

    def __init__(self, connection: Connection, path: str, asked: dict[str, Any]) -> None:
        self.code: int | None = None
        self.signal: int | None = None
        super().__init__(connection, path)
        try:
            self.send(msgspec.json.encode(asked).decode())
        except Unavailable:
            self.close()
            raise

    def write_stdin(self, content: bytes) -> None:
        """Raises Unavailable when the exec is over."""
        for start in range(0, len(content), STDIN_CHUNK_BYTES):
            self.send(bytes([_STDIN]) + content[start : start + STDIN_CHUNK_BYTES])

    def close_stdin(self) -> None:
        self.send(bytes([_STDIN]))

    def send_signal(self, number: int) -> None:
        """To the program's process group."""
        self.send(bytes([_SIGNAL, number]))

    def resize(self, rows: int, cols: int) -> None:
        """Its terminal has another size now, 1 to 9,999 each."""
        self.send(bytes([_RESIZE]) + struct.pack(">HH", rows, cols))

    def __iter__(self) -> Iterator[Output]:
        """Raises the error that volantd tells, or Unavailable when it ends without a word."""
        while True:
            message = self.receive()
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

    def __init__(self, connection: Connection, path: str, asked: dict[str, Any]) -> None:
        super().__init__(connection, path, asked)
        try:
            told = self.receive()
        except BaseException:
            self.close()
            raise
        if not isinstance(told, dict):
            self.close()
            raise Unavailable("volantd did not say what was attached to")
        self.has_tty = bool(told.get("tty"))
        self.pid = _number(told.get("pid")) or 0


class ConsoleConnection(WebSocketConnection):
    """Iterate for what the serial console prints, until the VM is deleted."""

    what = "the console"

    def __init__(self, connection: Connection, path: str, query: Query) -> None:
        super().__init__(connection, path, query)
        try:
            self.receive()
        except BaseException:
            self.close()
            raise

    def write_stdin(self, content: bytes) -> None:
        """Type. Raises Unavailable when it is over."""
        for start in range(0, len(content), STDIN_CHUNK_BYTES):
            self.send(content[start : start + STDIN_CHUNK_BYTES])

    def close_stdin(self) -> None:
        """A console has no end of input: nothing more is typed, and reading goes on."""

    def send_signal(self, number: int) -> None:
        """A console has no signals but the keys that its terminal makes them of."""

    def resize(self, rows: int, cols: int) -> None:
        """A serial line has no size."""

    def __iter__(self) -> Iterator[Output]:
        while isinstance(message := self.receive(), bytes):
            yield "stdout", message


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None
