"""The routes of pools: clones that are kept ready to be taken."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get, put
from litestar.params import FromPath

from volant.api.access import intents_of
from volant.api.answer import PREFIX, answer_json, answer_resource
from volant.api.operation import Body, Operation, read_if_match, read_query, read_record
from volant.api.schema import PoolWanted, list_of
from volant.api.waiting import as_precondition
from volant.core.errors import InvalidInput, NotFound, StaleRevision, WrongState
from volant.core.plugin import Plugin
from volant.intent.pools import Pool

Asked = Request[Any, Any, Any]

LIST = Operation(
    "list_pools",
    "List pools, and what their clones take",
    {200: (list_of(Pool),)},
    description="Of every plugin that wants clones kept ready, or still has some.",
)
SET = Operation(
    "set_plugin_pool",
    "Say how many clones of a plugin are kept ready",
    {200: (Body(Plugin, headers=("ETag",)),)},
    request=Body(PoolWanted),
    problems=(NotFound, InvalidInput, WrongState),
    if_match=True,
)


@get(f"{PREFIX}/pools", opt=LIST.opt)
async def list_pools(request: Asked) -> Response[bytes]:
    read_query(request)
    return answer_json({"items": await intents_of(request.app).pools.list()})


@put(f"{PREFIX}/plugins/{{name:str}}/pool", opt=SET.opt)
async def set_plugin_pool(request: Asked, name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    expected = read_if_match(request)
    wanted = await read_record(request, PoolWanted)
    try:
        plugin = await intents_of(request.app).plugins.set_pool(name, wanted.size, expected_generation=expected)
    except StaleRevision as error:
        raise as_precondition(error, expected) from error
    return answer_resource(plugin)


HANDLERS = (list_pools, set_plugin_pool)
