"""A program in a guest, over a WebSocket. The messages are those of docs/reference/api.md."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Literal

import msgspec
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import unix_connect

from volant.client.connection import open_socket
from volant.client.problem import raise_problem, read_problem
from volant.core.errors import Unavailable

_STDIN, _STDOUT, _SIGNAL = 0, 1, 6
STDIN_CHUNK_BYTES = 32 * 1024
OPEN_S = 30.0
CLOSE_S = 2.0
MESSAGE_MAX_BYTES = 1024 * 1024


class ExecConnection:
    """Iterate for ``("stdout" | "stderr", bytes)``; then ``code`` or ``signal`` says how the program ended.

    Reading and writing may be done by different threads. Leaving the context hangs up on a program that still runs.
    """

    def __init__(self, socket_path: str, path: str, asked: dict[str, Any]) -> None:
        self.code: int | None = None
        self.signal: int | None = None
        connection = open_socket(socket_path, OPEN_S)
        self._open = ExitStack()
        try:
            self._socket = self._open.enter_context(
                unix_connect(
                    uri=f"ws://localhost{path}", sock=connection, compression=None, open_timeout=OPEN_S, close_timeout=CLOSE_S,
                    max_size=MESSAGE_MAX_BYTES, proxy=None,
                )
            )  # fmt: skip
        except InvalidStatus as error:
            connection.close()
            raise_problem(error.response.status_code, bytes(error.response.body or b""))
        except (InvalidHandshake, OSError, EOFError) as error:
            connection.close()
            raise Unavailable(f"volantd did not take up the exec ({type(error).__name__})") from error
        try:
            self._send(msgspec.json.encode(asked).decode())
        except Unavailable:
            self.close()
            raise

    def __enter__(self) -> ExecConnection:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._open.close()

    def write_stdin(self, content: bytes) -> None:
        """Raises Unavailable when the exec is over."""
        for start in range(0, len(content), STDIN_CHUNK_BYTES):
            self._send(bytes([_STDIN]) + content[start : start + STDIN_CHUNK_BYTES])

    def close_stdin(self) -> None:
        self._send(bytes([_STDIN]))

    def send_signal(self, number: int) -> None:
        """To the program's process group."""
        self._send(bytes([_SIGNAL, number]))

    def __iter__(self) -> Iterator[tuple[Literal["stdout", "stderr"], bytes]]:
        """Raises the error that volantd tells, or Unavailable when it ends without a word."""
        while True:
            try:
                message = self._socket.recv()
            except (ConnectionClosed, OSError) as error:
                raise Unavailable("the connection to the program was lost", hint="is volantd still running?") from error
            if isinstance(message, str):
                self._read_end(message)
                return
            if message:
                yield ("stdout" if message[0] == _STDOUT else "stderr", bytes(message[1:]))

    def _read_end(self, text: str) -> None:
        end = msgspec.json.decode(text)
        if "detail" in end:
            raise read_problem(int(end.get("status", 500)), end)
        self.code, self.signal = end.get("code"), end.get("signal")

    def _send(self, message: bytes | str) -> None:
        try:
            self._socket.send(message)
        except (ConnectionClosed, OSError) as error:
            raise Unavailable("the program ended, or volantd did") from error
