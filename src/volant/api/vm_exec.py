"""A program beside a VM's workload, over a WebSocket.

The client's first message is text: an ExecRequest. Then both sides send binary messages of one type byte and content, the
types of docs/guest-protocol.md, section 4.2. The server's last message is text: an ExecResult, or a problem.
"""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, WebSocket, get, websocket
from litestar.params import FromPath

from volant.api.access import door_of, intents_of
from volant.api.answer import PREFIX
from volant.api.conversation import converse, read_first
from volant.api.operation import Body, Operation, read_query
from volant.api.program import pass_through
from volant.core.errors import Forbidden, GuestUnreachable, InvalidInput, Malformed, NotFound, WrongState
from volant.node.door import ExecRequest, ExecResult

EXEC = Operation(
    "exec_in_vm",
    "Run a program beside the workload",
    {101: (Body(description="A WebSocket (RFC 6455): an ExecRequest as text, then bytes both ways, an ExecResult as text."),)},
    problems=(Malformed, Forbidden, NotFound, WrongState, GuestUnreachable),
    description=(
        "Binary messages carry one type byte and content: 0 stdin (empty is its end), 4 a terminal's new rows and columns (two "
        "bytes each) and 6 a signal number from the client, 1 stdout and 2 stderr from the server. The last text is "
        '`{"code": 0}`, `{"signal": 9}` or a problem.'
    ),
)


@get(f"{PREFIX}/vms/{{name:str}}/exec", opt=EXEC.opt)
async def refuse_plain_exec(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    raise Malformed("exec is a WebSocket", hint="connect with Upgrade: websocket (RFC 6455)")


@websocket(f"{PREFIX}/vms/{{name:str}}/exec", opt=EXEC.opt)
async def exec_in_vm(socket: WebSocket[Any, Any, Any], name: FromPath[str]) -> None:
    async def talk() -> ExecResult:
        asked = await read_first(socket, ExecRequest)
        if not asked.argv or not asked.argv[0]:
            raise InvalidInput("there is no program to run", field="argv")
        vm = await intents_of(socket.app).vms.get(name)
        async with door_of(socket.app).open_exec(vm.uid, asked) as session:
            return await pass_through(socket, session, tty=asked.tty is not None)

    await converse(socket, f"exec in {name}", talk)


HANDLERS = (refuse_plain_exec, exec_in_vm)
