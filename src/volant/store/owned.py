"""What goes with another resource, found by that one's uid: its cost does not grow with what goes with others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from volant.core.resource import Resource, ResourceT
from volant.store.cache import Cache
from volant.store.contract import Store, Stored
from volant.store.records import list_resources, read_resource

BY_OWNER = "owner"
"""The cache's index of what goes with another resource."""


def index_owner(stored: Stored) -> Iterator[str]:
    owner: Any = stored.data["meta"].get("owner")
    if owner:
        yield owner


class OwnedReader:
    """Reads from the cache, as new as the store was when it was asked; where that lags, or has not the kind, from the store.
    A ``cache`` has the index BY_OWNER."""

    def __init__(self, store: Store, cache: Cache | None = None) -> None:
        self._store = store
        self._cache = cache

    async def list_of(self, cls: type[ResourceT], owner: Resource[Any, Any], labels: Mapping[str, str]) -> list[ResourceT]:
        """Those of ``cls`` that go with ``owner``, by name; those that are being deleted too. ``labels`` are what the store finds
        them by, and had when they were made."""
        if self._cache is not None and self._cache.holds(cls.kind) and await self._cache.catch_up():
            owned = self._cache.by_index(BY_OWNER, owner.uid)
            return [read_resource(cls, stored) for stored in owned if stored.key.kind == cls.kind]
        found, _ = await list_resources(self._store, cls, owner.meta.project, dict(labels))
        return [one for one in found if one.meta.owner == owner.uid]
