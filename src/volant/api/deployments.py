"""The routes of deployments: made, read, changed, followed, deleted. Those of a rollout are in deployment_rollout.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import Any

import msgspec
from litestar import Request, Response, delete, get, patch, post, put
from litestar.params import FromPath

from volant.api import sse
from volant.api.access import intents_of
from volant.api.answer import PREFIX, answer_json, answer_nothing, answer_resource, format_etag
from volant.api.author import author_of
from volant.api.deployment_records import ORIGIN
from volant.api.headers import LAST_EVENT_ID, REASON
from volant.api.operation import JSON, Body, Operation, read_if_match, read_json, read_query
from volant.api.paging import CURSOR, ORDER, PAGE_LIMIT, SEARCH, SELECTOR, answer_page, only_with, page_of, read_ask, sort_by
from volant.api.parameters import DRY_RUN, FOLLOW_LIST, UID, WAIT_DEFAULT_S, wait_for
from volant.api.schema import WANTED, one_of_events, reference
from volant.api.stopping import unless_stopping
from volant.api.streamed import Streamed, peek
from volant.api.waiting import as_precondition
from volant.core.changes import Difference
from volant.core.deployment import Deployment
from volant.core.deployment_origin import is_origin, modernise_deployment
from volant.core.errors import (
    AlreadyExists,
    Compacted,
    InvalidInput,
    Malformed,
    NotFound,
    StaleRevision,
    TimedOut,
    TooLarge,
    WrongMediaType,
    WrongState,
)
from volant.core.patch import merge_patch
from volant.core.resource import Wanted, from_wire, to_wire
from volant.core.rollout_preview import Preview
from volant.intent.changes import Changed
from volant.intent.deployment_document import EDITABLE, Edit
from volant.intent.deployment_list import DEPLOYMENTS
from volant.intent.listing import check_ask

Asked = Request[Any, Any, Any]

MERGE_PATCH = "application/merge-patch+json"

ONE = Body(Deployment, headers=("ETag",))
PLAN: dict[str, Any] = {
    "title": "DeploymentPlan",
    "type": "object",
    "description": "What would be: the deployment, which VMs would be made, changed and removed, what differs. VMs in `taken` "
    "would be made, but the name is another's. Differences under `vm` and `vm_labels` replace VMs.",
    "properties": {
        "resource": reference(Deployment),
        "preview": reference(Preview),
        "taken": {"type": "array", "items": {"type": "string"}},
        "differences": {"type": "array", "items": reference(Difference)},
    },
    "required": ["resource", "preview", "taken", "differences"],
    "additionalProperties": False,
}
CHANGED = Body({"anyOf": [reference(Deployment), PLAN]}, description="As it is; with dry_run what would be.", headers=("ETag",))
PROBLEMS = (NotFound, InvalidInput, AlreadyExists, WrongState, StaleRevision, TimedOut)
_PATCH = {"type": "object", "description": "Members to be changed (RFC 7396); null takes one back to its default."}
_FIRST_STATE_S = 10.0
_FIRST_CHANGE_S = 0.2
WAITS = wait_for("available", "complete")
NOTE = (
    "A change of `vm` or `vm_labels` is a new revision, with who made it and what the header `Volant-Reason` says. With "
    "wait=complete it is answered when the rollout is done, failed, rolled back or waits for somebody: look at status."
)

LIST = Operation(
    "list_deployments",
    "List deployments",
    {200: (page_of(Deployment), Body(one_of_events(Deployment), sse.MEDIA_TYPE))},
    query=(
        SELECTOR,
        only_with("phase", "phase"),
        only_with("plugin", "plugin"),
        SEARCH,
        sort_by("name", "created_at", "phase", "plugin", "replicas", "available"),
        ORDER,
        PAGE_LIMIT,
        CURSOR,
        FOLLOW_LIST,
    ),
    problems=(Malformed, Compacted),
    headers=(LAST_EVENT_ID,),
    description="Pages and streams as those of VMs.",
)
GET = Operation("get_deployment", "Read one deployment", {200: (ONE,)}, problems=(NotFound,))
CREATE = Operation(
    "create_deployment",
    "Create a deployment",
    {
        201: (Body(Deployment, headers=("ETag", "Location")),),
        200: (Body(PLAN, description="What would be, with dry_run.", headers=("ETag",)),),
    },
    query=(*WAITS, DRY_RUN),
    request=Body({"anyOf": [WANTED[Deployment], ORIGIN]}),
    problems=(InvalidInput, AlreadyExists, WrongState, TimedOut),
    headers=(REASON,),
    description="201 means written down; its VMs are made then. The original's `{name, replicas, config}` is taken too.",
)
REPLACE = Operation(
    "replace_deployment",
    "Describe a deployment as a whole",
    {200: (CHANGED,)},
    query=(*WAITS, DRY_RUN),
    request=Body({"anyOf": [WANTED[Deployment], ORIGIN]}),
    problems=PROBLEMS,
    if_match=True,
    headers=(REASON,),
    description=f"What was read may be edited and sent back; its place in the rollout stays. {NOTE}",
)
EDIT = Operation(
    "edit_deployment",
    "Change a deployment in part",
    {200: (CHANGED,)},
    query=(*WAITS, DRY_RUN),
    request=Body(_PATCH, MERGE_PATCH),
    problems=(*PROBLEMS, Malformed, WrongMediaType, TooLarge),
    if_match=True,
    headers=(REASON,),
    description=f"A merge patch (RFC 7396). {NOTE}",
)
DELETE = Operation(
    "delete_deployment",
    "Delete a deployment and its VMs",
    {202: (ONE,), 204: (Body(description="It is gone."),)},
    query=(*wait_for("deleted"), UID),
    problems=(NotFound, TimedOut),
    if_match=True,
)
WATCH = Operation(
    "watch_deployment",
    "Follow one deployment",
    {200: (Body(one_of_events(Deployment), sse.MEDIA_TYPE),)},
    problems=(NotFound, Malformed, Compacted),
    headers=(LAST_EVENT_ID,),
    description="As of a VM: now and after every change; an event named `deleted` is the last.",
)


@get(f"{PREFIX}/deployments", opt=LIST.opt)
async def list_deployments(request: Asked) -> Response[bytes]:
    asked = read_query(request)
    ask = read_ask(asked, phase="phase", plugin="plugin")
    last_id = sse.read_last_id(request)
    deployments = intents_of(request.app).deployments
    if asked["watch"]:
        check_ask(DEPLOYMENTS, ask)
        changes = await peek(deployments.follow(ask.filters, since=last_id), _FIRST_CHANGE_S)
        return _stream(request, _describe_changes(changes))
    return answer_page(request, await deployments.list_page(ask))


@get(f"{PREFIX}/deployments/{{name:str}}", opt=GET.opt)
async def get_deployment(request: Asked, name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    return answer_resource(await intents_of(request.app).deployments.get(name))


@post(f"{PREFIX}/deployments", opt=CREATE.opt)
async def create_deployment(request: Asked) -> Response[bytes]:
    asked = read_query(request)
    wanted = await _read_wanted(request)
    is_dry = bool(asked["dry_run"])
    made = await intents_of(request.app).deployments.create(wanted, author=author_of(request), dry_run=is_dry)
    if is_dry:
        return await answer_plan(request, made)
    return answer_resource(await wait_deployment(request, made, asked), 201)


@put(f"{PREFIX}/deployments/{{name:str}}", opt=REPLACE.opt)
async def replace_deployment(request: Asked, name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    expected = read_if_match(request)
    changing = intents_of(request.app).deployments.replace(
        name,
        await _read_wanted(request),
        expected_generation=expected,
        author=author_of(request),
        dry_run=bool(asked["dry_run"]),
    )
    return await answer_changed(request, changing, expected, asked)


@patch(f"{PREFIX}/deployments/{{name:str}}", opt=EDIT.opt)
async def edit_deployment(request: Asked, name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    expected = read_if_match(request)
    changing = intents_of(request.app).deployments.edit(
        name,
        await _read_patch(request),
        expected_generation=expected,
        author=author_of(request),
        dry_run=bool(asked["dry_run"]),
    )
    return await answer_changed(request, changing, expected, asked)


@delete(f"{PREFIX}/deployments/{{name:str}}", opt=DELETE.opt, status_code=202)
async def delete_deployment(request: Asked, name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    expected = read_if_match(request)
    deployments = intents_of(request.app).deployments
    try:
        deployment = await deployments.delete(name, uid=asked["uid"], expected_generation=expected)
    except StaleRevision as error:
        raise as_precondition(error, expected) from error
    if asked["wait"] is None:
        return answer_resource(deployment, 202)
    waiting = deployments.wait(deployment, "deleted", timeout_s=asked["timeout"] or WAIT_DEFAULT_S)
    left = await unless_stopping(request.app, waiting)
    return answer_nothing() if left is None else answer_resource(left, 202)


@get(f"{PREFIX}/deployments/{{name:str}}/watch", opt=WATCH.opt)
async def watch_deployment(request: Asked, name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    last_id = sse.read_last_id(request)
    patience_s = _FIRST_STATE_S if last_id is None else _FIRST_CHANGE_S
    states = await peek(intents_of(request.app).deployments.watch(name, since=last_id), patience_s)
    return _stream(request, _describe_states(states))


async def answer_changed(
    request: Asked, changing: Awaitable[Deployment], expected: int | None, asked: dict[str, Any]
) -> Response[bytes]:
    """The deployment, once what was asked to be waited for is reached; or the plan of a dry run."""
    try:
        changed = await changing
    except StaleRevision as error:
        raise as_precondition(error, expected) from error
    if asked.get("dry_run"):
        return await answer_plan(request, changed)
    return answer_resource(await wait_deployment(request, changed, asked))


async def answer_plan(request: Asked, after: Deployment) -> Response[bytes]:
    plan = await intents_of(request.app).deployments.plan(after)
    content = {
        "resource": to_wire(plan.after),
        "preview": plan.preview,
        "taken": plan.taken,
        "differences": plan.differences,
    }
    return answer_json(content, headers={"etag": format_etag(after)})


async def wait_deployment(request: Asked, deployment: Deployment, asked: dict[str, Any]) -> Deployment:
    """``deployment`` as it is when what the query ``asked`` for is reached or out of reach."""
    if asked["wait"] is None:
        return deployment
    timeout_s = asked["timeout"] or WAIT_DEFAULT_S
    waiting = intents_of(request.app).deployments.wait(deployment, asked["wait"], timeout_s=timeout_s)
    waited = await unless_stopping(request.app, waiting)
    if waited is None:
        raise NotFound(f"the deployment {deployment.name!r} was deleted in the meantime")
    return waited


async def _read_wanted(request: Asked) -> Wanted[Any]:
    document = await read_json(request)
    return from_wire(Deployment, modernise_deployment(document) if is_origin(document) else document)


async def _read_patch(request: Asked) -> Edit:
    """Raises WrongMediaType, Malformed, InvalidInput for a patch that cannot be of any deployment."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in (JSON, MERGE_PATCH):
        raise WrongMediaType("this takes a merge patch", hint=f"send it with Content-Type: {MERGE_PATCH}")
    try:
        document = msgspec.json.decode(await request.body())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"the body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidInput("a merge patch of a deployment is one object (RFC 7396)")
    # Null would take an unknown field away without a word.
    unknown = {field: True for field, value in document.items() if value is None and field not in EDITABLE}
    return lambda before: {**merge_patch(before, document), **unknown}


def _stream(request: Asked, events: AsyncIterator[bytes]) -> Response[bytes]:
    source = sse.end_with_problem(events)
    return Streamed(request.app, source, media_type=sse.MEDIA_TYPE, heartbeat=sse.HEARTBEAT, stall_s=sse.STALL_S)


async def _describe_changes(changes: AsyncIterator[Changed[Deployment]]) -> AsyncIterator[bytes]:
    names = {"put": "", "deleted": "deleted", "synced": "synced"}
    async for change in changes:
        content = {} if change.resource is None else to_wire(change.resource)
        yield sse.format_event(content, event=names[change.type], id_=str(change.revision) if change.revision else "")


async def _describe_states(states: AsyncIterator[Deployment | None]) -> AsyncIterator[bytes]:
    async for deployment in states:
        if deployment is None:
            yield sse.format_event({}, event="deleted")
            return
        yield sse.format_event(to_wire(deployment), id_=str(deployment.revision))


HANDLERS = (
    list_deployments,
    get_deployment,
    create_deployment,
    replace_deployment,
    edit_deployment,
    delete_deployment,
    watch_deployment,
)
