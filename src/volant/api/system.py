"""The routes about the whole, and those that describe the API itself."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Any

from litestar import Request, Response, get, post

from volant.api.access import door_of, intents_of
from volant.api.answer import PREFIX, answer_json
from volant.api.deprecation import Deprecated
from volant.api.operation import Body, Operation, read_query
from volant.api.schema import Drained, Health, Token, list_of
from volant.auth.token import TokenFile
from volant.core.errors import WrongState
from volant.node.door import Check

Asked = Request[Any, Any, Any]

HEALTH = Operation("get_health", "Ask whether volantd answers", {200: (Body(Health),)}, public=True)
OPENAPI = Operation(
    "get_openapi",
    "Read this description",
    {200: (Body({"type": "object"}),)},
    deprecated=Deprecated(since=date(2026, 12, 1), instead="/openapi.json", sunset=date(2028, 1, 1)),
)
OPENAPI_JSON = Operation("get_openapi_json", "Read this description", {200: (Body({"type": "object"}),)})
CHECKS = Operation("list_checks", "Check the host", {200: (list_of(Check),)})
SUMMARY = Operation("get_summary", "Read how many there are of what", {200: (Body({"type": "object"}),)})
DRAIN = Operation(
    "drain_node",
    "Stop every VM of this host",
    {200: (Body(Drained),)},
    description="Answered once it is written down; watch the VMs to see them stop.",
)
ROTATE = Operation(
    "rotate_token",
    "Make a new token for who connects by TCP",
    {200: (Body(Token),)},
    problems=(WrongState,),
    takes_key=False,
    description="The old one is worth nothing from now on; connections that are open stay.",
)


@get("/healthz", opt=HEALTH.opt)
async def get_health(request: Asked) -> Response[bytes]:
    read_query(request)
    return answer_json(Health(status="ok", version=request.app.state.version))


@get("/openapi", opt=OPENAPI.opt)
async def get_openapi(request: Asked) -> Response[bytes]:
    read_query(request)
    return answer_json(request.app.state.openapi)


@get("/openapi.json", opt=OPENAPI_JSON.opt)
async def get_openapi_json(request: Asked) -> Response[bytes]:
    read_query(request)
    return answer_json(request.app.state.openapi)


@get(f"{PREFIX}/system/checks", opt=CHECKS.opt)
async def list_checks(request: Asked) -> Response[bytes]:
    read_query(request)
    return answer_json({"items": await door_of(request.app).check_host()})


@get(f"{PREFIX}/system/summary", opt=SUMMARY.opt)
async def get_summary(request: Asked) -> Response[bytes]:
    read_query(request)
    return answer_json(await intents_of(request.app).system.summary())


@post(f"{PREFIX}/system/drain", opt=DRAIN.opt, status_code=200)
async def drain_node(request: Asked) -> Response[bytes]:
    read_query(request)
    return answer_json(Drained(stopping=await intents_of(request.app).system.drain()))


@post(f"{PREFIX}/system/token", opt=ROTATE.opt, status_code=200)
async def rotate_token(request: Asked) -> Response[bytes]:
    read_query(request)
    tokens: TokenFile | None = request.app.state.tokens
    if tokens is None:
        raise WrongState("this volantd answers on its UNIX socket only, which needs no token", hint="volantd --listen-tcp")
    return answer_json(Token(token=await asyncio.to_thread(tokens.rotate)), headers={"cache-control": "no-store"})


HANDLERS = (get_health, get_openapi, get_openapi_json, list_checks, get_summary, drain_node, rotate_token)
