"""Every error as a problem document (RFC 9457)."""

from __future__ import annotations

from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException

from volant.api.request_id import request_id_of
from volant.core.errors import (
    FieldConflict,
    Forbidden,
    InProgress,
    InvalidInput,
    Malformed,
    NotFound,
    TooLarge,
    Unavailable,
    VolantError,
    WrongMediaType,
    WrongMethod,
)
from volant.core.ids import new_uid

MEDIA_TYPE = "application/problem+json"

log = structlog.get_logger("volant.api")


class DecidedField(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    manager: str


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``code`` is the stable name of the error, ``hint`` what to do next, ``field`` the value it is about."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str = ""
    field: str = ""
    fields: tuple[DecidedField, ...] = ()
    """Of ``field_conflict``: what others decide, and who."""
    id: str = ""
    """Of an unexpected error: what to look for in volantd's log."""
    request_id: str = ""
    """Of the request, as the header Volant-Request-Id has it and every line of volantd's log about it."""


def describe_error(error: VolantError) -> Problem:
    return Problem(
        type=f"/errors/{error.code}",
        title=error.title,
        status=error.status,
        detail=error.message,
        code=error.code,
        hint=error.hint or "",
        field=(error.field or "") if isinstance(error, InvalidInput) else "",
        fields=_describe_fields(error.fields) if isinstance(error, FieldConflict) else (),
    )


def _describe_fields(fields: tuple[tuple[str, str], ...]) -> tuple[DecidedField, ...]:
    return tuple(DecidedField(path=path, manager=manager) for path, manager in fields)


def describe_unexpected(error: Exception, where: str) -> Problem:
    """A problem that tells nothing but an id; the log has the rest under it."""
    id_ = new_uid()
    log.error("unexpected error", id=id_, where=where, exc_info=error)
    return Problem(
        type="/errors/internal",
        title=VolantError.title,
        status=500,
        detail="volantd did not foresee this; it is a defect",
        code="internal",
        hint=f"look for {id_} in volantd's log, and please report it",
        id=id_,
    )


def translate_http_error(error: HTTPException) -> VolantError:
    """What the router refuses, in our own words."""
    match error.status_code:
        case 404:
            return NotFound("there is nothing at this address", hint="GET /openapi.json lists what there is")
        case 405:
            allowed = (error.headers or {}).get("allow", "")
            return WrongMethod(f"this address takes {allowed or 'other methods'}", hint="GET /openapi.json lists what there is")
        case 413:
            return TooLarge("the request is too large", hint="a JSON document may have 1 MiB")
        case 415:
            return WrongMediaType("this kind of content is not read here")
        case 401 | 403:
            return Forbidden("not allowed")
        case 503:
            return Unavailable("not now")
        case _:
            return Malformed(str(error.detail) or "the request cannot be read")


def answer_problem(request: Request[Any, Any, Any], problem: Problem, *, allow: str = "") -> Response[bytes]:
    headers: dict[str, str] = {}
    if problem.status == 401:
        # RFC 9110, section 11.6.1: who is asked for credentials is told which.
        headers["www-authenticate"] = 'Bearer realm="volantd"'
    if allow:
        headers["allow"] = allow
    if problem.code == InProgress.code:
        headers["retry-after"] = "1"
    problem = msgspec.structs.replace(problem, request_id=request_id_of(request.scope))
    return Response(msgspec.json.encode(problem), status_code=problem.status, media_type=MEDIA_TYPE, headers=headers)


def handle_volant_error(request: Request[Any, Any, Any], error: VolantError) -> Response[bytes]:
    return answer_problem(request, describe_error(error))


def handle_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    if error.status_code >= 500 and error.status_code != 503:
        return answer_problem(request, describe_unexpected(error, str(request.url.path)))
    allow = (error.headers or {}).get("allow", "") if error.status_code == 405 else ""
    return answer_problem(request, describe_error(translate_http_error(error)), allow=allow)


def handle_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    return answer_problem(request, describe_unexpected(error, str(request.url.path)))
