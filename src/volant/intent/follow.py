"""Follow one resource through the store's changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeVar

from volant.core.errors import Compacted
from volant.core.ids import Uid
from volant.core.node import Node
from volant.core.resource import Resource, from_stored
from volant.store.contract import Key, Store

R = TypeVar("R", bound=Resource[Any, Any])


async def follow_resource(store: Store, cls: type[R], key: Key, uid: Uid) -> AsyncIterator[R | None]:
    """The resource as it is now and then after every change, until it is deleted: None, and the end.

    A resource of the same name that is made later is another one. A follower that fell behind what the store retains gets
    the present state and goes on from there.
    """
    while True:
        # A short list tells where to watch from; one of all that stand beside the resource would cost more with each of them.
        revision = (await store.list(Node.kind, "")).revision
        stored = await store.get(key)
        if stored is None or stored.data["meta"]["uid"] != uid:
            yield None
            return
        yield from_stored(cls, stored.data, stored.revision)
        try:
            async with store.watch(revision, [key.kind]) as batches:
                async for batch in batches:
                    if batch.revision <= stored.revision:
                        continue  # it was told already
                    for change in batch.changes:
                        if change.key != key:
                            continue
                        if change.type == "delete" or change.data["meta"]["uid"] != uid:
                            yield None
                            return
                        yield from_stored(cls, change.data, batch.revision)
        except Compacted:
            continue
