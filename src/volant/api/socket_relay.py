"""A WebSocket passed on to a workload: message by message, with its subprotocol and its close code."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from litestar import WebSocket
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus, ProtocolError
from websockets.frames import Frame, Opcode
from websockets.http11 import Response as Answer
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from volant.api.access import door_of
from volant.api.forwarded import Caller, Headers, from_guest, to_guest
from volant.api.problem import MEDIA_TYPE, describe_error
from volant.api.stopping import cancel_all, stopping_of
from volant.api.workload import Workload
from volant.core.errors import BadAnswer, GuestUnreachable, TimedOut, Unavailable, VolantError
from volant.node.door import PortStream

MESSAGE_MAX_BYTES = 1024 * 1024
"""Of one message that a workload sends."""

HANDSHAKE_S = 30.0
GOODBYE_S = 2.0
GOING_AWAY, BROKEN, RESTARTING = 1001, 1011, 1012
_MAY_BE_SENT = frozenset((1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014))

Find = Callable[[], Awaitable[tuple[Workload, Caller, str]]]


async def relay_socket(socket: WebSocket[Any, Any, Any], find: Find) -> None:
    """Connect ``socket`` to the workload, caller and target that ``find`` gives. A refusal is an HTTP answer: the workload's own,
    or a problem."""
    relay: _Relay | None = None
    stop = asyncio.create_task(stopping_of(socket.app).wait())
    running: asyncio.Task[None] | None = None
    try:
        workload, caller, target = await find()
        relay = _Relay(socket, workload, caller)
        running = asyncio.create_task(relay.run(target))
        await asyncio.wait({running, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            await cancel_all(running)
            if not relay.accepted:
                raise Unavailable("volantd is stopping", hint="connect again when it is back")
            await _close(socket, RESTARTING, "volantd is stopping")
        else:
            running.result()
    except VolantError as error:
        if relay is not None and relay.accepted:
            await _close(socket, BROKEN, error.code)
        else:
            problem = describe_error(error)
            await _refuse(socket, problem.status, [(b"content-type", MEDIA_TYPE.encode())], msgspec.json.encode(problem))
    finally:
        await cancel_all(stop, *([running] if running else []))


class _Relay:
    def __init__(self, socket: WebSocket[Any, Any, Any], workload: Workload, caller: Caller) -> None:
        self._socket = socket
        self._workload = workload
        self._caller = caller
        self._writing = asyncio.Lock()
        self.accepted = False

    async def run(self, target: str) -> None:
        workload = self._workload
        limit = asyncio.timeout(HANDSHAKE_S)
        try:
            async with limit, door_of(self._socket.app).open_port(workload.vm.uid, workload.port, host=workload.host) as stream:
                protocol = self._begin(target)
                await self._flush(protocol, stream)
                if not await self._shake_hands(protocol, stream):
                    return
                limit.reschedule(None)
                outward = asyncio.create_task(self._pass_out(protocol, stream))
                inward = asyncio.create_task(self._pass_in(protocol, stream))
                try:
                    await asyncio.wait({outward, inward}, return_when=asyncio.FIRST_COMPLETED)
                    if inward.done():
                        inward.result()
                        await asyncio.wait({outward}, timeout=GOODBYE_S)  # the workload's own goodbye
                    else:
                        outward.result()
                finally:
                    await cancel_all(inward, outward)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise TimedOut(f"the workload of {workload.vm.name!r} did not take up the WebSocket in {HANDSHAKE_S:g} s") from error

    def _begin(self, target: str) -> ClientProtocol:
        path, _, query = target.partition("?")
        uri = WebSocketURI(
            secure=False, host=self._workload.host, port=self._workload.port, path=path, query=query, username=None, password=None
        )
        wanted = [Subprotocol(one) for one in self._socket.scope["subprotocols"]] or None
        protocol = ClientProtocol(uri, subprotocols=wanted, max_size=MESSAGE_MAX_BYTES)
        request = protocol.connect()
        del request.headers["Host"]
        for name, value in to_guest(self._socket.scope["headers"], self._workload, self._caller, upgrade=True):
            request.headers[name.decode("latin-1")] = value.decode("latin-1")
        protocol.send_request(request)
        return protocol

    async def _shake_hands(self, protocol: ClientProtocol, stream: PortStream) -> bool:
        """False when the workload refused, which the client was told."""
        answer = await self._read_answer(protocol, stream)
        error = protocol.handshake_exc
        if isinstance(error, InvalidStatus) and answer is not None:
            content = bytes(answer.body or b"")
            await _refuse(self._socket, answer.status_code, self._headers_of(answer, b"content-type"), content)
            return False
        if error is not None or answer is None:
            raise BadAnswer(f"the workload does not take up the WebSocket: {error or 'it hung up'}")
        await self._socket.accept(
            subprotocols=protocol.subprotocol,
            headers={name.decode(): value.decode("latin-1") for name, value in self._headers_of(answer, b"set-cookie")},
        )
        self.accepted = True
        return True

    async def _read_answer(self, protocol: ClientProtocol, stream: PortStream) -> Answer | None:
        while True:
            data = await stream.read()
            if data:
                protocol.receive_data(data)
            else:
                protocol.receive_eof()
            events = protocol.events_received()
            if events:
                assert isinstance(events[0], Answer)
                protocol.events[:0] = events[1:]  # frames that came with it
                return events[0]
            if protocol.handshake_exc is not None or not data:
                return None

    def _headers_of(self, answer: Answer, *wanted: bytes) -> Headers:
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.raw_items()]
        return [(name, value) for name, value in from_guest(raw, self._workload, self._caller) if name in wanted]

    async def _pass_out(self, protocol: ClientProtocol, stream: PortStream) -> None:
        """From the workload to the client, to the workload's end of it."""
        kind, parts = Opcode.TEXT, bytearray()
        while True:
            for event in protocol.events_received():
                assert isinstance(event, Frame)
                if event.opcode in (Opcode.TEXT, Opcode.BINARY):
                    kind, parts = event.opcode, bytearray()
                if event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                    parts += event.data
                    if event.fin:
                        await self._send_to_client(kind, bytes(parts))
                        parts = bytearray()
            if protocol.close_rcvd is not None:
                await _close(self._socket, protocol.close_rcvd.code, protocol.close_rcvd.reason)
                with contextlib.suppress(GuestUnreachable):  # it need not wait for our goodbye
                    await self._flush(protocol, stream)
                return
            await self._flush(protocol, stream)
            if protocol.parser_exc is not None:
                raise BadAnswer(f"the workload broke the WebSocket: {protocol.parser_exc}")
            data = await stream.read()
            if not data:
                raise GuestUnreachable("the workload went away")
            protocol.receive_data(data)

    async def _send_to_client(self, kind: Opcode, content: bytes) -> None:
        if kind is Opcode.BINARY:
            await self._socket.send({"type": "websocket.send", "bytes": content, "text": None})
            return
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise BadAnswer("the workload sends a text that is not UTF-8") from error
        await self._socket.send({"type": "websocket.send", "bytes": None, "text": text})

    async def _pass_in(self, protocol: ClientProtocol, stream: PortStream) -> None:
        """From the client to the workload, until the client closes."""
        while True:
            message: Any = await self._socket.receive()
            try:
                if message["type"] == "websocket.disconnect":
                    code = message.get("code") or GOING_AWAY
                    protocol.send_close(code if _is_sendable(code) else GOING_AWAY, message.get("reason") or "")
                    await self._flush(protocol, stream)
                    return
                if message.get("text") is not None:
                    protocol.send_text(message["text"].encode())
                else:
                    protocol.send_binary(message.get("bytes") or b"")
            except ProtocolError:
                return  # the workload is closing, and says so to the client itself
            await self._flush(protocol, stream)

    async def _flush(self, protocol: ClientProtocol, stream: PortStream) -> None:
        async with self._writing:
            for content in protocol.data_to_send():
                if content:
                    await stream.write(content)
                else:
                    await stream.write_eof()


def _is_sendable(code: int) -> bool:
    return code in _MAY_BE_SENT or 3000 <= code < 5000


async def _close(socket: WebSocket[Any, Any, Any], code: int, reason: str) -> None:
    try:
        await socket.send({"type": "websocket.close", "code": code if _is_sendable(code) else 1000, "reason": reason})
    except (OSError, RuntimeError):
        return  # it went in the meantime


async def _refuse(socket: WebSocket[Any, Any, Any], status: int, headers: Headers, content: bytes) -> None:
    """Answer the handshake with an HTTP answer (the ASGI extension ``websocket.http.response``)."""
    length = (b"content-length", str(len(content)).encode())
    start: Any = {"type": "websocket.http.response.start", "status": status, "headers": [*headers, length]}
    body: Any = {"type": "websocket.http.response.body", "body": content, "more_body": False}
    await socket.send(start)
    await socket.send(body)
