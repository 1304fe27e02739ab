"""The routes of nodes."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from litestar import Request, Response, delete, get, patch, post, put
from litestar.params import FromPath

from volant.api.access import intents_of
from volant.api.answer import PREFIX, answer_json, answer_nothing, answer_resource
from volant.api.merging import MERGE_PATCH, PATCH_SCHEMA, read_merge_patch
from volant.api.operation import Body, Operation, Query, read_if_match, read_json, read_query
from volant.api.paging import CURSOR, ORDER, PAGE_LIMIT, SEARCH, SELECTOR, answer_page, only_with, page_of, read_ask, sort_by
from volant.api.parameters import DRY_RUN, WAIT_DEFAULT_S, read_flag, wait_for
from volant.api.schema import WANTED
from volant.api.stopping import unless_stopping
from volant.api.waiting import as_precondition
from volant.core.errors import (
    InUse,
    InvalidInput,
    Malformed,
    NotFound,
    StaleRevision,
    TimedOut,
    TooLarge,
    WrongMediaType,
    WrongState,
)
from volant.core.node import Node
from volant.core.resource import from_wire
from volant.intent.drain import DrainStep

Asked = Request[Any, Any, Any]

_ONE = Body(Node, headers=("ETag",))
_CHANGES = (NotFound, InvalidInput, StaleRevision)
_FLAG = {"type": "string", "enum": ["true", "false", "1", "0", ""]}

LIST = Operation(
    "list_nodes",
    "List nodes, with what is given out and free",
    {200: (page_of(Node),)},
    query=(
        SELECTOR,
        only_with("state", "state: Ready, Cordoned, Lost or Deleting"),
        SEARCH,
        sort_by("name", "created_at", "state", "cpu_cores", "memory_mb"),
        ORDER,
        PAGE_LIMIT,
        CURSOR,
    ),
)
GET = Operation("get_node", "Read one node, with what is given out and free", {200: (_ONE,)}, problems=(NotFound,))
REPLACE = Operation(
    "replace_node",
    "Say all that is decided of a node anew",
    {200: (_ONE,)},
    query=(DRY_RUN,),
    request=Body(WANTED[Node]),
    problems=_CHANGES,
    if_match=True,
    description="Labels, taints, overcommit, what is reserved. A node is made by its volantd alone.",
)
EDIT = Operation(
    "edit_node",
    "Change what is decided of a node",
    {200: (_ONE,)},
    query=(DRY_RUN,),
    request=Body(PATCH_SCHEMA, MERGE_PATCH),
    problems=(*_CHANGES, Malformed, WrongMediaType, TooLarge),
    if_match=True,
    description="A merge patch (RFC 7396). `unschedulable` cordons it.",
)
DRAIN = Operation(
    "step_node_drain",
    "Take away from a node what can go now",
    {200: (Body(DrainStep),)},
    query=(
        Query("stop", "Stop VMs that nobody makes again elsewhere.", read_flag, _FLAG),
        Query("force", "Whatever the disruption budgets say.", read_flag, _FLAG),
    ),
    problems=(NotFound, StaleRevision),
    description="The node is cordoned. Replicas are deleted as far as the budgets of their deployments allow, and made "
    "elsewhere. Ask again until nothing is moved, stopped, going or blocked.",
)
DELETE = Operation(
    "delete_node",
    "Remove a node that is gone",
    {202: (_ONE,), 204: (Body(description="It is gone."),)},
    query=(Query("force", "Also while it is there or has VMs, which are given up.", read_flag, _FLAG), *wait_for("deleted")),
    problems=(NotFound, WrongState, InUse, StaleRevision, TimedOut),
    if_match=True,
)


@get(f"{PREFIX}/nodes", opt=LIST.opt)
async def list_nodes(request: Asked) -> Response[bytes]:
    ask = read_ask(read_query(request), state="state")
    return answer_page(request, await intents_of(request.app).nodes.list_page(ask))


@get(f"{PREFIX}/nodes/{{name:str}}", opt=GET.opt)
async def get_node(request: Asked, name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    return answer_resource(await intents_of(request.app).nodes.get(name))


@put(f"{PREFIX}/nodes/{{name:str}}", opt=REPLACE.opt)
async def replace_node(request: Asked, name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    expected = read_if_match(request)
    wanted = from_wire(Node, await read_json(request))
    changing = intents_of(request.app).nodes.replace(name, wanted, expected_generation=expected, dry_run=bool(asked["dry_run"]))
    return answer_resource(await _changed(changing, expected))


@patch(f"{PREFIX}/nodes/{{name:str}}", opt=EDIT.opt)
async def edit_node(request: Asked, name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    expected = read_if_match(request)
    edit = await read_merge_patch(request, Node)
    changing = intents_of(request.app).nodes.edit(name, edit, expected_generation=expected, dry_run=bool(asked["dry_run"]))
    return answer_resource(await _changed(changing, expected))


@post(f"{PREFIX}/nodes/{{name:str}}/drain", opt=DRAIN.opt, status_code=200)
async def step_node_drain(request: Asked, name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    drains = intents_of(request.app).drains
    return answer_json(await drains.step(name, stop=bool(asked["stop"]), force=bool(asked["force"])))


@delete(f"{PREFIX}/nodes/{{name:str}}", opt=DELETE.opt, status_code=202)
async def delete_node(request: Asked, name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    expected = read_if_match(request)
    nodes = intents_of(request.app).nodes
    node = await _changed(nodes.delete(name, expected_generation=expected, force=bool(asked["force"])), expected)
    if asked["wait"] is None:
        return answer_resource(node, 202)
    waiting = nodes.wait_gone(node, timeout_s=asked["timeout"] or WAIT_DEFAULT_S)
    left = await unless_stopping(request.app, waiting)
    return answer_nothing() if left is None else answer_resource(left, 202)


async def _changed(changing: Awaitable[Node], expected: int | None) -> Node:
    try:
        return await changing
    except StaleRevision as error:
        raise as_precondition(error, expected) from error


HANDLERS = (list_nodes, get_node, replace_node, edit_node, step_node_drain, delete_node)
