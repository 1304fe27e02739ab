"""The routes of VMs that answer at once, or after a wait with an end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from litestar import Request, Response, delete, get, post
from litestar.params import FromPath

from volant.api import sse
from volant.api.access import intents_of
from volant.api.answer import PREFIX, answer_nothing, answer_resource
from volant.api.author import author_of
from volant.api.headers import LAST_EVENT_ID, REASON
from volant.api.operation import Body, Operation, read_if_match, read_json, read_query
from volant.api.paging import CURSOR, ORDER, PAGE_LIMIT, SEARCH, SELECTOR, answer_page, only_with, page_of, read_ask, sort_by
from volant.api.parameters import DISRUPT, DRY_RUN, FOLLOW_LIST, FORCE, UID, WAIT_DEFAULT_S, wait_for
from volant.api.schema import WANTED, one_of_events
from volant.api.stopping import unless_stopping
from volant.api.streamed import Streamed, peek
from volant.api.waiting import as_precondition, wait_vm
from volant.core.errors import (
    AlreadyExists,
    Compacted,
    Exhausted,
    InvalidInput,
    Malformed,
    NotFound,
    OverBudget,
    StaleRevision,
    TimedOut,
    WrongState,
)
from volant.core.resource import from_wire, to_wire
from volant.core.vm import VM
from volant.intent.changes import Changed
from volant.intent.listing import check_ask
from volant.intent.vm_list import VMS

Asked = Request[Any, Any, Any]

_ONE = Body(VM, headers=("ETag",))
_FIRST_STATE_S = 10.0
_FIRST_CHANGE_S = 0.2

LIST = Operation(
    "list_vms",
    "List VMs",
    {200: (page_of(VM), Body(one_of_events(VM), sse.MEDIA_TYPE))},
    query=(
        SELECTOR,
        only_with("phase", "phase"),
        only_with("status", "phase, as `phase`"),
        only_with("plugin", "plugin"),
        only_with("node", "node"),
        SEARCH,
        sort_by("name", "created_at", "phase", "plugin", "node", "memory_mb", "cpu_cores", "restarts", "started_at"),
        ORDER,
        PAGE_LIMIT,
        CURSOR,
        FOLLOW_LIST,
    ),
    problems=(Malformed, Compacted),
    headers=(LAST_EVENT_ID,),
    description=(
        "All of them unless `limit` is given. Pages hold still while VMs come and go: none is shown twice. With `watch=true` a "
        "stream of events: those that are there, one named `synced`, then every VM that changed; one named `deleted` when it is "
        "gone or no longer what was asked for. With `Last-Event-ID` only what came since."
    ),
)
GET = Operation("get_vm", "Read one VM", {200: (_ONE,)}, problems=(NotFound,))
CREATE = Operation(
    "create_vm",
    "Create a VM",
    {201: (Body(VM, headers=("ETag", "Location")),), 200: (Body(VM, description="What would be, with dry_run."),)},
    query=(*wait_for("ready", "stopped"), DRY_RUN),
    request=Body(WANTED[VM]),
    problems=(InvalidInput, AlreadyExists, Exhausted, WrongState, TimedOut),
    headers=(REASON,),
    description="201 means written down. With wait=ready it is answered when the VM is ready or has failed: look at status.",
)
DELETE = Operation(
    "delete_vm",
    "Delete a VM",
    {202: (_ONE,), 204: (Body(description="It is gone."),)},
    query=(*wait_for("deleted"), UID, FORCE, DISRUPT),
    problems=(NotFound, OverBudget, TimedOut),
    if_match=True,
)
START = Operation(
    "start_vm", "Start a VM", {200: (_ONE,)}, query=wait_for("ready"), problems=(NotFound, WrongState, TimedOut), if_match=True
)
STOP = Operation(
    "stop_vm",
    "Stop a VM",
    {200: (_ONE,)},
    query=(*wait_for("stopped"), FORCE, DISRUPT),
    problems=(NotFound, WrongState, OverBudget, TimedOut),
    if_match=True,
)
RESTART = Operation(
    "restart_vm",
    "Stop a VM in an orderly way and start it again",
    {200: (_ONE,)},
    query=(*wait_for("ready"), DISRUPT),
    problems=(NotFound, WrongState, OverBudget, TimedOut),
    if_match=True,
)
SUSPEND = Operation(
    "suspend_vm",
    "Save a VM to disk and free its memory",
    {200: (_ONE,)},
    query=(*wait_for("suspended"), DISRUPT),
    problems=(NotFound, WrongState, OverBudget, TimedOut),
    if_match=True,
    description="It goes on where it was when it is resumed, or when somebody connects to one of its published ports.",
)
RESUME = Operation(
    "resume_vm",
    "Let a suspended VM go on",
    {200: (_ONE,)},
    query=wait_for("ready"),
    problems=(NotFound, WrongState, TimedOut),
    if_match=True,
)
WATCH = Operation(
    "watch_vm",
    "Follow one VM",
    {200: (Body(one_of_events(VM), sse.MEDIA_TYPE),)},
    problems=(NotFound, Malformed, Compacted),
    headers=(LAST_EVENT_ID,),
    description=(
        "The VM now and after every change, as events. An event named `deleted` is the last; `problem` says what went wrong."
    ),
)


@get(f"{PREFIX}/vms", opt=LIST.opt)
async def list_vms(request: Asked) -> Response[bytes]:
    asked = read_query(request)
    asked["phase"] = asked["phase"] or asked["status"]
    ask = read_ask(asked, phase="phase", plugin="plugin", node="node")
    last_id = sse.read_last_id(request)
    if asked["watch"]:
        check_ask(VMS, ask)
        changes = await peek(intents_of(request.app).vms.follow(ask.filters, since=last_id), _FIRST_CHANGE_S)
        return _stream(request, _describe_changes(changes))
    return answer_page(request, await intents_of(request.app).vms.list_page(ask))


@get(f"{PREFIX}/vms/{{name:str}}", opt=GET.opt)
async def get_vm(request: Asked, name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    return answer_resource(await intents_of(request.app).vms.get(name))


@post(f"{PREFIX}/vms", opt=CREATE.opt)
async def create_vm(request: Asked) -> Response[bytes]:
    asked = read_query(request)
    wanted = from_wire(VM, await read_json(request))
    is_dry = bool(asked["dry_run"])
    vm = await intents_of(request.app).vms.create(wanted, author=author_of(request), dry_run=is_dry)
    if is_dry:
        return answer_resource(vm)
    return answer_resource(await wait_vm(request, vm, asked), 201)


@delete(f"{PREFIX}/vms/{{name:str}}", opt=DELETE.opt, status_code=202)
async def delete_vm(request: Asked, name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    expected = read_if_match(request)
    try:
        vm = await intents_of(request.app).vms.delete(
            name,
            uid=asked["uid"],
            expected_generation=expected,
            force=bool(asked["force"]),
            disrupt=bool(asked["disrupt"]),
        )
    except StaleRevision as error:
        raise as_precondition(error, expected) from error
    if asked["wait"] is None:
        return answer_resource(vm, 202)
    timeout_s = asked["timeout"] or WAIT_DEFAULT_S
    left = await unless_stopping(request.app, intents_of(request.app).vms.wait(vm, "deleted", timeout_s=timeout_s))
    return answer_nothing() if left is None else answer_resource(left, 202)


@post(f"{PREFIX}/vms/{{name:str}}/start", opt=START.opt, status_code=200)
async def start_vm(request: Asked, name: FromPath[str]) -> Response[bytes]:
    return await _change_power(request, name, "start")


@post(f"{PREFIX}/vms/{{name:str}}/stop", opt=STOP.opt, status_code=200)
async def stop_vm(request: Asked, name: FromPath[str]) -> Response[bytes]:
    return await _change_power(request, name, "stop")


@post(f"{PREFIX}/vms/{{name:str}}/restart", opt=RESTART.opt, status_code=200)
async def restart_vm(request: Asked, name: FromPath[str]) -> Response[bytes]:
    return await _change_power(request, name, "restart")


@post(f"{PREFIX}/vms/{{name:str}}/suspend", opt=SUSPEND.opt, status_code=200)
async def suspend_vm(request: Asked, name: FromPath[str]) -> Response[bytes]:
    return await _change_power(request, name, "suspend")


@post(f"{PREFIX}/vms/{{name:str}}/resume", opt=RESUME.opt, status_code=200)
async def resume_vm(request: Asked, name: FromPath[str]) -> Response[bytes]:
    return await _change_power(request, name, "resume")


@get(f"{PREFIX}/vms/{{name:str}}/watch", opt=WATCH.opt)
async def watch_vm(request: Asked, name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    last_id = sse.read_last_id(request)
    # Who goes on may have nothing to hear for long.
    patience_s = _FIRST_STATE_S if last_id is None else _FIRST_CHANGE_S
    states = await peek(intents_of(request.app).vms.watch(name, since=last_id), patience_s)
    return _stream(request, _describe_states(states))


def _stream(request: Asked, events: AsyncIterator[bytes]) -> Response[bytes]:
    source = sse.end_with_problem(events)
    return Streamed(request.app, source, media_type=sse.MEDIA_TYPE, heartbeat=sse.HEARTBEAT, stall_s=sse.STALL_S)


async def _describe_changes(changes: AsyncIterator[Changed[VM]]) -> AsyncIterator[bytes]:
    names = {"put": "", "deleted": "deleted", "synced": "synced"}
    async for change in changes:
        content = {} if change.resource is None else to_wire(change.resource)
        yield sse.format_event(content, event=names[change.type], id_=str(change.revision) if change.revision else "")


async def _describe_states(states: AsyncIterator[VM | None]) -> AsyncIterator[bytes]:
    async for vm in states:
        if vm is None:
            yield sse.format_event({}, event="deleted")
            return
        yield sse.format_event(to_wire(vm), id_=str(vm.revision))


async def _change_power(request: Asked, name: str, verb: str) -> Response[bytes]:
    asked = read_query(request)
    expected = read_if_match(request)
    vms = intents_of(request.app).vms
    changes = {"start": vms.start, "resume": vms.resume}
    ends = {"restart": vms.restart, "suspend": vms.suspend}
    try:
        if verb == "stop":
            force, disrupt = bool(asked["force"]), bool(asked["disrupt"])
            vm = await vms.stop(name, expected_generation=expected, force=force, disrupt=disrupt)
        elif verb in ends:
            vm = await ends[verb](name, expected_generation=expected, disrupt=bool(asked["disrupt"]))
        else:
            vm = await changes[verb](name, expected_generation=expected)
    except StaleRevision as error:
        raise as_precondition(error, expected) from error
    return answer_resource(await wait_vm(request, vm, asked))


HANDLERS = (list_vms, get_vm, create_vm, delete_vm, start_vm, stop_vm, restart_vm, suspend_vm, resume_vm, watch_vm)
