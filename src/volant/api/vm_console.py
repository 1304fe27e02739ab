"""A VM's serial console: as a plain answer for who reads, over a WebSocket for who also types."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import Request, Response, WebSocket, get, websocket
from litestar.params import FromPath

from volant.api.access import door_of, intents_of
from volant.api.answer import PREFIX
from volant.api.conversation import both, converse, read_bytes, read_socket_query, send_bytes, send_text
from volant.api.operation import Body, Operation, Query, read_query
from volant.api.parameters import FOLLOW, TAIL_BYTES, read_flag
from volant.api.streamed import Streamed, peek
from volant.core.errors import Forbidden, GuestUnreachable, NotFound, WrongState

BYTES = "application/octet-stream"

FIRST_BYTES_S = 10.0
FIRST_FOLLOWED_S = 0.5
"""How long the answer waits for the first bytes while following, where there may be none for long."""

REPLAYED_BYTES = 16 * 1024

CONSOLE = Operation(
    "read_vm_console",
    "Read what the serial console printed, or type at it",
    {
        200: (Body(None, BYTES),),
        101: (Body(description="A WebSocket (RFC 6455): a ConsoleOpened as text, then bytes both ways."),),
    },
    query=(FOLLOW, TAIL_BYTES),
    problems=(NotFound, Forbidden, WrongState, GuestUnreachable),
    description=(
        "As a WebSocket it takes `write=true`, to type (one client at a time may), `force=true`, to take over from who does, and "
        "`tail_bytes`, how much of what was printed before comes first. It ends with a problem, or when the VM is deleted."
    ),
)
_FLAG = {"type": "boolean"}
SOCKET_QUERY = (
    TAIL_BYTES,
    Query("write", "Type, too.", read_flag, _FLAG),
    Query("force", "Take over from who types.", read_flag, _FLAG),
)


class ConsoleOpened(msgspec.Struct, frozen=True, kw_only=True):
    """``writer``: what is sent is typed."""

    writer: bool


@get(f"{PREFIX}/vms/{{name:str}}/console", opt=CONSOLE.opt)
async def read_vm_console(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    vm = await intents_of(request.app).vms.get(name)
    follow = bool(asked["follow"])
    content = door_of(request.app).read_console(vm.uid, tail_bytes=asked["tail_bytes"], follow=follow)
    begun = await peek(content, FIRST_FOLLOWED_S if follow else FIRST_BYTES_S)
    return Streamed(request.app, _as_bytes(begun), media_type=BYTES)


@websocket(f"{PREFIX}/vms/{{name:str}}/console", opt=CONSOLE.opt)
async def open_vm_console(socket: WebSocket[Any, Any, Any], name: FromPath[str]) -> None:
    async def talk() -> None:
        asked = read_socket_query(socket, SOCKET_QUERY)
        write, tail_bytes = bool(asked["write"]), asked["tail_bytes"]
        vm = await intents_of(socket.app).vms.get(name)
        async with door_of(socket.app).open_console(
            vm.uid, write=write, force=bool(asked["force"]), tail_bytes=REPLAYED_BYTES if tail_bytes is None else tail_bytes
        ) as console:
            await send_text(socket, ConsoleOpened(writer=write))

            async def listen() -> None:
                while True:
                    content = await read_bytes(socket)
                    if content:
                        await console.write(content)

            async def send() -> None:
                async for content in console:
                    await send_bytes(socket, content)

            await both(listen(), send())

    await converse(socket, f"console of {name}", talk)


async def _as_bytes(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for chunk in content:
        yield chunk


HANDLERS = (read_vm_console, open_vm_console)
