"""A program beside a VM's workload, over a WebSocket.

The client's first message is text: an ExecRequest. Then both sides send binary messages of one type byte and content, the
types of docs/guest-protocol.md, section 4.2. The server's last message is text: an ExecResult, or a problem.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from litestar import Request, Response, WebSocket, get, websocket
from litestar.exceptions import HTTPException
from litestar.params import FromPath

from volant.api.access import door_of, intents_of
from volant.api.answer import PREFIX
from volant.api.operation import Body, Operation, read_query
from volant.api.problem import Problem, describe_error, describe_unexpected
from volant.core.errors import GuestUnreachable, InvalidInput, Malformed, NotFound, VolantError, WrongState
from volant.core.resource import split_validation_error
from volant.node.door import ExecRequest, ExecResult, ExecSession

STDIN, STDOUT, STDERR, SIGNAL = b"\0", b"\1", b"\2", b"\6"

FIRST_MESSAGE_S = 10.0
SEND_S = 3600.0
"""A client that reads nothing for this long is given up."""

EXEC = Operation(
    "exec_in_vm",
    "Run a program beside the workload",
    {101: (Body(description="A WebSocket (RFC 6455): an ExecRequest as text, then bytes both ways, an ExecResult as text."),)},
    problems=(Malformed, NotFound, WrongState, GuestUnreachable),
    description=(
        "Binary messages carry one type byte and content: 0 stdin (empty is its end) and 6 a signal number from the client, "
        '1 stdout and 2 stderr from the server. The last text is `{"code": 0}`, `{"signal": 9}` or a problem.'
    ),
)


@get(f"{PREFIX}/vms/{{name:str}}/exec", opt=EXEC.opt)
async def refuse_plain_exec(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    raise Malformed("exec is a WebSocket", hint="connect with Upgrade: websocket (RFC 6455)")


@websocket(f"{PREFIX}/vms/{{name:str}}/exec", opt=EXEC.opt)
async def exec_in_vm(socket: WebSocket[Any, Any, Any], name: FromPath[str]) -> None:
    await socket.accept()
    try:
        answer: ExecResult | Problem | None = await _run(socket, name)
    except VolantError as error:
        answer = describe_error(error)
    except _HungUp:
        answer = None
    except Exception as error:  # noqa: BLE001  # the edge: whatever it was, the client hears a problem and the log the rest
        answer = describe_unexpected(error, f"exec in {name}")
    if answer is None:
        return
    try:
        async with asyncio.timeout(FIRST_MESSAGE_S):
            await socket.send_text(msgspec.json.encode(answer).decode())
            await socket.close()
    except (OSError, TimeoutError, HTTPException):
        return  # it went in the meantime, and nobody is left to tell


class _HungUp(Exception):
    """The client closed, or volantd cuts it."""


async def _run(socket: WebSocket[Any, Any, Any], name: str) -> ExecResult:
    asked = await _read_request(socket)
    vm = await intents_of(socket.app).vms.get(name)
    async with door_of(socket.app).open_exec(vm.uid, asked) as session:
        listening = asyncio.create_task(_listen(socket, session))
        sending = asyncio.create_task(_send_output(socket, session))
        try:
            await asyncio.wait({listening, sending}, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                listening.result()  # raises what ended it: a hang-up, or nonsense
            await sending
        finally:
            listening.cancel()
            sending.cancel()
            await asyncio.gather(listening, sending, return_exceptions=True)
        async with asyncio.timeout(FIRST_MESSAGE_S):
            return await session.result()


async def _read_request(socket: WebSocket[Any, Any, Any]) -> ExecRequest:
    try:
        async with asyncio.timeout(FIRST_MESSAGE_S):
            message: Any = await socket.receive()
    except TimeoutError as error:
        raise Malformed(f"no request came within {FIRST_MESSAGE_S:g} s") from error
    if message["type"] != "websocket.receive":
        raise _HungUp
    text = message.get("text")
    if text is None:
        raise Malformed("the first message is an ExecRequest as text")
    try:
        asked = msgspec.json.decode(text, type=ExecRequest)
    except msgspec.ValidationError as error:
        said, field = split_validation_error(error)
        raise InvalidInput(said, field=field) from error
    except msgspec.DecodeError as error:
        raise Malformed(f"the request is not JSON: {error}") from error
    if not asked.argv or not asked.argv[0]:
        raise InvalidInput("there is no program to run", field="argv")
    return asked


async def _send_output(socket: WebSocket[Any, Any, Any], session: ExecSession) -> None:
    async for source, content in session:
        try:
            async with asyncio.timeout(SEND_S):
                await socket.send_bytes((STDOUT if source == "stdout" else STDERR) + content)
        except OSError as error:
            raise _HungUp from error


async def _listen(socket: WebSocket[Any, Any, Any], session: ExecSession) -> None:
    """Hand on what the client sends until it hangs up. Raises _HungUp, Malformed, or what the session raises."""
    open_stdin = True
    while True:
        message: Any = await socket.receive()
        if message["type"] != "websocket.receive":
            raise _HungUp
        content = message.get("bytes")
        if not content:
            raise Malformed("after the request, messages are binary and begin with their type")
        kind, rest = content[:1], content[1:]
        if kind == STDIN and open_stdin:
            if rest:
                await session.write_stdin(rest)
            else:
                open_stdin = False
                await session.close_stdin()
        elif kind == SIGNAL and len(rest) == 1 and 1 <= rest[0] <= 64:
            await session.send_signal(rest[0])
        elif kind != STDIN:
            raise Malformed(f"a message of type {kind[0]} cannot be read")


HANDLERS = (refuse_plain_exec, exec_in_vm)
