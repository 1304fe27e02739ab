"""A merge patch of a resource of a plain kind, as a request brings it."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request

from volant.api.operation import JSON
from volant.core.errors import InvalidInput, Malformed, WrongMediaType
from volant.core.patch import merge_patch
from volant.core.resource import Resource
from volant.intent.edited import Edit

MERGE_PATCH = "application/merge-patch+json"
PATCH_SCHEMA = {"type": "object", "description": "Members to be changed (RFC 7396); null takes one back to its default."}


async def read_merge_patch(request: Request[Any, Any, Any], cls: type[Resource[Any, Any]]) -> Edit:
    """Raises WrongMediaType, Malformed, InvalidInput for a patch that cannot be of any resource of ``cls``."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in (JSON, MERGE_PATCH):
        raise WrongMediaType("this takes a merge patch", hint=f"send it with Content-Type: {MERGE_PATCH}")
    try:
        document = msgspec.json.decode(await request.body())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"the body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidInput(f"a merge patch of a {cls.kind.lower()} is one object (RFC 7396)")
    # Null would take an unknown field away without a word.
    known = {"labels", *cls.spec_type.__struct_fields__}
    unknown = {field: True for field, value in document.items() if value is None and field not in known}
    return lambda before: {**merge_patch(before, document), **unknown}
