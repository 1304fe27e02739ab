"""The routes of schedules."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, delete, get, patch, post, put
from litestar.params import FromPath

from volant.api.access import intents_of
from volant.api.answer import PREFIX, answer_nothing, answer_resource
from volant.api.jobs import MERGE_PATCH, read_merge_patch
from volant.api.operation import Body, Operation, read_if_match, read_json, read_query
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
from volant.core.job import CronJob, Job
from volant.core.resource import from_wire

Asked = Request[Any, Any, Any]

_ONE = Body(CronJob, headers=("ETag",))
_PATCH = {"type": "object", "description": "Members to be changed (RFC 7396); null leaves one to what it is by itself."}

LIST = Operation(
    "list_cron_jobs",
    "List schedules",
    {200: (page_of(CronJob),)},
    query=(
        SELECTOR,
        only_with("suspended", "`true` or `false`"),
        SEARCH,
        sort_by("name", "created_at", "next_at", "last_scheduled_at"),
        ORDER,
        PAGE_LIMIT,
        CURSOR,
    ),
)
GET = Operation("get_cron_job", "Read one schedule", {200: (_ONE,)}, problems=(NotFound,))
CREATE = Operation(
    "create_cron_job",
    "Make a schedule",
    {201: (Body(CronJob, headers=("ETag", "Location")),), 200: (Body(CronJob, description="What would be, with dry_run."),)},
    query=(DRY_RUN,),
    request=Body(WANTED[CronJob]),
    problems=(InvalidInput, AlreadyExists, WrongState),
    description=(
        "`schedule` is as in crontab(5), or `@daily` and its like, in `timezone`. A job is named by the schedule and the minute, "
        "in UTC. Of moments that volantd was away for only the last one is made up for, and not when it is older than "
        "`start_deadline_s`."
    ),
)
REPLACE = Operation(
    "replace_cron_job",
    "Change a schedule as a whole",
    {200: (_ONE,)},
    query=(DRY_RUN,),
    request=Body(WANTED[CronJob]),
    problems=(NotFound, InvalidInput, WrongState, StaleRevision),
    if_match=True,
    description="Jobs that were made stay as they are.",
)
EDIT = Operation(
    "edit_cron_job",
    "Change a schedule in part",
    {200: (_ONE,)},
    query=(DRY_RUN,),
    request=Body(_PATCH, MERGE_PATCH),
    problems=(NotFound, InvalidInput, WrongState, StaleRevision, Malformed, WrongMediaType, TooLarge),
    if_match=True,
    description="A merge patch (RFC 7396). What comes while `suspended` is true is left out for good.",
)
DELETE = Operation(
    "delete_cron_job",
    "Delete a schedule",
    {202: (_ONE,), 204: (Body(description="It is gone."),)},
    query=wait_for("deleted"),
    problems=(NotFound, TimedOut),
    if_match=True,
    description="Its jobs and their VMs go with it.",
)
TRIGGER = Operation(
    "trigger_cron_job",
    "Make a job of a schedule now",
    {201: (Body(Job, headers=("ETag", "Location")),)},
    problems=(NotFound, InvalidInput, AlreadyExists, WrongState),
    description="Whatever its schedule and its concurrency say, and whether or not it is suspended.",
)


@get(f"{PREFIX}/cronjobs", opt=LIST.opt)
async def list_cron_jobs(request: Asked) -> Response[bytes]:
    ask = read_ask(read_query(request), suspended="suspended")
    return answer_page(request, await intents_of(request.app).cron_jobs.list_page(ask))


@get(f"{PREFIX}/cronjobs/{{name:str}}", opt=GET.opt)
async def get_cron_job(request: Asked, name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    return answer_resource(await intents_of(request.app).cron_jobs.get(name))


@post(f"{PREFIX}/cronjobs", opt=CREATE.opt)
async def create_cron_job(request: Asked) -> Response[bytes]:
    asked = read_query(request)
    wanted = from_wire(CronJob, await read_json(request))
    cron = await intents_of(request.app).cron_jobs.create(wanted, dry_run=bool(asked["dry_run"]))
    return answer_resource(cron, 200 if asked["dry_run"] else 201)


@put(f"{PREFIX}/cronjobs/{{name:str}}", opt=REPLACE.opt)
async def replace_cron_job(request: Asked, name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    expected = read_if_match(request)
    wanted = from_wire(CronJob, await read_json(request))
    schedules = intents_of(request.app).cron_jobs
    try:
        cron = await schedules.replace(name, wanted, expected_generation=expected, dry_run=bool(asked["dry_run"]))
    except StaleRevision as error:
        raise as_precondition(error, expected) from error
    return answer_resource(cron)


@patch(f"{PREFIX}/cronjobs/{{name:str}}", opt=EDIT.opt)
async def edit_cron_job(request: Asked, name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    expected = read_if_match(request)
    edit = await read_merge_patch(request)
    schedules = intents_of(request.app).cron_jobs
    try:
        cron = await schedules.edit(name, edit, expected_generation=expected, dry_run=bool(asked["dry_run"]))
    except StaleRevision as error:
        raise as_precondition(error, expected) from error
    return answer_resource(cron)


@delete(f"{PREFIX}/cronjobs/{{name:str}}", opt=DELETE.opt, status_code=202)
async def delete_cron_job(request: Asked, name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    expected = read_if_match(request)
    schedules = intents_of(request.app).cron_jobs
    try:
        cron = await schedules.delete(name, expected_generation=expected)
    except StaleRevision as error:
        raise as_precondition(error, expected) from error
    if asked["wait"] is None:
        return answer_resource(cron, 202)
    await unless_stopping(request.app, schedules.wait_deleted(cron, timeout_s=asked["timeout"] or WAIT_DEFAULT_S))
    return answer_nothing()


@post(f"{PREFIX}/cronjobs/{{name:str}}/trigger", opt=TRIGGER.opt)
async def trigger_cron_job(request: Asked, name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    return answer_resource(await intents_of(request.app).cron_jobs.trigger(name), 201)


HANDLERS = (
    list_cron_jobs, get_cron_job, create_cron_job, replace_cron_job, edit_cron_job, delete_cron_job, trigger_cron_job,
)  # fmt: skip
