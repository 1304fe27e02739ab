"""Resources as answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from litestar import Response

from volant.api.operation import JSON
from volant.core.resource import Resource, to_wire

PREFIX = "/api/v1"


def answer_json(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response[bytes]:
    return Response(msgspec.json.encode(content), status_code=status, media_type=JSON, headers=headers)


def answer_resource(resource: Resource[Any, Any], status: int = 200) -> Response[bytes]:
    """The flat object, with its ETag; where it is found when it was just made."""
    headers = {"etag": format_etag(resource)}
    if status == 201:
        headers["location"] = f"{PREFIX}/{resource.plural}/{resource.name}"
    return answer_json(to_wire(resource), status, headers)


def answer_list(resources: Iterable[Resource[Any, Any]], revision: int) -> Response[bytes]:
    """``{"items": [...], "revision": …}``; the revision, also a header, names the moment, for who goes on from there."""
    return answer_json({"items": [to_wire(one) for one in resources], "revision": str(revision)}, headers=list_headers(revision))


def list_headers(revision: int) -> dict[str, str]:
    return {"volant-revision": str(revision), "etag": f'W/"{revision}"'}


def format_etag(resource: Resource[Any, Any]) -> str:
    """Its generation, which is what If-Match looks at, and its revision, so that it changes with every answer."""
    return f'"{resource.meta.generation}.{resource.revision}"'


def answer_nothing(status: int = 204) -> Response[bytes]:
    return Response(b"", status_code=status, media_type=JSON)
