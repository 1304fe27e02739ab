"""The routes that apply files: a resource as somebody wrote it, and who decides which of its fields."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get, post
from litestar.params import FromPath

from volant.api.access import intents_of
from volant.api.answer import PREFIX, answer_json
from volant.api.author import author_of
from volant.api.headers import REASON
from volant.api.operation import Body, Operation, Query, read_json, read_query
from volant.api.parameters import DRY_RUN, LABELS, read_flag, read_timeout
from volant.api.stopping import unless_stopping
from volant.core.document_schema import ANY, KINDS, build_schema
from volant.core.errors import (
    AlreadyExists,
    Exhausted,
    FieldConflict,
    InUse,
    InvalidInput,
    NotFound,
    QuotaExceeded,
    StaleRevision,
    Unavailable,
    Untrusted,
    WrongState,
)
from volant.core.ownership import MAX_NAME_CHARS, check_manager
from volant.core.resource import to_wire
from volant.intent import ApplyIntent
from volant.intent.apply import How

Asked = Request[Any, Any, Any]

MANAGER_DEFAULT = "volar"
_NAME = {"type": "string", "pattern": f"^[A-Za-z0-9_./@-]{{1,{MAX_NAME_CHARS}}}$"}
_FLAG = {"type": "string", "enum": ["true", "false", "1", "0", ""]}
MANAGER = Query("manager", f"Who decides what is applied; {MANAGER_DEFAULT} unless said.", check_manager, _NAME)
FORCE = Query("force", "Take over the fields that others decide otherwise.", read_flag, _FLAG)

_RESOURCE: dict[str, Any] = {
    "type": "object",
    "description": "A resource of any kind, as its own route gives it.",
    "properties": {"kind": {"type": "string"}, "name": {"type": "string"}},
    "required": ["kind", "name"],
}
_DOCUMENT = {
    **_RESOURCE,
    "description": "A resource as a person writes it: kind, name, labels, and fields of its spec, all or some. What was read may "
    "be sent back: status and other meta are passed over. Null is as if it was not written.",
}
_CHANGE = {
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "before": {},
        "after": {},
        "effect": {"type": "string", "description": "What the change needs: live, applied, restart, rollout…"},
    },
    "required": ["path", "before", "after", "effect"],
    "additionalProperties": False,
}
_APPLIED = {
    "type": "object",
    "properties": {
        "action": {"enum": ["created", "changed", "unchanged"]},
        "changes": {"type": "array", "items": _CHANGE},
        "before": {"anyOf": [_RESOURCE, {"type": "null"}], "description": "With dry_run: what there is."},
        "resource": _RESOURCE,
    },
    "required": ["action", "changes", "resource"],
    "additionalProperties": False,
}
_ITEMS = {
    "type": "object",
    "properties": {"items": {"type": "array", "items": _RESOURCE}},
    "required": ["items"],
    "additionalProperties": False,
}

_STANDING = {
    "type": "object",
    "properties": {
        "settled": {"type": "boolean"},
        "failed": {"type": "boolean"},
        "message": {"type": "string"},
        "resource": _RESOURCE,
    },
    "required": ["settled", "failed", "message", "resource"],
    "additionalProperties": False,
}
_TIMEOUT = Query(
    "timeout", "How long to wait, as 500ms or 20s; not at all unless said.", read_timeout, {"type": "string", "examples": ["20s"]}
)

APPLY = Operation(
    "apply_document",
    "Apply what a file says of one resource",
    {200: (Body(_APPLIED),)},
    query=(MANAGER, FORCE, DRY_RUN),
    request=Body(_DOCUMENT),
    problems=(
        InvalidInput,
        NotFound,
        AlreadyExists,
        InUse,
        WrongState,
        Exhausted,
        QuotaExceeded,
        FieldConflict,
        StaleRevision,
        Untrusted,
        Unavailable,
    ),
    headers=(REASON,),
    takes_key=False,
    description=(
        "Made where it is not there, changed where it differs. `meta.managers` says who decides which field. What this manager "
        "applied before and no longer does goes back to its default, unless another decides it too. A field that another decides "
        "otherwise is a `field_conflict`, whose `fields` name each with who does. Applying the same twice changes nothing."
    ),
)
LIST_APPLIED = Operation(
    "list_applied",
    "List what a manager applied",
    {200: (Body(_ITEMS),)},
    query=(MANAGER, LABELS),
    problems=(InvalidInput, Unavailable),
    description="Of all kinds, in the order in which one needs another.",
)


LOOK = Operation(
    "get_standing",
    "Wait until a resource of any kind is settled",
    {200: (Body(_STANDING),)},
    query=(_TIMEOUT,),
    problems=(NotFound, InvalidInput, Unavailable),
    description="Answered when it is as was asked for, or cannot be, or after `timeout` (0 unless said): `settled` says which.",
)
GET_SCHEMA = Operation(
    "get_document_schema",
    "Read the JSON Schema of a document",
    {200: (Body({"type": "object"}),)},
    problems=(NotFound,),
    description=f"Draft 2020-12, of the documents of one kind, or as `{ANY}` of any. For editors.",
)


@post(f"{PREFIX}/apply", opt=APPLY.opt, status_code=200)
async def apply_document(request: Asked) -> Response[bytes]:
    asked = read_query(request)
    is_dry = bool(asked["dry_run"])
    how = How(manager=asked["manager"] or MANAGER_DEFAULT, force=bool(asked["force"]), dry_run=is_dry, author=author_of(request))
    applied = await _intent_of(request).apply(await read_json(request), how)
    content: dict[str, Any] = {"action": applied.action, "changes": applied.changes, "resource": to_wire(applied.resource)}
    if is_dry:
        content["before"] = None if applied.before is None else to_wire(applied.before)
    return answer_json(content)


@get(f"{PREFIX}/applied", opt=LIST_APPLIED.opt)
async def list_applied(request: Asked) -> Response[bytes]:
    asked = read_query(request)
    found = await _intent_of(request).list_applied(asked["manager"] or MANAGER_DEFAULT, asked["labels"])
    return answer_json({"items": [to_wire(one) for one in found]})


@get(f"{PREFIX}/standing/{{kind:str}}/{{name:str}}", opt=LOOK.opt)
async def get_standing(request: Asked, kind: FromPath[str], name: FromPath[str]) -> Response[bytes]:
    asked = read_query(request)
    looking = _intent_of(request).look_at(kind, name, timeout_s=asked["timeout"] or 0)
    resource, standing = await unless_stopping(request.app, looking)
    told = {"settled": standing.settled, "failed": standing.failed, "message": standing.message}
    return answer_json({**told, "resource": to_wire(resource)})


@get(f"{PREFIX}/schemas/{{kind:str}}", opt=GET_SCHEMA.opt)
async def get_document_schema(request: Asked, kind: FromPath[str]) -> Response[bytes]:
    read_query(request)
    known = {ANY: ANY, **{each.lower(): each for each in KINDS}}
    found = known.get(kind.lower())
    if found is None:
        raise NotFound(f"no file holds a {kind[:40]!r}", hint="one of " + ", ".join(known.values()))
    return answer_json(build_schema(found))


def _intent_of(request: Asked) -> ApplyIntent:
    intent = intents_of(request.app).apply
    if intent is None:
        raise Unavailable("this volantd applies no files")
    return intent


HANDLERS = (apply_document, list_applied, get_standing, get_document_schema)
