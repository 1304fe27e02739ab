"""Resources in the store: the typed side of the contract's plain data."""

from __future__ import annotations

from typing import Any

import msgspec

from volant.core.errors import HostError, NotFound
from volant.core.resource import Resource, ResourceT, from_stored, to_stored
from volant.store.contract import Create, Delete, Key, Store, Stored, Update


def key_of(resource: Resource[Any, Any]) -> Key:
    return Key(resource.kind, resource.meta.project, resource.meta.name)


def read_resource(cls: type[ResourceT], stored: Stored) -> ResourceT:
    """The resource that ``stored`` holds. Raises HostError when this version cannot read the record."""
    try:
        return from_stored(cls, stored.data, stored.revision)
    except (msgspec.ValidationError, KeyError) as error:
        raise HostError(
            f"the record of {stored.key} cannot be read: {error}", hint="it was written by another version; run that or delete it"
        ) from error


async def find_resource(store: Store, cls: type[ResourceT], project: str, name: str) -> ResourceT | None:
    stored = await store.get(Key(cls.kind, project, name))
    return None if stored is None else read_resource(cls, stored)


async def get_resource(store: Store, cls: type[ResourceT], project: str, name: str) -> ResourceT:
    """Raises NotFound."""
    found = await find_resource(store, cls, project, name)
    if found is None:
        raise NotFound(f"there is no {cls.kind} named {name}" + (f" in project {project}" if project else ""))
    return found


async def list_resources(
    store: Store, cls: type[ResourceT], project: str | None = None, labels: dict[str, str] | None = None
) -> tuple[list[ResourceT], int]:
    """All resources of ``cls`` in key order, narrowed as Store.list narrows, and the revision to watch from."""
    listing = await store.list(cls.kind, project, labels)
    return [read_resource(cls, stored) for stored in listing.items], listing.revision


def create_of(resource: Resource[Any, Any]) -> Create:
    return Create(key_of(resource), to_stored(resource))


def update_of(resource: Resource[Any, Any]) -> Update:
    """An update that fails unless the record is still at the resource's own revision."""
    return Update(key_of(resource), to_stored(resource), resource.revision)


def delete_of(resource: Resource[Any, Any]) -> Delete:
    """A deletion that fails unless the record is still at the resource's own revision."""
    return Delete(key_of(resource), resource.revision)
