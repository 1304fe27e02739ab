"""The routes of quotas."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from litestar import Request, Response, delete, get, patch, post, put
from litestar.params import FromPath

from volant.api.access import intents_of
from volant.api.answer import PREFIX, answer_nothing, answer_resource
from volant.api.merging import MERGE_PATCH, PATCH_SCHEMA, read_merge_patch
from volant.api.operation import Body, Operation, read_if_match, read_json, read_query
from volant.api.paging import CURSOR, ORDER, PAGE_LIMIT, SEARCH, SELECTOR, answer_page, page_of, read_ask, sort_by
from volant.api.parameters import DRY_RUN
from volant.api.schema import WANTED
from volant.api.waiting import as_precondition
from volant.core.errors import (
    AlreadyExists,
    Exhausted,
    InvalidInput,
    Malformed,
    NotFound,
    StaleRevision,
    TooLarge,
    WrongMediaType,
)
from volant.core.quota import Quota
from volant.core.resource import from_wire

Asked = Request[Any, Any, Any]

_ONE = Body(Quota, headers=("ETag",))
_CHANGES = (NotFound, InvalidInput, StaleRevision)

LIST = Operation(
    "list_quotas",
    "List quotas, with what is used",
    {200: (page_of(Quota),)},
    query=(SELECTOR, SEARCH, sort_by("name", "created_at"), ORDER, PAGE_LIMIT, CURSOR),
)
GET = Operation("get_quota", "Read one quota, with what is used", {200: (_ONE,)}, problems=(NotFound,))
CREATE = Operation(
    "create_quota",
    "Limit what the project may have",
    {201: (Body(Quota, headers=("ETag", "Location")),), 200: (_ONE,)},
    query=(DRY_RUN,),
    request=Body(WANTED[Quota]),
    problems=(InvalidInput, AlreadyExists, Exhausted),
    description="What is left out is not limited. All quotas of a project hold. What is used already counts, and stays even when "
    "it is more than the quota allows. 200 is the answer of a dry run.",
)
REPLACE = Operation(
    "replace_quota",
    "Say all limits anew",
    {200: (_ONE,)},
    query=(DRY_RUN,),
    request=Body(WANTED[Quota]),
    problems=_CHANGES,
    if_match=True,
)
EDIT = Operation(
    "edit_quota",
    "Change some limits",
    {200: (_ONE,)},
    query=(DRY_RUN,),
    request=Body(PATCH_SCHEMA, MERGE_PATCH),
    problems=(*_CHANGES, Malformed, WrongMediaType, TooLarge),
    if_match=True,
    description="A merge patch (RFC 7396); null lifts a limit.",
)
DELETE = Operation(
    "delete_quota",
    "Remove a quota",
    {204: (Body(description="It is gone."),)},
    problems=(NotFound, StaleRevision),
    if_match=True,
)


@get(f"{PREFIX}/quotas", opt=LIST.opt)
async def list_quotas(request: Asked) -> Response[bytes]:
    ask = read_ask(read_query(request))
    return answer_page(request, await intents_of(request.app).quotas.list_page(ask))


@get(f"{PREFIX}/quotas/{{name:str}}", opt=GET.opt)
async def get_quota(request: Asked, name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    return answer_resource(await intents_of(request.app).quotas.get(name))


@post(f"{PREFIX}/quotas", opt=CREATE.opt)
async def create_quota(request: Asked) -> Response[bytes]:
    asked = read_query(request)
    is_dry = bool(asked["dry_run"])
    quota = await intents_of(request.app).quotas.create(from_wire(Quota, await read_json(request)), dry_run=is_dry)
    return answer_resource(quota, 200 if is_dry else 201)


@put(f"{PREFIX}/quotas/{{name:str}}", opt=REPLACE.opt)
async def replace_quota(request: Asked, name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    expected = read_if_match(request)
    wanted = from_wire(Quota, await read_json(request))
    changing = intents_of(request.app).quotas.replace(name, wanted, expected_generation=expected, dry_run=bool(asked["dry_run"]))
    return answer_resource(await _changed(changing, expected))


@patch(f"{PREFIX}/quotas/{{name:str}}", opt=EDIT.opt)
async def edit_quota(request: Asked, name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    expected = read_if_match(request)
    edit = await read_merge_patch(request, Quota)
    changing = intents_of(request.app).quotas.edit(name, edit, expected_generation=expected, dry_run=bool(asked["dry_run"]))
    return answer_resource(await _changed(changing, expected))


@delete(f"{PREFIX}/quotas/{{name:str}}", opt=DELETE.opt, status_code=200)
async def delete_quota(request: Asked, name: FromPath[str]) -> Response[bytes]:
    read_query(request)
    expected = read_if_match(request)
    try:
        await intents_of(request.app).quotas.delete(name, expected_generation=expected)
    except StaleRevision as error:
        raise as_precondition(error, expected) from error
    return answer_nothing()


async def _changed(changing: Awaitable[Quota], expected: int | None) -> Quota:
    try:
        return await changing
    except StaleRevision as error:
        raise as_precondition(error, expected) from error


HANDLERS = (list_quotas, get_quota, create_quota, replace_quota, edit_quota, delete_quota)
