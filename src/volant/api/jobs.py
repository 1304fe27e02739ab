"""The routes of jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from litestar import Request, Response, delete, get, patch, post, put
from litestar.params import FromPath

from volant.api.access import intents_of
from volant.api.answer import PREFIX, answer_nothing, answer_resource
from volant.api.operation import JSON, Body, Operation, read_if_match, read_json, read_query
from volant.api.paging import CURSOR, ORDER, PAGE_LIMIT, SEARCH, SELECTOR, answer_page, only_with, page_of, read_ask, sort_by
from volant.api.parameters import DRY_RUN, WAIT_DEFAULT_S, wait_for
from volant.api.schema import WANTED
from volant.api.stopping import unless_stopping
from volant.api.waiting import as_precondition
from volant.core.errors import (
    AlreadyExists,
    InvalidInput,
    Malformed,
    NotFound,
    StaleRevision,
    TimedOut,
    TooLarge,
    WrongMediaType,
    WrongState,
)
from volant.core.job import Job
from volant.core.patch import merge_patch
from volant.core.resource import from_wire

Asked = Request[Any, Any, Any]

MERGE_PATCH = "application/merge-patch+json"

_ONE = Body(Job, headers=("ETag",))
_PATCH = {"type": "object", "description": "Members to be changed (RFC 7396); null leaves one to what it is by itself."}
_MAY_CHANGE = "What a run is cannot change; parallelism, retries, deadline_s, keep_s, suspended and labels can."

LIST = Operation(
    "list_jobs",
    "List jobs",
    {200: (page_of(Job),)},
    query=(
        SELECTOR,
        only_with("phase", "phase"),
        only_with("plugin", "plugin"),
        only_with("cronjob", "schedule that made it"),
        SEARCH,
        sort_by("name", "created_at", "phase", "plugin", "ended_at"),
        ORDER,
        PAGE_LIMIT,
        CURSOR,
    ),
)
GET = Operation(
    "get_job",
    "Read one job",
    {200: (_ONE,)},
    query=wait_for("finished"),
    problems=(NotFound, TimedOut),
    description="With wait=finished it is answered when the job has ended, well or not: look at status.phase.",
)
CREATE = Operation(
    "create_job",
    "Make a job",
    {201: (Body(Job, headers=("ETag", "Location")),), 200: (Body(Job, description="What would be, with dry_run."),)},
    query=(*wait_for("finished"), DRY_RUN),
    request=Body(WANTED[Job]),
    problems=(InvalidInput, AlreadyExists, WrongState, TimedOut),
    description=(
        "201 means written down. Its runs are VMs named by the job, the index of the completion and the attempt; each is of the "
        "plugin's version that there is now."
    ),
)
REPLACE = Operation(
    "replace_job",
    "Change a job as a whole",
    {200: (_ONE,)},
    query=(DRY_RUN,),
    request=Body(WANTED[Job]),
    problems=(NotFound, InvalidInput, WrongState, StaleRevision),
    if_match=True,
    description=_MAY_CHANGE,
)
EDIT = Operation(
    "edit_job",
    "Change a job in part",
    {200: (_ONE,)},
    query=(DRY_RUN,),
    request=Body(_PATCH, MERGE_PATCH),
    problems=(NotFound, InvalidInput, WrongState, StaleRevision, Malformed, WrongMediaType, TooLarge),
    if_match=True,
    description=f"A merge patch (RFC 7396). {_MAY_CHANGE} `suspended` true starts nothing new; what runs goes on.",
)
DELETE = Operation(
    "delete_job",
    "Delete a job",
    {202: (_ONE,), 204: (Body(description="It is gone."),)},
    query=wait_for("deleted"),
    problems=(NotFound, TimedOut),
    if_match=True,
    description="Its VMs are stopped and go with it, and so do their logs.",
)


@get(f"{PREFIX}/jobs", opt=LIST.opt)
async def list_jobs(request: Asked) -> Response[bytes]:
    ask = read_ask(read_query(request), phase="phase", plugin="plugin", cronjob="cronjob")
    return answer_page(request, await intents_of(request.app).jobs.list_page(ask))


@get(f"{PREFIX}/jobs/{{name:str}}", opt=GET.opt)
async def get_job(request: Asked, name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    return answer_resource(await _wait_finished(request, await intents_of(request.app).jobs.get(name), asked))


@post(f"{PREFIX}/jobs", opt=CREATE.opt)
async def create_job(request: Asked) -> Response[bytes]:
    asked = read_query(request)
    wanted = from_wire(Job, await read_json(request))
    job = await intents_of(request.app).jobs.create(wanted, dry_run=bool(asked["dry_run"]))
    if asked["dry_run"]:
        return answer_resource(job)
    return answer_resource(await _wait_finished(request, job, asked), 201)


@put(f"{PREFIX}/jobs/{{name:str}}", opt=REPLACE.opt)
async def replace_job(request: Asked, name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    expected = read_if_match(request)
    wanted = from_wire(Job, await read_json(request))
    jobs = intents_of(request.app).jobs
    try:
        job = await jobs.replace(name, wanted, expected_generation=expected, dry_run=bool(asked["dry_run"]))
    except StaleRevision as error:
        raise as_precondition(error, expected) from error
    return answer_resource(job)


@patch(f"{PREFIX}/jobs/{{name:str}}", opt=EDIT.opt)
async def edit_job(request: Asked, name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    expected = read_if_match(request)
    edit = await read_merge_patch(request)
    jobs = intents_of(request.app).jobs
    try:
        job = await jobs.edit(name, edit, expected_generation=expected, dry_run=bool(asked["dry_run"]))
    except StaleRevision as error:
        raise as_precondition(error, expected) from error
    return answer_resource(job)


@delete(f"{PREFIX}/jobs/{{name:str}}", opt=DELETE.opt, status_code=202)
async def delete_job(request: Asked, name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    expected = read_if_match(request)
    jobs = intents_of(request.app).jobs
    try:
        job = await jobs.delete(name, expected_generation=expected)
    except StaleRevision as error:
        raise as_precondition(error, expected) from error
    if asked["wait"] is None:
        return answer_resource(job, 202)
    left = await unless_stopping(request.app, jobs.wait(job, timeout_s=asked["timeout"] or WAIT_DEFAULT_S))
    return answer_nothing() if left is None else answer_resource(left, 202)


async def read_merge_patch(request: Asked) -> Callable[[dict[str, Any]], Any]:
    """What a merge patch makes of a document. Raises WrongMediaType, Malformed, InvalidInput."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in (JSON, MERGE_PATCH):
        raise WrongMediaType("this takes a merge patch", hint=f"send it with Content-Type: {MERGE_PATCH}")
    try:
        change = msgspec.json.decode(await request.body())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"the body is not JSON: {error}") from error
    if not isinstance(change, dict):
        raise InvalidInput("a merge patch is one object (RFC 7396)")

    def edit(before: dict[str, Any]) -> Any:
        # Null would take an unknown field away without a word.
        unknown = {field: True for field, value in change.items() if value is None and field not in before}
        return {**merge_patch(before, change), **unknown}

    return edit


async def _wait_finished(request: Asked, job: Job, asked: dict[str, Any]) -> Job:
    if asked["wait"] is None:
        return job
    waiting = intents_of(request.app).jobs.wait(job, timeout_s=asked["timeout"] or WAIT_DEFAULT_S)
    waited = await unless_stopping(request.app, waiting)
    if waited is None:
        raise NotFound(f"the job {job.name!r} was deleted in the meantime")
    return waited


HANDLERS = (list_jobs, get_job, create_job, replace_job, edit_job, delete_job)
