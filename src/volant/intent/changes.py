"""Follow all resources of a kind that somebody chose, and go on later from where one was."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Generic, Literal

import msgspec

from volant.core.resource import from_stored
from volant.intent.follow import follow_resource
from volant.intent.listing import Filters, Kind, R, is_chosen
from volant.store.contract import Store
from volant.store.records import key_of, read_resource


class Changed(msgspec.Struct, Generic[R], frozen=True):
    """``put``: it is chosen, and is as ``resource`` says. ``deleted``: it is gone, or no longer chosen. ``synced``: all that were
    there in the beginning have been told. One may go on after ``revision``, which is 0 where one may not."""

    type: Literal["put", "deleted", "synced"]
    revision: int
    resource: R | None = None


async def follow_resources(
    store: Store, kind: Kind[R], project: str, filters: Filters, since: int | None
) -> AsyncIterator[Changed[R]]:
    """What is there, ``synced``, and then every change; only the changes after ``since`` when it is given.

    Who goes on may be told that something is gone which was never told to be there.

    Raises:
        Compacted: the log does not reach back to ``since``, or no longer to where a slow reader is.
    """
    known: set[str] = set()
    told_gone: set[str] = set()
    start = since
    if start is None:
        listing = await store.list(kind.cls.kind, project)
        for stored in listing.items:
            if is_chosen(kind, stored.data, filters):
                known.add(stored.data["meta"]["uid"])
                yield Changed("put", 0, read_resource(kind.cls, stored))
        start = listing.revision
        yield Changed("synced", start)
    async with store.watch(start, [kind.cls.kind]) as batches:
        async for batch in batches:
            last = len(batch.changes) - 1
            for place, change in enumerate(batch.changes):
                if change.key.project != project:
                    continue
                uid = change.data["meta"]["uid"]
                # All changes of a transaction have its revision: only after the last of them nothing is missed.
                revision = batch.revision if place == last else 0
                resource = from_stored(kind.cls, change.data, batch.revision)
                if change.type == "put" and is_chosen(kind, change.data, filters):
                    known.add(uid)
                    told_gone.discard(uid)
                    yield Changed("put", revision, resource)
                elif uid in known or (since is not None and uid not in told_gone and kind.shows(change.data)):
                    known.discard(uid)
                    if change.type == "put":
                        told_gone.add(uid)
                    yield Changed("deleted", revision, resource)


async def follow_one(store: Store, kind: Kind[R], resource: R, since: int | None) -> AsyncIterator[R | None]:
    """``resource`` now and after every change, or only after those up to ``since``; None and the end when it is deleted.

    Raises:
        Compacted: the log does not reach back to ``since``.
    """
    if since is None:
        async for current in follow_resource(store, kind.cls, key_of(resource), resource.uid):
            yield current
        return
    async for change in follow_resources(store, kind, resource.meta.project, Filters(), since):
        if change.resource is None or change.resource.name != resource.name:
            continue
        if change.type == "deleted" or change.resource.uid != resource.uid:
            yield None
            return
        yield change.resource
