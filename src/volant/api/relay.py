"""A request passed on to a workload, and its answer passed back: as they come, both ways, and neither kept."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from litestar import Litestar, Response
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

from volant.api.access import door_of
from volant.api.forwarded import Caller, Headers, from_guest, to_guest
from volant.api.guest_http import Exchange
from volant.api.stopping import cancel_all, stopping_of
from volant.api.workload import Workload
from volant.core.errors import BadAnswer, GuestUnreachable, TimedOut, Unavailable

FIRST_BYTE_S = 60.0
CONTINUE_S = 1.0
"""How long a client that asked for ``100 Continue`` is kept waiting for the workload's (RFC 9110, section 10.1.1)."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What the workload is to be asked. ``first_byte_s``: how long it may take to begin its answer."""

    workload: Workload
    caller: Caller
    method: str
    target: str
    first_byte_s: float = FIRST_BYTE_S


class Relayed(Response[bytes]):
    """The workload's own answer, whatever its status. What goes wrong before it began is a problem; afterwards the connection
    is cut, so that nobody takes a part for the whole. A client that goes takes its request to the workload along."""

    def __init__(self, app: Litestar, call: Call) -> None:
        super().__init__(b"")
        self._app = app
        self._call = call

    def to_asgi_response(self, *args: Any, **kwargs: Any) -> ASGIResponse:
        return _RelayedASGI(self._app, self._call)


class _RelayedASGI(ASGIResponse):
    def __init__(self, app: Litestar, call: Call) -> None:
        super().__init__()
        self._app = app
        self._call = call
        self._begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        relaying = asyncio.create_task(self._relay(list(scope["headers"]), receive, send))
        stop = asyncio.create_task(stopping_of(self._app).wait())
        try:
            await asyncio.wait({relaying, stop}, return_when=asyncio.FIRST_COMPLETED)
            if relaying.done():
                relaying.result()
            elif not self._begun:
                raise Unavailable("volantd is stopping", hint="ask again when it is back")
        except (GuestUnreachable, BadAnswer):
            if not self._begun:
                raise
            # An answer that is left without its end makes the server cut the connection.
        finally:
            await cancel_all(relaying, stop)

    async def _relay(self, headers: Headers, receive: Receive, send: Send) -> None:
        call = self._call
        limit = asyncio.timeout(call.first_byte_s)
        try:
            async with (
                limit,
                door_of(self._app).open_port(call.workload.vm.uid, call.workload.port, host=call.workload.host) as stream,
            ):
                exchange = Exchange(stream)
                await exchange.send_head(call.method, call.target, to_guest(headers, call.workload, call.caller))
                expects = any(name.lower() == b"expect" for name, _ in headers)
                passing_in = asyncio.create_task(_pass_in(receive, exchange, expects))
                passing_out = asyncio.create_task(self._pass_out(exchange, send, limit))
                try:
                    await asyncio.wait({passing_in, passing_out}, return_when=asyncio.FIRST_COMPLETED)
                    if passing_out.done():
                        passing_out.result()
                    else:
                        passing_in.result()  # the client hung up
                finally:
                    await cancel_all(passing_in, passing_out)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise TimedOut(
                f"the workload of {call.workload.vm.name!r} did not begin its answer within {call.first_byte_s:g} s",
                hint="give it longer with a Volant-Timeout header, or look at volar vms logs",
            ) from error

    async def _pass_out(self, exchange: Exchange, send: Send, limit: asyncio.Timeout) -> None:
        head = await exchange.read_head()
        limit.reschedule(None)
        headers = from_guest(head.headers, self._call.workload, self._call.caller)
        self._begun = True
        await send({"type": "http.response.start", "status": head.status, "headers": headers})
        while chunk := await exchange.read_content():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _pass_in(receive: Receive, exchange: Exchange, expects: bool) -> None:
    """Pass the client's content on; returns when it hangs up. A workload that takes no more may answer all the same."""
    if expects:
        try:
            async with asyncio.timeout(CONTINUE_S):
                await exchange.may_continue.wait()
        except TimeoutError:
            pass  # it may not know the word; the client waits no longer
    is_open = True
    while True:
        message: Any = await receive()
        if message["type"] == "http.disconnect":
            return
        if not is_open:
            continue
        try:
            if message.get("body"):
                await exchange.send_content(message["body"])
            if not message.get("more_body"):
                is_open = False
                await exchange.send_end()
        except GuestUnreachable:
            is_open = False
