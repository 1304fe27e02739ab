"""The OpenAPI 3.1 document, made of the same Operations that check requests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from litestar.handlers import BaseRouteHandler, HTTPRouteHandler

from volant.api.operation import Body, Operation, operation_of
from volant.api.problem import MEDIA_TYPE, Problem
from volant.api.schema import build_components, reference
from volant.core.errors import (
    Forbidden,
    InvalidInput,
    Malformed,
    PreconditionFailed,
    TooLarge,
    Unavailable,
    VolantError,
    WrongMediaType,
)

ALWAYS: tuple[type[VolantError], ...] = (InvalidInput, Unavailable, VolantError)
"""Any route may answer with these: unknown query parameters, a part that is away, a defect."""

_PARAMETER = re.compile(r"\{(\w+):str\}")
_PARAMETER_SCHEMAS = {
    "name": {"type": "string", "maxLength": 63},
    "digest": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"},
}


def build_document(handlers: Iterable[BaseRouteHandler], version: str) -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    for path, method, operation in find_operations(handlers):
        paths.setdefault(path, {})[method.lower()] = _describe_operation(operation, path)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Volant",
            "version": version,
            "summary": "MicroVMs as easy as containers.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "A UNIX socket, /run/volant/volantd.sock unless configured."}],
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": build_components()},
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


def _describe_operation(operation: Operation, path: str) -> dict[str, Any]:
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
    if operation.if_match:
        parameters.append(
            {"name": "If-Match", "in": "header", "description": "The generation it must be at.", "schema": {"type": "string"}}
        )
    if parameters:
        described["parameters"] = parameters
    if operation.request is not None:
        described["requestBody"] = {"required": True, "content": _describe_content((operation.request,))}
    described["responses"] = {
        **{str(status): _describe_answer(bodies) for status, bodies in operation.answers.items()},
        **_describe_problems(operation),
    }
    return described


def _describe_answer(bodies: tuple[Body, ...]) -> dict[str, Any]:
    described: dict[str, Any] = {"description": next((body.description for body in bodies if body.description), "Done.")}
    content = _describe_content(bodies)
    if content:
        described["content"] = content
    headers = {name: {"schema": {"type": "string"}} for body in bodies for name in body.headers}
    if headers:
        described["headers"] = headers
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


def problems_of(operation: Operation) -> list[type[VolantError]]:
    """Every error that a route may answer with."""
    found: list[type[VolantError]] = [*ALWAYS, *operation.problems]
    if not operation.public:
        found.append(Forbidden)
    if operation.request is not None and operation.request.media_type == "application/json":
        found += [Malformed, WrongMediaType, TooLarge]
    if operation.if_match:
        found += [Malformed, PreconditionFailed]
    return sorted(set(found), key=lambda cls: (cls.status, cls.code))


def _describe_problems(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {}
    for cls in problems_of(operation):
        entry = described.setdefault(
            str(cls.status), {"description": "", "content": {MEDIA_TYPE: {"schema": reference(Problem)}}}
        )
        entry["description"] += (", " if entry["description"] else "") + f"{cls.code}: {cls.title}"
    return described
