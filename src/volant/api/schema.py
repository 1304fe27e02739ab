"""JSON schemas of what crosses the API: msgspec's own, and the flat form of resources made of them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from volant.api.config_records import RECORDS as CONFIG_RECORDS
from volant.api.deployment_records import RECORDS as DEPLOYMENT_RECORDS
from volant.api.guest_operations import GuestOperations, NamedActions
from volant.api.inspect_records import RECORDS as INSPECT_RECORDS
from volant.api.operation import Body
from volant.api.problem import Problem
from volant.core.deployment import Deployment
from volant.core.event import Event
from volant.core.job import CronJob, Job
from volant.core.leader import LeaderStatus
from volant.core.manifest import MAX_POOL
from volant.core.network import Network
from volant.core.node import Node
from volant.core.plugin import Plugin
from volant.core.queue import Queue, QueueDetail
from volant.core.quota import Quota
from volant.core.resource import API, Meta, Resource
from volant.core.snapshot import Snapshot
from volant.core.template import Template
from volant.core.vm import MAX_CPU_CORES, MAX_MEMORY_MB, MIN_MEMORY_MB, VM
from volant.intent.drain import DrainStep
from volant.intent.pools import Pool
from volant.intent.snapshots import FORK_MAX
from volant.node.door import Attached, AttachRequest, Check, ExecRequest, ExecResult, FileStat, FilesWritten, LogLine, VMStats

RESOURCES: tuple[type[Resource[Any, Any]], ...] = (VM, Plugin, Snapshot, Network, Deployment, Event, Node, Quota, Job, CronJob)
REF = "#/components/schemas/{name}"
_OMITTED_WHEN_UNSET = frozenset({"finalizers", "deleting_at", "owner", "managers"})


WANTED: dict[type[Resource[Any, Any]], dict[str, Any]] = {
    cls: {"$ref": REF.format(name=f"{cls.kind}Wanted")} for cls in (VM, Snapshot, Network, Deployment, Node, Quota, Job, CronJob)
}
"""What may be sent of a resource."""

_NARROWED: dict[type[Resource[Any, Any]], dict[str, Any]] = {
    VM: {"power": {"enum": ["running", "stopped"], "default": "running"}},
    Snapshot: {"transient": {"const": False, "default": False}},
    Network: {},
    Node: {},
    Quota: {},
    Job: {"name": {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", "maxLength": 59}},
    CronJob: {"name": {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", "maxLength": 44}},
    Deployment: {
        "name": {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", "maxLength": 57},
        "target": {"description": "Passed over."},
        "promoted": {"description": "Passed over."},
    },
}
"""Where less may be sent than may be read."""


class StoredArtifact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file that is kept under its digest."""

    digest: str
    size_bytes: int


class Health(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    status: str
    version: str


class Drained(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many VMs were told to stop."""

    stopping: int


class Token(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is sent as ``Authorization: Bearer TOKEN`` from now on."""

    token: str


class SnapshotNamed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The snapshot that a VM is to go back to."""

    snapshot: str


class ForkWanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The names of the VMs to be made."""

    names: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=FORK_MAX)]


class TemplateWanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For VMs of which plugin, and of what size when not the manifest's."""

    plugin: str
    cpu_cores: Annotated[int, msgspec.Meta(ge=1, le=MAX_CPU_CORES)] | None = None
    memory_mb: Annotated[int, msgspec.Meta(ge=MIN_MEMORY_MB, le=MAX_MEMORY_MB)] | None = None


class PoolWanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many clones are to be kept ready; null is what the plugin's manifest says."""

    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_POOL)] | None


