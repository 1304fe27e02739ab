"""What crosses the API about deployments besides themselves."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from volant.core.deployment import MAX_REPLICAS
from volant.core.rollout_preview import Preview
from volant.core.vm import VMSpec


class DeploymentVersion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One revision: what replicas are, who made it, why, and what differs from the one before, as paths.

    ``target``: replicas are to be of it. ``vms``: how many are, whatever they do. Two revisions of one ``hash`` are the same.
    """

    revision: int
    at: str
    by: str
    reason: str
    target: bool
    vms: int
    changed: tuple[str, ...]
    hash: str
    vm: VMSpec
    vm_labels: dict[str, str]


class DeploymentVersions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Newest first."""

    items: tuple[DeploymentVersion, ...]


class ScaleWanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many replicas there are to be."""

    replicas: Annotated[int, msgspec.Meta(ge=0, le=MAX_REPLICAS)]


class UndoWanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The revision that replicas are to be as again; null is the one before."""

    revision: Annotated[int, msgspec.Meta(ge=1)] | None = None


RECORDS = (DeploymentVersion, DeploymentVersions, ScaleWanted, UndoWanted, Preview)
"""For the schemas of the OpenAPI document."""

ORIGIN: dict[str, Any] = {
    "title": "DeploymentOrigin",
    "type": "object",
    "description": "A deployment as the first Volant wrote it. Each field of config is taken, or refused by name.",
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", "maxLength": 57},
        "replicas": {"type": "integer", "minimum": 0, "maximum": MAX_REPLICAS},
        "desired_replicas": {"description": "As replicas."},
        "ready_replicas": {"description": "Passed over."},
        "created_at": {"description": "Passed over."},
        "updated_at": {"description": "Passed over."},
        "config": {"type": "object", "properties": {"plugin": {"type": "string"}}},
    },
    "required": ["name", "config"],
}
