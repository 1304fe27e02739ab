"""A TCP connection to a port inside a VM, over a WebSocket: it goes through the agent, so no network has to lead there.

The server's first message is text, a PortOpened; then binary messages carry the bytes both ways. An empty one is the end of that
direction. When both have ended the server closes; its last message is a problem when something went wrong.
"""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Any

import msgspec
from litestar import Request, Response, WebSocket, get, websocket
from litestar.params import FromPath

from volant.api.access import door_of, intents_of
from volant.api.answer import PREFIX
from volant.api.conversation import both, converse, read_bytes, read_socket_query, send_bytes, send_text
from volant.api.operation import Body, Operation, Query, read_query
from volant.core.errors import Forbidden, GuestUnreachable, InvalidInput, Malformed, NotFound, Unavailable, WrongState
from volant.node.door import PortStream


def read_host(text: str, name: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise InvalidInput(f"{text[:60]!r} is no address", field=name, hint="as in 127.0.0.1 or ::1") from error


HOST = Query("host", "The address to connect to, as the guest sees it.", read_host, {"type": "string", "default": "127.0.0.1"})

PORT = Operation(
    "connect_to_vm_port",
    "Connect to a port inside the VM",
    {101: (Body(description="A WebSocket (RFC 6455): a PortOpened as text, then bytes both ways."),)},
    query=(HOST,),
    problems=(Malformed, Forbidden, NotFound, WrongState, Unavailable, GuestUnreachable),
    description="An empty binary message ends its direction. The last text is a problem, if anything went wrong.",
)


class PortOpened(msgspec.Struct, frozen=True, kw_only=True):
    """The connection to ``port`` was made."""

    port: int


@get(f"{PREFIX}/vms/{{name:str}}/ports/{{port:str}}", opt=PORT.opt)
async def refuse_plain_port(request: Request[Any, Any, Any], name: FromPath[str], port: FromPath[str]) -> Response[bytes]:
    read_query(request)
    raise Malformed("a port is a WebSocket", hint="connect with Upgrade: websocket (RFC 6455)")


@websocket(f"{PREFIX}/vms/{{name:str}}/ports/{{port:str}}", opt=PORT.opt)
async def connect_to_vm_port(socket: WebSocket[Any, Any, Any], name: FromPath[str], port: FromPath[str]) -> None:
    async def talk() -> None:
        number = _read_port(port)
        host = read_socket_query(socket, (HOST,))["host"] or "127.0.0.1"
        vm = await intents_of(socket.app).vms.get(name)
        async with door_of(socket.app).open_port(vm.uid, number, host=host) as connection:
            await send_text(socket, PortOpened(port=number))
            await _pass_both(socket, connection)

    await converse(socket, f"port {port[:10]} of {name}", talk)


def _read_port(text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) <= 5 and 1 <= int(text) <= 65_535:
        return int(text)
    raise InvalidInput(f"{text[:20]!r} is no port", field="port", hint="1 to 65535")


async def _pass_both(socket: WebSocket[Any, Any, Any], connection: PortStream) -> None:
    """Until both directions have ended, or one broke."""
    sent_all = asyncio.Event()

    async def listen() -> None:
        while content := await read_bytes(socket):
            await connection.write(content)
        await connection.write_eof()
        sent_all.set()
        # From here on there is only one thing to hear: that the client goes.
        await read_bytes(socket)
        raise Malformed("a message came after the end of that direction")

    async def send() -> None:
        while content := await connection.read():
            await send_bytes(socket, content)
        await send_bytes(socket, b"")
        await sent_all.wait()

    await both(listen(), send())


HANDLERS = (refuse_plain_port, connect_to_vm_port)