class NamedStats(VMStats, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the VM ``name`` uses, in bytes by the host kernel's own account: of the guest's memory, ``memory_private_bytes`` are
    its own and ``memory_shared_bytes`` it shares with others of its template; ``process_*`` is the whole VM process.

    ``guest_*`` is what the guest says of itself, null when it does not answer.
    """

    name: str


class Unread(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A VM that could not be asked, and why."""

    name: str
    code: str
    detail: str


class AllStats(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of every VM that runs, by name."""

    items: list[NamedStats]
    unread: list[Unread] = []


REVISION: dict[str, Any] = {"type": "string", "description": "The moment that the list is of: a stream's Last-Event-ID."}


def reference(cls: type) -> dict[str, Any]:
    return {"$ref": REF.format(name=cls.kind if issubclass(cls, Resource) else cls.__name__)}


def list_of(cls: type) -> Body:
    properties: dict[str, Any] = {"items": {"type": "array", "items": reference(cls)}}
    is_kept = cls in RESOURCES
    if is_kept:
        properties["revision"] = REVISION
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return Body(schema, headers=("Volant-Revision", "ETag") if is_kept else ())


def list_of_made(cls: type) -> Body:
    """Of several that were made together: ``{"items": [...]}``."""
    properties = {"items": {"type": "array", "items": reference(cls)}}
    return Body({"type": "object", "properties": properties, "required": ["items"], "additionalProperties": False})


def one_of_events(cls: type) -> dict[str, Any]:
    """What the data lines of a stream hold."""
    return {"description": "The data of each event.", "anyOf": [reference(cls), reference(Problem)]}


_RECORDS = (
    Meta, Problem, LogLine, Check, ExecRequest, ExecResult, StoredArtifact, Health, Drained, Token,
    AttachRequest, Attached, FileStat, FilesWritten,
    SnapshotNamed, ForkWanted, Template, TemplateWanted, Pool, PoolWanted, NamedStats, AllStats, GuestOperations, NamedActions,
    Queue, QueueDetail, LeaderStatus,
)  # fmt: skip


def build_components() -> dict[str, Any]:
    """``components.schemas``: every record with ``additionalProperties`` as the decoder behaves."""
    specs = [cls.spec_type for cls in RESOURCES]
    statuses = [cls.status_type for cls in RESOURCES]
    records = [DrainStep, *_RECORDS, *CONFIG_RECORDS, *INSPECT_RECORDS, *DEPLOYMENT_RECORDS]
    _, schemas = msgspec.json.schema_components([*records, *specs, *statuses], ref_template=REF)
    meta = schemas.pop("Meta")
    for cls in RESOURCES:
        # What a VM or a job may be is part of other specs, too.
        spec = schemas[cls.spec_type.__name__] if cls in (VM, Job) else schemas.pop(cls.spec_type.__name__)
        schemas[cls.kind] = _flatten(cls, meta, spec)
        if cls in WANTED:
            schemas[f"{cls.kind}Wanted"] = _flatten_wanted(cls, meta, spec)
    return dict(sorted(schemas.items()))


def _flatten(cls: type[Resource[Any, Any]], meta: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    properties = {
        "api": {"const": API},
        "kind": {"const": cls.kind},
        **meta["properties"],
        "revision": {"type": "string", "description": "Opaque; changes with every write."},
        **spec["properties"],
        "status": {"$ref": REF.format(name=cls.status_type.__name__)},
    }
    return {
        "title": cls.kind,
        "type": "object",
        "description": spec.get("description", ""),
        "properties": properties,
        "required": [name for name in properties if name not in _OMITTED_WHEN_UNSET],
        "additionalProperties": False,
    }


def _flatten_wanted(cls: type[Resource[Any, Any]], meta: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    passed_over = {name: {"description": "Passed over."} for name in ("api", *meta["properties"], "revision", "status")}
    properties = {
        **passed_over,
        "kind": {"const": cls.kind},
        "name": {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", "maxLength": 63},
        "labels": meta["properties"]["labels"],
        **spec["properties"],
        **_NARROWED[cls],
    }
    return {
        "title": f"{cls.kind}Wanted",
        "type": "object",
        "description": f"A {cls.kind} as a person writes it. What was read may be edited and sent back: status and other "
        "meta are passed over.",
        "properties": properties,
        "required": ["name", *spec.get("required", [])],
        "additionalProperties": False,
    }
