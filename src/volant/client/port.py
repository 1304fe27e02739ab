"""A connection to a port inside a VM, over a WebSocket."""

from __future__ import annotations

from volant.client.connection import Connection
from volant.client.websocket import WebSocketConnection


class PortConnection(WebSocketConnection):
    """``send`` and ``receive`` bytes; no bytes are the end of a direction, on either side."""

    what = "the port"

    def __init__(self, connection: Connection, path: str, host: str | None) -> None:
        """Raises the error that volantd answers with: nobody listens there, the guest cannot be reached."""
        super().__init__(connection, path, {"host": host})
        try:
            self.receive()
        except BaseException:
            self.close()
            raise
