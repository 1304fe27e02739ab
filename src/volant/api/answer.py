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
    """The flat object, with its generation as ETag; where it is found when it was just made."""
    headers = {"etag": f'"{resource.meta.generation}"'}
    if status == 201:
        headers["location"] = f"{PREFIX}/{resource.plural}/{resource.name}"
    return answer_json(to_wire(resource), status, headers)


def answer_list(resources: Iterable[Resource[Any, Any]], revision: int) -> Response[bytes]:
    """``{"items": [...]}``; the header ``Volant-Revision`` names the moment, for who goes on from there."""
    return answer_json({"items": [to_wire(one) for one in resources]}, headers={"volant-revision": str(revision)})


def answer_nothing(status: int = 204) -> Response[bytes]:
    return Response(b"", status_code=status, media_type=JSON)
