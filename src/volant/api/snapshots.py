"""The routes of snapshots."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, delete, get, post
from litestar.params import FromPath

from volant.api.access import intents_of
from volant.api.answer import PREFIX, answer_nothing, answer_resource
from volant.api.operation import Body, Operation, read_if_match, read_json, read_query
from volant.api.paging import CURSOR, ORDER, PAGE_LIMIT, SEARCH, SELECTOR, answer_page, only_with, page_of, read_ask, sort_by
from volant.api.parameters import WAIT_DEFAULT_S, wait_for
from volant.api.schema import WANTED
from volant.api.stopping import unless_stopping
from volant.api.waiting import as_precondition
from volant.core.errors import AlreadyExists, InUse, InvalidInput, NotFound, StaleRevision, TimedOut, WrongState
from volant.core.resource import from_wire
from volant.core.snapshot import Snapshot

Asked = Request[Any, Any, Any]

_ONE = Body(Snapshot, headers=("ETag",))

LIST = Operation(
    "list_snapshots",
    "List snapshots",
    {200: (page_of(Snapshot),)},
    query=(
        SELECTOR,
        only_with("phase", "phase"),
        only_with("vm", "VM"),
        SEARCH,
        sort_by("name", "created_at", "phase", "vm", "size_bytes"),
        ORDER,
        PAGE_LIMIT,
        CURSOR,
    ),
    description="Those that were made for a fork, and go by themselves, are left out.",
)
GET = Operation("get_snapshot", "Read one snapshot", {200: (_ONE,)}, problems=(NotFound,))
CREATE = Operation(
    "create_snapshot",
    "Take a snapshot of a VM",
    {201: (Body(Snapshot, headers=("ETag", "Location")),)},
    query=wait_for("ready"),
    request=Body(WANTED[Snapshot]),
    problems=(NotFound, InvalidInput, AlreadyExists, WrongState, TimedOut),
    description="201 means written down. With wait=ready it is answered when it was taken or has failed: look at status.",
)
DELETE = Operation(
    "delete_snapshot",
    "Delete a snapshot",
    {202: (_ONE,), 204: (Body(description="It is gone."),)},
    query=wait_for("deleted"),
    problems=(NotFound, InUse, TimedOut),
    if_match=True,
    description="What began from it is its own and stays.",
)


@get(f"{PREFIX}/snapshots", opt=LIST.opt)
async def list_snapshots(request: Asked) -> Response[bytes]:
    asked = read_query(request)
    return answer_page(request, await intents_of(request.app).snapshots.list_page(read_ask(asked, phase="phase", vm="vm")))


@get(f"{PREFIX}/snapshots/{{name:str}}", opt=GET.opt)
async def get_snapshot(request: Asked, name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    return answer_resource(await intents_of(request.app).snapshots.get(name))


@post(f"{PREFIX}/snapshots", opt=CREATE.opt)
async def create_snapshot(request: Asked) -> Response[bytes]:
    asked = read_query(request)
    wanted = from_wire(Snapshot, await read_json(request))
    if wanted.spec.transient:
        raise InvalidInput("only a fork makes a transient snapshot", field="transient", hint="leave it out")
    snapshot = await intents_of(request.app).snapshots.create(wanted)
    if asked["wait"] is not None:
        taken = await _wait(request, snapshot, asked["timeout"])
        if taken is None:
            raise NotFound(f"the snapshot {snapshot.name!r} was deleted in the meantime")
        snapshot = taken
    return answer_resource(snapshot, 201)


@delete(f"{PREFIX}/snapshots/{{name:str}}", opt=DELETE.opt, status_code=202)
async def delete_snapshot(request: Asked, name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    expected = read_if_match(request)
    try:
        snapshot = await intents_of(request.app).snapshots.delete(name, expected_generation=expected)
    except StaleRevision as error:
        raise as_precondition(error, expected) from error
    if asked["wait"] is None:
        return answer_resource(snapshot, 202)
    left = await _wait(request, snapshot, asked["timeout"])
    return answer_nothing() if left is None else answer_resource(left, 202)


async def _wait(request: Asked, snapshot: Snapshot, timeout_s: float | None) -> Snapshot | None:
    waiting = intents_of(request.app).snapshots.wait(snapshot, timeout_s=timeout_s or WAIT_DEFAULT_S)
    return await unless_stopping(request.app, waiting)


HANDLERS = (list_snapshots, get_snapshot, create_snapshot, delete_snapshot)
