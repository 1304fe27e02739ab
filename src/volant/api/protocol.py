"""The HTTP protocol that knows who connected."""

from __future__ import annotations

import asyncio
import contextlib

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from volant.auth.peer import read_peer

PEER = "volant_peer"
"""The key of the Peer in an ASGI scope's ``state``; absent when the kernel did not say."""


class PeerProtocol(HttpToolsProtocol):
    """Reads the peer's credentials once a connection. A WebSocket that grows out of it inherits them with the state."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        super().connection_made(transport)
        with contextlib.suppress(OSError):
            self.app_state = {**self.app_state, PEER: read_peer(transport.get_extra_info("socket"))}
