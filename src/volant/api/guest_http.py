"""HTTP/1.1 to a workload, over a connection inside its guest.

h11 reads and writes it, so that nothing a client or a guest sends can be taken for another message (RFC 9112, section 11.2).
"""

from __future__ import annotations

import asyncio

import h11
import msgspec

from volant.api.forwarded import Headers
from volant.core.errors import BadAnswer, GuestUnreachable, Malformed, TooLarge
from volant.node.door import PortStream

HEAD_MAX_BYTES = 64 * 1024
FIELDS_MAX = 256
INTERIM_MAX = 16
"""Interim answers (1xx) before the final one."""

READ_BYTES = 64 * 1024
_CUT = "the workload closed the connection before its answer was whole"


class Head(msgspec.Struct, frozen=True):
    status: int
    headers: Headers


class Exchange:
    """One request and its answer. Sending and reading may be done by different tasks."""

    def __init__(self, stream: PortStream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_MAX_BYTES)
        self._has_ended = False
        self.may_continue = asyncio.Event()
        """Set when the workload said ``100 Continue``, or answered for good."""

    async def send_head(self, method: str, target: str, headers: Headers) -> None:
        """Raises Malformed for what cannot be a request, GuestUnreachable."""
        try:
            content = self._http.send(h11.Request(method=method, target=target, headers=headers))
        except h11.LocalProtocolError as error:
            raise Malformed(f"the request cannot be passed on: {error}") from error
        await self._stream.write(content or b"")

    async def send_content(self, content: bytes) -> None:
        """Raises GuestUnreachable when the workload does not take it any more."""
        await self._send(h11.Data(data=content))

    async def send_end(self) -> None:
        await self._send(h11.EndOfMessage())

    async def _send(self, event: h11.Data | h11.EndOfMessage) -> None:
        try:
            content = self._http.send(event)
        except h11.LocalProtocolError as error:
            raise GuestUnreachable(f"the workload takes no more: {error}") from error
        if content:
            await self._stream.write(content)

    async def read_head(self) -> Head:
        """The final answer's.

        Raises:
            GuestUnreachable: the way there broke. BadAnswer: it is not HTTP, too long, or cut.
        """
        for _ in range(INTERIM_MAX):
            event = await self._next_event()
            if isinstance(event, h11.InformationalResponse):
                if event.status_code == 101:
                    raise BadAnswer("the workload switches protocols, and nobody asked it to")
                self.may_continue.set()
                continue
            if isinstance(event, h11.Response):
                self.may_continue.set()
                return _check_head(Head(event.status_code, list(event.headers)))
            raise BadAnswer(_CUT, hint="volar vms logs NAME")
        raise BadAnswer("the workload answered with nothing but interim answers")

    async def read_content(self) -> bytes:
        """A part of the answer's content, empty at its end. Raises as ``read_head``."""
        while True:
            event = await self._next_event()
            if isinstance(event, h11.Data):
                if event.data:
                    return bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return b""
            else:
                raise BadAnswer(_CUT)

    async def _next_event(self) -> object:
        while True:
            try:
                event = self._http.next_event()
                if event is not h11.NEED_DATA:
                    return event
                content = await self._stream.read(READ_BYTES)
                self._has_ended = not content
                self._http.receive_data(content)
            except h11.RemoteProtocolError as error:
                if self._has_ended:
                    raise BadAnswer(_CUT, hint="volar vms logs NAME") from error
                raise BadAnswer(f"what the workload answers is not HTTP: {error}", hint="volar vms logs NAME") from error


def _check_head(head: Head) -> Head:
    # h11 bounds what has not come whole only.
    size = sum(len(name) + len(value) + 4 for name, value in head.headers)
    if size > HEAD_MAX_BYTES or len(head.headers) > FIELDS_MAX:
        raise BadAnswer(
            "the workload's answer has more headers than are passed on",
            hint=f"{HEAD_MAX_BYTES} bytes of them, {FIELDS_MAX} at most",
        )
    return head


async def fetch(stream: PortStream, target: str, headers: Headers, max_bytes: int) -> tuple[Head, bytes]:
    """GET ``target`` and read all of the answer. Raises TooLarge for more than ``max_bytes``, and as Exchange."""
    exchange = Exchange(stream)
    await exchange.send_head("GET", target, headers)
    await exchange.send_end()
    head = await exchange.read_head()
    content = bytearray()
    while chunk := await exchange.read_content():
        content += chunk
        if len(content) > max_bytes:
            raise TooLarge(f"the workload answers {target[:80]} with more than {max_bytes} bytes")
    return head, bytes(content)
