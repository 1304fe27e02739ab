"""A deployment as the document that somebody edits: its labels, and what of its spec a person decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from volant.core.deployment import Deployment, DeploymentSpec
from volant.core.errors import InvalidInput
from volant.core.resource import META_FIELDS, split_validation_error

VERBS = {
    "target": "volar deployments update, or volar deployments rollout undo NAME --to N",
    "promoted": "volar deployments rollout resume NAME",
}
"""What is not configured, and the verb that changes it instead."""

EDITABLE = frozenset({"labels", *DeploymentSpec.__struct_fields__} - set(VERBS))

Edit = Callable[[dict[str, Any]], Any]
"""Makes of the document the one that is wanted."""


def write_deployment_document(deployment: Deployment) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(deployment.spec))
    return {"labels": dict(deployment.meta.labels), **{field: value for field, value in fields.items() if field in EDITABLE}}


def read_deployment_document(document: Any, before: Deployment) -> tuple[dict[str, str], DeploymentSpec]:
    """Labels and spec that an edited document asks for. Raises InvalidInput, naming the field."""
    if not isinstance(document, dict):
        raise InvalidInput("a deployment is one object")
    for field in document:
        if field in VERBS:
            raise InvalidInput(f"{field} is nothing that is configured", field=field, hint=VERBS[field])
        if field in EDITABLE:
            continue
        if field in META_FIELDS:
            raise InvalidInput(f"{field} of a deployment cannot be changed", field=str(field)[:80])
        raise InvalidInput(f"a deployment has no field {str(field)[:80]!r}", field=str(field)[:80])
    fields = {field: value for field, value in document.items() if field != "labels"}
    try:
        labels = msgspec.convert(document.get("labels") or {}, dict[str, str])
        # What was taken away and cannot be left out is told as missing by its type.
        spec = msgspec.convert({"vm": None, **fields}, DeploymentSpec)
    except msgspec.ValidationError as error:
        message, field = split_validation_error(error)
        raise InvalidInput(message, field=field) from error
    return labels, msgspec.structs.replace(spec, target=before.spec.target, promoted=before.spec.promoted)
