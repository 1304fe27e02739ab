"""What a route takes and gives, said once: the request is checked against it and the OpenAPI document is made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from litestar import Request
from litestar.handlers import BaseRouteHandler

from volant.api.deprecation import Deprecated
from volant.api.headers import Header
from volant.core.errors import InvalidInput, Malformed, VolantError, WrongMediaType
from volant.core.resource import split_validation_error

T = TypeVar("T")

OPERATION = "operation"
"""The key of the Operation in a route handler's ``opt``."""

JSON = "application/json"


@dataclass(frozen=True)
class Query:
    """One query parameter: how it is described, and how its text is read."""

    name: str
    description: str
    read: Callable[[str, str], Any]
    """``read(text, name)``; raises InvalidInput."""
    schema: dict[str, Any]


@dataclass(frozen=True)
class Body:
    """A request's or an answer's content: a record type, or any schema, under its media type."""

    of: Any = None
    """A type that the schema is made from, or a JSON schema; None for bytes."""
    media_type: str = JSON
    description: str = ""
    headers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Operation:
    """``problems`` are the errors that this route may answer with besides those that every route may."""

    id: str
    summary: str
    answers: dict[int, tuple[Body, ...]]
    query: tuple[Query, ...] = ()
    request: Body | None = None
    problems: tuple[type[VolantError], ...] = ()
    if_match: bool = False
    headers: tuple[Header, ...] = ()
    """What it looks at besides those that stand elsewhere here."""
    takes_key: bool = True
    """Whether an Idempotency-Key is volantd's to keep, when it is a POST: not what the workload answers, nor a secret."""
    deprecated: Deprecated | None = None
    public: bool = False
    """May be asked by anybody who can connect."""
    description: str = ""

    @property
    def opt(self) -> dict[str, Any]:
        return {OPERATION: self}


def operation_of(handler: BaseRouteHandler) -> Operation | None:
    found = handler.opt.get(OPERATION)
    return found if isinstance(found, Operation) else None


def read_query(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Every parameter of the route by name, None where it was not given.

    Raises:
        InvalidInput: one is unknown, given twice, or cannot be right.
    """
    operation = operation_of(request.route_handler)
    assert operation is not None
    values: dict[str, Any] = {query.name: None for query in operation.query}
    readers = {query.name: query for query in operation.query}
    for name, text in request.query_params.multi_items():
        if name not in readers:
            known = ", ".join(sorted(readers)) or "none"
            raise InvalidInput(f"there is no query parameter {name[:40]!r} here", field=name[:40], hint=f"known here: {known}")
        if values[name] is not None:
            raise InvalidInput(f"the query parameter {name!r} is given twice", field=name)
        values[name] = readers[name].read(str(text), name)
    return values


async def read_json(request: Request[Any, Any, Any]) -> Any:
    """The request's body as plain data.

    Raises:
        WrongMediaType: it is not said to be JSON. Malformed: it is not JSON.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != JSON:
        raise WrongMediaType("this takes a JSON document", hint="send it with Content-Type: application/json")
    try:
        return msgspec.json.decode(await request.body())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"the body is not JSON: {error}") from error


async def read_record(request: Request[Any, Any, Any], cls: type[T]) -> T:
    """The request's body as ``cls``. Raises InvalidInput for one that is something else, and what read_json raises."""
    document = await read_json(request)
    try:
        return msgspec.convert(document, cls)
    except msgspec.ValidationError as error:
        said, field = split_validation_error(error)
        raise InvalidInput(said, field=field) from error


def read_if_match(request: Request[Any, Any, Any]) -> int | None:
    """The generation that If-Match names, alone or at the beginning of an ETag; None when it names none or any. Raises
    Malformed."""
    text = request.headers.get("if-match")
    if text is None or text.strip() == "*":
        return None
    tag, _, revision = text.strip().removeprefix('"').removesuffix('"').partition(".")
    if not (tag.isascii() and tag.isdecimal() and len(tag) < 16 and (not revision or revision.isdecimal())):
        raise Malformed("If-Match takes one generation", field="If-Match", hint='as the ETag said: If-Match: "3"')
    return int(tag)
