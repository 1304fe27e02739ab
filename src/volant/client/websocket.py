"""WebSockets to volantd (RFC 6455), for what talks both ways."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Self

import msgspec
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidHandshake, InvalidStatus
from websockets.sync.client import unix_connect

from volant.client.connection import Connection, Query, format_query, open_socket
from volant.client.problem import raise_problem, read_problem
from volant.core.errors import Unavailable

OPEN_S = 30.0
CLOSE_S = 2.0
MESSAGE_MAX_BYTES = 1024 * 1024


class WebSocketConnection:
    """Reading and writing may be done by different threads, closing by any. Leaving the context closes."""

    what = "the conversation"

    def __init__(self, connection: Connection, path: str, query: Query | None = None) -> None:
        """Raises the error that volantd answers with, or Unavailable."""
        self._open = ExitStack()
        opened = open_socket(connection.address, OPEN_S)
        try:
            # No pings of its own: a peer that is slow to read is not gone, and a socket of this host ends when its owner does.
            self._socket = self._open.enter_context(
                unix_connect(
                    uri=f"ws://{connection.address.authority}{path}{format_query(query)}", sock=opened,
                    additional_headers=connection.credentials, compression=None, open_timeout=OPEN_S,
                    close_timeout=CLOSE_S, max_size=MESSAGE_MAX_BYTES, proxy=None, ping_interval=None,
                )
            )  # fmt: skip
        except InvalidStatus as error:
            opened.close()
            raise_problem(error.response.status_code, bytes(error.response.body or b""))
        except (InvalidHandshake, OSError, EOFError) as error:
            opened.close()
            raise Unavailable(f"volantd did not take up {self.what} ({type(error).__name__})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._open.close()

    def send(self, message: bytes | str) -> None:
        """Raises Unavailable when it is over."""
        try:
            self._socket.send(message)
        except (ConnectionClosed, OSError) as error:
            raise Unavailable(f"{self.what} is over, or volantd is") from error

    def receive(self) -> bytes | dict[str, object] | None:
        """Bytes, a document, or None at the end.

        Raises:
            VolantError: the problem that volantd tells; Unavailable when it ends without a word.
        """
        try:
            message = self._socket.recv()
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
