"""A VM's workload itself, over a WebSocket: as exec, but for the first messages, and that going away ends nothing."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, WebSocket, get, websocket
from litestar.params import FromPath

from volant.api.access import door_of, intents_of
from volant.api.answer import PREFIX
from volant.api.conversation import converse, read_first, send_text
from volant.api.operation import Body, Operation, read_query
from volant.api.program import pass_through
from volant.core.errors import Forbidden, GuestUnreachable, Malformed, NotFound, WrongState
from volant.node.door import AttachRequest, ExecResult

ATTACH = Operation(
    "attach_to_vm",
    "See what the workload prints from now on, and type to it",
    {101: (Body(description="A WebSocket (RFC 6455): an AttachRequest as text, an Attached as text, then as exec."),)},
    problems=(Malformed, Forbidden, NotFound, WrongState, GuestUnreachable),
    description="The last text comes when the workload has ended for good. Closing detaches.",
)


@get(f"{PREFIX}/vms/{{name:str}}/attach", opt=ATTACH.opt)
async def refuse_plain_attach(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    raise Malformed("attach is a WebSocket", hint="connect with Upgrade: websocket (RFC 6455)")


@websocket(f"{PREFIX}/vms/{{name:str}}/attach", opt=ATTACH.opt)
async def attach_to_vm(socket: WebSocket[Any, Any, Any], name: FromPath[str]) -> None:
    async def talk() -> ExecResult:
        asked = await read_first(socket, AttachRequest)
        vm = await intents_of(socket.app).vms.get(name)
        async with door_of(socket.app).open_attach(vm.uid, asked) as session:
            await send_text(socket, session.attached)
            return await pass_through(socket, session, tty=session.attached.tty)

    await converse(socket, f"attach to {name}", talk)


HANDLERS = (refuse_plain_attach, attach_to_vm)
