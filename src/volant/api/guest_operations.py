"""The operations of an OpenAPI document (2.0, 3.0 and 3.1), as far as somebody needs to know them to call one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

import msgspec

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
OPERATIONS_MAX = 2000
PARAMETERS_MAX = 100
TEXT_MAX_CHARS = 2000

Place = Literal["path", "query", "header", "cookie"]


class GuestParameter(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    place: Place = msgspec.field(name="in")
    required: bool = False
    type: str = ""
    description: str = ""


class GuestOperation(msgspec.Struct, frozen=True, kw_only=True):
    """``id`` is empty where the document gives none; ``path`` is what it says, ``target`` with the path of its server before."""

    id: str
    method: str
    path: str
    target: str
    summary: str = ""
    parameters: list[GuestParameter] = []
    body_types: list[str] = []
    body_required: bool = False


class GuestOperations(msgspec.Struct, frozen=True, kw_only=True):
    items: list[GuestOperation]


class NamedAction(msgspec.Struct, frozen=True, kw_only=True):
    """One action of a manifest; ``path`` is under the workload's base URL."""

    name: str
    method: str
    path: str
    description: str
    timeout_ms: int


class NamedActions(msgspec.Struct, frozen=True, kw_only=True):
    items: list[NamedAction]


def list_operations(document: dict[str, Any]) -> list[GuestOperation]:
    """In the document's order, at most OPERATIONS_MAX. What is not as it should be is passed over."""
    found: list[GuestOperation] = []
    for operation in _walk(document):
        found.append(operation)
        if len(found) == OPERATIONS_MAX:
            break
    return found


def _walk(document: dict[str, Any]) -> Iterator[GuestOperation]:
    prefix = _find_prefix(document)
    for path, item in document.get("paths", {}).items():
        if not isinstance(item, dict) or not path.startswith("/"):
            continue
        for method, operation in item.items():
            if method not in METHODS or not isinstance(operation, dict):
                continue
            parameters = [*_read_list(document, item), *_read_list(document, operation)]
            types, is_required = _read_body(document, operation, parameters)
            yield GuestOperation(
                id=_text(operation.get("operationId")),
                method=method.upper(),
                path=path,
                target=prefix + path,
                summary=_text(operation.get("summary")) or _text(operation.get("description")).partition("\n")[0],
                parameters=list(_read_parameters(parameters)),
                body_types=types,
                body_required=is_required,
            )


def _find_prefix(document: dict[str, Any]) -> str:
    """The path of the first server, or Swagger's basePath; whose host it is said to be is of no account."""
    base = document.get("basePath")
    servers = document.get("servers")
    if isinstance(servers, list) and servers and isinstance(servers[0], dict):
        base = servers[0].get("url")
    if not isinstance(base, str) or "{" in base:
        return ""
    try:
        path = urlsplit(base).path.rstrip("/")
    except ValueError:
        return ""
    return path if path.startswith("/") else ""


def _read_list(document: dict[str, Any], holder: dict[str, Any]) -> list[dict[str, Any]]:
    listed = holder.get("parameters")
    if not isinstance(listed, list):
        return []
    return [one for one in (_resolve(document, each) for each in listed[:PARAMETERS_MAX]) if isinstance(one, dict)]


def _read_parameters(parameters: list[dict[str, Any]]) -> Iterator[GuestParameter]:
    by_name = {(one.get("name"), one.get("in")): one for one in parameters if _is_parameter(one)}  # an operation's own win
    for (name, place), one in by_name.items():
        schema = one.get("schema")
        kind = schema.get("type") if isinstance(schema, dict) else one.get("type")
        yield GuestParameter(
            name=str(name),
            place=place,  # type: ignore[arg-type]  # _is_parameter looked at it
            required=place == "path" or one.get("required") is True,
            type=_text(kind),
            description=_text(one.get("description")),
        )


def _is_parameter(one: dict[str, Any]) -> bool:
    return isinstance(one.get("name"), str) and isinstance(one.get("in"), str) and one["in"] in get_args(Place)


def _read_body(document: dict[str, Any], operation: dict[str, Any], parameters: list[dict[str, Any]]) -> tuple[list[str], bool]:
    body = _resolve(document, operation.get("requestBody"))
    if isinstance(body, dict):
        content = body.get("content")
        return [str(kind)[:200] for kind in content][:20] if isinstance(content, dict) else [], body.get("required") is True
    for one in parameters:  # Swagger 2
        if one.get("in") == "body":
            consumes = operation.get("consumes", document.get("consumes"))
            kinds = [str(kind)[:200] for kind in consumes][:20] if isinstance(consumes, list) else ["application/json"]
            return kinds, one.get("required") is True
    return [], False


def _resolve(document: dict[str, Any], value: Any) -> Any:
    """What a local reference leads to; one step, so that none can lead in a circle."""
    reference = value.get("$ref") if isinstance(value, dict) else None
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return value
    found: Any = document
    for word in reference[2:].split("/"):
        found = found.get(word.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    return found


def _text(value: Any) -> str:
    return value[:TEXT_MAX_CHARS] if isinstance(value, str) else ""
