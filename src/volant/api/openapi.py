"""The OpenAPI 3.1 document, made of the same Operations that check requests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from litestar.handlers import BaseRouteHandler, HTTPRouteHandler

from volant.api.headers import ANSWER_HEADERS, IDEMPOTENCY_KEY, IF_MATCH, IF_NONE_MATCH, MANAGER, Header
from volant.api.operation import JSON, Body, Operation, operation_of
from volant.api.problem import MEDIA_TYPE, Problem
from volant.api.schema import build_components, reference
from volant.core.errors import (
    AnswerLost,
    Forbidden,
    HeadersTooLarge,
    InProgress,
    InvalidInput,
    KeyReused,
    Malformed,
    NotAcceptable,
    PreconditionFailed,
    TooLarge,
    Unauthorized,
    Unavailable,
    VolantError,
    WrongMediaType,
)

ALWAYS: tuple[type[VolantError], ...] = (Malformed, InvalidInput, HeadersTooLarge, Unavailable, VolantError)
"""Any route may answer with these: what is no HTTP, unknown query parameters, a part that is away, a defect."""

NAME_PATTERN = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"

_PARAMETER = re.compile(r"\{(\w+):(?:str|path)\}")
_PARAMETER_SCHEMAS = {
    "kind": {"type": "string", "pattern": "^[A-Za-z]+$", "maxLength": 63},
    "name": {"type": "string", "pattern": NAME_PATTERN, "maxLength": 63, "examples": ["web"]},
    "port": {"type": "string", "pattern": "^[1-9][0-9]{0,4}$"},
    "digest": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"},
    "path": {"type": "string", "description": "May hold slashes."},
    "version": {"type": "string", "pattern": "^[0-9]{1,7}$"},
    "action": {"type": "string"},
    "plugin": {"type": "string"},
}


def build_document(handlers: Iterable[BaseRouteHandler], version: str) -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    for path, method, operation in find_operations(handlers):
        paths.setdefault(path, {})[method.lower()] = _describe_operation(operation, path, method)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Volant",
            "version": version,
            "summary": "MicroVMs as easy as containers.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [
            {"url": "/", "description": "The UNIX socket /run/volant/volantd.sock unless configured, or TCP with a token."}
        ],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": build_components(),
            "headers": ANSWER_HEADERS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def find_operations(handlers: Iterable[BaseRouteHandler]) -> Iterator[tuple[str, str, Operation]]:
    """``(path, method, operation)`` of every HTTP route, with the path as OpenAPI writes it."""
    for handler in handlers:
        operation = operation_of(handler)
        if not isinstance(handler, HTTPRouteHandler) or operation is None:
            continue
        for path in handler.paths:
            for method in sorted(handler.http_methods):
                yield _PARAMETER.sub(r"{\1}", path), method, operation


def _describe_operation(operation: Operation, path: str, method: str) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": operation.id, "summary": operation.summary}
    if operation.description:
        described["description"] = operation.description
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _PARAMETER_SCHEMAS[name]}
        for name in re.findall(r"\{(\w+)\}", path)
    ]
    parameters += [
        {"name": query.name, "in": "query", "description": query.description, "schema": query.schema} for query in operation.query
    ]
    parameters += [
        {"name": header.name, "in": "header", "description": header.description, "schema": header.schema}
        for header in _headers_of(operation, method)
    ]
    if operation.deprecated is not None:
        described["deprecated"] = True
    if parameters:
        described["parameters"] = parameters
    if operation.request is not None:
        described["requestBody"] = {"required": True, "content": _describe_content((operation.request,))}
    described["responses"] = {
        **{str(status): _describe_answer(bodies, operation, method) for status, bodies in operation.answers.items()},
        **_describe_problems(operation, method),
    }
    return described


def _headers_of(operation: Operation, method: str) -> list[Header]:
    found = [IF_MATCH] if operation.if_match else []
    if _has_tag(operation, method):
        found.append(IF_NONE_MATCH)
    if method == "POST" and operation.takes_key:
        found.append(IDEMPOTENCY_KEY)
    if operation.if_match and method in ("PUT", "PATCH"):
        found.append(MANAGER)
    return [*found, *operation.headers]


def _has_tag(operation: Operation, method: str) -> bool:
    return method == "GET" and any("ETag" in body.headers for body in operation.answers.get(200, ()))


def _describe_answer(bodies: tuple[Body, ...], operation: Operation, method: str) -> dict[str, Any]:
    described: dict[str, Any] = {"description": next((body.description for body in bodies if body.description), "Done.")}
    content = _describe_content(bodies)
    if content:
        described["content"] = content
    names = [name for body in bodies for name in body.headers] + ["Volant-Request-Id"]
    if method == "POST" and operation.takes_key:
        names.append("Volant-Replayed")
    if operation.deprecated is not None:
        names += ["Deprecation", "Link"] + (["Sunset"] if operation.deprecated.sunset else [])
    described["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in dict.fromkeys(names)}
    return described


def _describe_content(bodies: tuple[Body, ...]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for body in bodies:
        if isinstance(body.of, dict):
            content[body.media_type] = {"schema": body.of}
        elif body.of is not None:
            content[body.media_type] = {"schema": reference(body.of)}
        elif body.media_type == "application/octet-stream":
            content[body.media_type] = {}
    return content


def problems_of(operation: Operation, method: str = "") -> list[type[VolantError]]:
    """Every error that a route may answer with."""
    found: list[type[VolantError]] = [*ALWAYS, *operation.problems]
    if all(body.media_type == JSON for bodies in operation.answers.values() for body in bodies if body.of is not None):
        found.append(NotAcceptable)
    if method == "POST" and operation.takes_key:
        found += [Malformed, InProgress, KeyReused, AnswerLost]
    if operation.headers:
        found.append(Malformed)
    if not operation.public:
        found += [Unauthorized, Forbidden]
    if operation.request is not None and operation.request.media_type == "application/json":
        found += [WrongMediaType, TooLarge]
    if operation.if_match:
        found.append(PreconditionFailed)
    return sorted(set(found), key=lambda cls: (cls.status, cls.code))


def _describe_problems(operation: Operation, method: str) -> dict[str, Any]:
    described: dict[str, Any] = {}
    if _has_tag(operation, method):
        described["304"] = {"description": "It still has the ETag that If-None-Match names."}
    for cls in problems_of(operation, method):
        entry = described.setdefault(
            str(cls.status),
            {
                "description": "",
                "content": {MEDIA_TYPE: {"schema": reference(Problem)}},
                "headers": {"Volant-Request-Id": {"$ref": "#/components/headers/Volant-Request-Id"}},
            },
        )
        entry["description"] += (", " if entry["description"] else "") + f"{cls.code}: {cls.title}"
    return described
