"""A resource of a plain kind as the document that somebody edits: its labels and its spec."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from volant.core.errors import InvalidInput
from volant.core.resource import META_FIELDS, Resource, SpecT, StatusT, Wanted, split_validation_error

Edit = Callable[[dict[str, Any]], Any]
"""Makes of the document the one that is wanted."""


def edit_resource(resource: Resource[SpecT, StatusT], edit: Edit) -> Wanted[SpecT]:
    """What ``resource`` is to be once ``edit`` has changed its document; a field that it takes away is as its default.

    Raises:
        InvalidInput: the document cannot be of this kind; the field is named.
    """
    spec_type = resource.spec_type
    fields: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(resource.spec))
    document = edit({"labels": dict(resource.meta.labels), **fields})
    kind = resource.kind.lower()
    if not isinstance(document, dict):
        raise InvalidInput(f"a {kind} is one object")
    for field in document:
        if field == "labels" or field in spec_type.__struct_fields__:
            continue
        if field in META_FIELDS:
            raise InvalidInput(f"{field} of a {kind} cannot be changed", field=str(field)[:80])
        raise InvalidInput(f"a {kind} has no field {str(field)[:80]!r}", field=str(field)[:80])
    try:
        labels = msgspec.convert(document.get("labels") or {}, dict[str, str])
        spec = msgspec.convert({key: value for key, value in document.items() if key != "labels"}, spec_type)
    except msgspec.ValidationError as error:
        message, field = split_validation_error(error)
        raise InvalidInput(message, field=field) from error
    return Wanted(name=resource.name, labels=labels, spec=spec)  # type: ignore[arg-type]  # spec_type is SpecT's runtime twin
