"""The HTTP protocol that knows who connected, and what is too much of a head."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from volant.api.problem import MEDIA_TYPE, describe_error
from volant.auth.peer import read_peer
from volant.core.errors import HeadersTooLarge, Malformed, VolantError

PEER = "volant_peer"
"""The key of the Peer in an ASGI scope's ``state``; absent when the kernel did not say."""

ABORT = "volant_abort"
"""The key of a callable there that ends the connection at once."""

HEAD_MAX_BYTES = 64 * 1024
"""Of a request's target and headers together."""

_LINES = {400: b"HTTP/1.1 400 Bad Request\r\n", 431: b"HTTP/1.1 431 Request Header Fields Too Large\r\n"}


class PeerProtocol(HttpToolsProtocol):
    """Reads the peer's credentials once a connection. A WebSocket that grows out of it inherits them with the state."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        super().connection_made(transport)
        self._head_bytes = 0
        self._in_head = True
        self.app_state = {**self.app_state, ABORT: transport.abort}
        self._bytes_fed = 0
        with contextlib.suppress(OSError):
            self.app_state = {**self.app_state, PEER: read_peer(transport.get_extra_info("socket"))}

    def data_received(self, data: bytes) -> None:
        # The parser calls on_header for whole headers only, and keeps one that never ends: what was fed is counted here.
        self._bytes_fed += len(data)
        super().data_received(data)
        if self._in_head and self._bytes_fed > HEAD_MAX_BYTES and not self.transport.is_closing():
            self._refuse(HeadersTooLarge(f"a request's head may have {HEAD_MAX_BYTES // 1024} KiB"))

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        self._bytes_fed = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        if self._head_bytes > HEAD_MAX_BYTES:
            self._refuse(HeadersTooLarge(f"a request's head may have {HEAD_MAX_BYTES // 1024} KiB"))
        else:
            self._refuse(Malformed("that is not HTTP"))

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_MAX_BYTES:
            raise HeadersTooLarge("too much")  # the parser tells it as an error of its own, and send_400_response is called

    def _refuse(self, error: VolantError) -> None:
        content = msgspec.json.encode(describe_error(error))
        head = f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(content)}\r\nconnection: close\r\n\r\n"
        self.transport.write(_LINES[error.status] + head.encode() + content)
        self.transport.close()
