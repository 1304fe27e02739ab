"""The routes that lead to a VM's workload, whatever its network: HTTP and WebSockets through the channel to its agent.

A leading ``/v1`` of the path is taken away once, as the original's agent did: ``/agent/v1/x`` is ``/x`` of the workload, and so
is ``/agent/x``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from litestar import Request, Response, WebSocket, websocket
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.params import FromPath
from litestar.types import Method

from volant.api.answer import PREFIX
from volant.api.forwarded import TIMEOUT_HEADER, Caller
from volant.api.headers import TIMEOUT
from volant.api.operation import Body, Operation
from volant.api.parameters import read_timeout
from volant.api.protocol import PEER
from volant.api.relay import FIRST_BYTE_S, Call, Relayed
from volant.api.socket_relay import relay_socket
from volant.api.workload import Workload, find_workload
from volant.auth.peer import Peer
from volant.core.errors import BadAnswer, GuestUnreachable, Malformed, NotFound, TimedOut, WrongState

METHODS: tuple[Method, ...] = ("OPTIONS", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
"""OPTIONS first: once a path has any handler, litestar adds one of its own for it."""
ROOT = f"{PREFIX}/vms/{{name:str}}/agent"
BELOW = f"{ROOT}/{{path:path}}"

_RAW_PATH = re.compile(rb"/+api/+v1/+vms/+[^/]+/+agent(/.*)?")
_VISIBLE = re.compile(r"[!-~]+")

Connection = ASGIConnection[Any, Any, Any, Any]


def describe_call(method: str, *, below: bool) -> Operation:
    id_ = f"agent_{method.lower()}" if below else f"agent_root_{method.lower()}"
    where = "something of a VM's workload" if below else "the root of a VM's workload"
    return Operation(
        id_,
        f"{method} {where}",
        {200: (Body(None, "application/octet-stream", "The workload's own answer, whatever its status and its kind."),)},
        problems=(Malformed, NotFound, WrongState, GuestUnreachable, BadAnswer, TimedOut),
        headers=(TIMEOUT,),
        takes_key=False,
        description=(
            "Passed on to `workload.base_url` inside the guest, through the channel to its agent: content streams both ways, "
            "hop-by-hop headers stay, a WebSocket is one at the other end too, a client that goes takes the request along. "
            "`Volant-Timeout: 30s` says how long the workload may take to begin its answer; 60s unless said. "
            "A leading `/v1` of the path is taken away once."
        ),
    )


async def call_below(request: Request[Any, Any, Any], name: FromPath[str], path: FromPath[str]) -> Response[bytes]:
    return await _call(request, name)


async def call_root(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
    return await _call(request, name)


@websocket([ROOT, BELOW])
async def connect_to_workload(socket: WebSocket[Any, Any, Any], name: FromPath[str]) -> None:
    async def find() -> tuple[Workload, Caller, str]:
        workload = await find_workload(socket.app, name)
        return workload, read_caller(socket, name), _read_target(socket, workload)

    await relay_socket(socket, find)


async def _call(request: Request[Any, Any, Any], name: str) -> Response[bytes]:
    workload = await find_workload(request.app, name)
    timeout = request.headers.get(TIMEOUT_HEADER)
    call = Call(
        workload=workload,
        caller=read_caller(request, name),
        method=request.method,
        target=_read_target(request, workload),
        first_byte_s=FIRST_BYTE_S if timeout is None else read_timeout(timeout, "Volant-Timeout"),
    )
    return Relayed(request.app, call)


def read_caller(connection: Connection, name: str) -> Caller:
    """Who asks, from the connection itself: what a client says of that is not believed."""
    scope: Any = connection.scope
    peer = scope.get("state", {}).get(PEER)
    client = scope.get("client")
    host = next((value for key, value in scope["headers"] if key.lower() == b"host"), b"")
    return Caller(
        mount=f"{PREFIX}/vms/{name}/agent",
        host=host,
        address="" if not client or isinstance(peer, Peer) else str(client[0]),
        is_vouched_for=isinstance(peer, Peer),
    )


def _read_target(connection: Connection, workload: Workload) -> str:
    """What is asked of the workload, spelt as the client spelt it."""
    scope: Any = connection.scope
    match = _RAW_PATH.fullmatch(scope["raw_path"])
    if match is None:
        raise Malformed("the path is not written plainly", hint=f"{PREFIX}/vms/NAME/agent/PATH")
    rest = (match[1] or b"/").decode("latin-1")
    if rest == "/v1" or rest.startswith("/v1/"):
        rest = rest[3:] or "/"
    query = scope["query_string"].decode("latin-1")
    target = workload.target_of(rest) + (f"?{query}" if query else "")
    if not _VISIBLE.fullmatch(target):
        raise Malformed("the path or the query holds a character that is not encoded")
    return target


def _make_handlers() -> Iterator[BaseRouteHandler]:
    for path, call, below in ((BELOW, call_below, True), (ROOT, call_root, False)):
        for method in METHODS:
            # OPTIONS is passed on like the rest, and described nowhere: every address has it.
            opt = {} if method == "OPTIONS" else describe_call(method, below=below).opt
            yield HTTPRouteHandler(path, http_method=[method], status_code=200, opt=opt)(call)


HANDLERS: tuple[BaseRouteHandler, ...] = (*_make_handlers(), connect_to_workload)
