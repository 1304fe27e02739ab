"""Resources: meta + spec + status in code and in the store, one flat object on the wire.

On the wire, in files and in ``--json`` a resource is written as a person would:
``{"kind": "VM", "name": "web", "plugin": "nginx", "memory_mb": 256, "status": {...}}``.
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from volant.core.errors import InvalidInput
from volant.core.ids import Uid
from volant.core.types import prepare_types

API = "v1"


class Meta(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every resource has. ``generation`` counts changes of the spec, ``revision`` every change."""

    name: str
    uid: Uid
    project: str = "default"
    labels: dict[str, str] = {}
    generation: int = 1
    created_at: str = ""
    deleting_at: str | None = None
    finalizers: tuple[str, ...] = ()
    owner: str | None = None
    """The uid of the resource that this one goes with."""
    managers: dict[str, tuple[str, ...]] = {}
    """Who decides which fields: names of those that apply files, each with the paths of what it wrote (``strategy.type``)."""


class Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=False):
    """The base of every spec: what was asked. Unknown fields are refused."""


class Status(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """The base of every status: what is. Unknown fields are passed over, so that older code reads newer records."""


SpecT = TypeVar("SpecT", bound=Spec)
StatusT = TypeVar("StatusT", bound=Status)


class Resource(msgspec.Struct, Generic[SpecT, StatusT], frozen=True, kw_only=True):
    """One resource as code sees it. ``revision`` is the store's and is 0 before the first write."""

    kind: ClassVar[str]
    plural: ClassVar[str]
    schema: ClassVar[int] = 1
    spec_type: ClassVar[type[Spec]]
    status_type: ClassVar[type[Status]]

    meta: Meta
    spec: SpecT
    status: StatusT
    revision: int = 0

    @property
    def name(self) -> str:
        return self.meta.name

    @property
    def uid(self) -> Uid:
        return self.meta.uid

    @property
    def deleting(self) -> bool:
        return self.meta.deleting_at is not None


META_FIELDS = frozenset(f for f in Meta.__struct_fields__) | {"api", "kind", "revision", "status"}
"""Names that no spec field may take, because both stand side by side on the wire."""

ResourceT = TypeVar("ResourceT", bound=Resource[Any, Any])


def to_stored(resource: Resource[Any, Any]) -> dict[str, Any]:
    """The JSON object that the store keeps: three records apart, with API and schema number."""
    return {
        "api": API,
        "schema": resource.schema,
        "meta": msgspec.to_builtins(resource.meta),
        "spec": msgspec.to_builtins(resource.spec),
        "status": msgspec.to_builtins(resource.status),
    }


def from_stored(cls: type[ResourceT], data: dict[str, Any], revision: int) -> ResourceT:
    """The inverse of to_stored. Raises msgspec.ValidationError on a record that was not written by it."""
    return cls(
        meta=msgspec.convert(data["meta"], Meta),
        spec=msgspec.convert(data["spec"], cls.spec_type),
        status=msgspec.convert(data["status"], cls.status_type),
        revision=revision,
    )


def to_wire(resource: Resource[Any, Any]) -> dict[str, Any]:
    """The flat object: meta and spec side by side, ``status`` apart and last. Unset meta is left out."""
    meta = msgspec.to_builtins(resource.meta)
    for plural in ("finalizers", "managers"):
        if not meta[plural]:
            del meta[plural]
    for optional in ("deleting_at", "owner"):
        if meta[optional] is None:
            del meta[optional]
    return {
        "api": API,
        "kind": resource.kind,
        **meta,
        "revision": str(resource.revision),
        **msgspec.to_builtins(resource.spec),
        "status": msgspec.to_builtins(resource.status),
    }


def read_wire(cls: type[ResourceT], data: object) -> ResourceT:
    """The inverse of to_wire, for what a newer server may have written: fields that are not known here are passed over.

    Raises:
        InvalidInput: it is no resource of this kind.
    """
    if not isinstance(data, dict) or data.get("kind") != cls.kind:
        raise InvalidInput(f"this is not a {cls.kind}")
    prepare_types(Meta, cls.spec_type, cls.status_type)
    revision = str(data.get("revision", ""))
    try:
        return cls(
            meta=msgspec.convert({key: data[key] for key in Meta.__struct_fields__ if key in data}, Meta),
            spec=msgspec.convert({key: data[key] for key in cls.spec_type.__struct_fields__ if key in data}, cls.spec_type),
            status=msgspec.convert(data.get("status", {}), cls.status_type),
            revision=int(revision) if revision.isdecimal() else 0,
        )
    except msgspec.ValidationError as error:
        message, field = split_validation_error(error)
        raise InvalidInput(message, field=field) from error


class Wanted(msgspec.Struct, Generic[SpecT], frozen=True):
    """What a person sent: the parts of a flat object that they may decide."""

    name: str
    labels: dict[str, str]
    spec: SpecT


def from_wire(cls: type[Resource[SpecT, StatusT]], data: object) -> Wanted[SpecT]:
    """Read a flat object as somebody wrote or read and edited it; status and other meta are passed over.

    Raises:
        InvalidInput: it is no object, of another kind, has no name, or a field is unknown or out of range.
    """
    if not isinstance(data, dict):
        raise InvalidInput(f"a {cls.kind} is written as one object")
    kind = data.get("kind", cls.kind)
    if kind != cls.kind:
        raise InvalidInput(f"this is a {kind!r}, not a {cls.kind}", field="kind")
    name = data.get("name")
    if not isinstance(name, str):
        raise InvalidInput(f"a {cls.kind} needs a name", field="name")
    fields = {key: value for key, value in data.items() if key not in META_FIELDS}
    try:
        labels = msgspec.convert(data.get("labels", {}), dict[str, str])
        spec = msgspec.convert(fields, cls.spec_type)
    except msgspec.ValidationError as error:
        message, field = split_validation_error(error)
        raise InvalidInput(message, field=field) from error
    return Wanted(name=name, labels=labels, spec=spec)  # type: ignore[arg-type]  # spec_type is SpecT's runtime twin


def split_validation_error(error: msgspec.ValidationError) -> tuple[str, str | None]:
    """``(message, field)`` of a msgspec error, whose text is ``message - at `$.field```."""
    message, _, path = str(error).partition(" - at `")
    return message, path.removesuffix("`").removeprefix("$").removeprefix(".") or None
