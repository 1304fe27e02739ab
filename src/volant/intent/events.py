"""Reading what happened."""

from __future__ import annotations

from collections.abc import AsyncIterator

from volant.core.event import Event
from volant.core.resource import from_stored
from volant.store.contract import Store
from volant.store.records import list_resources


class EventIntent:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def list(
        self, *, about_kind: str | None = None, about_name: str | None = None, limit: int | None = None
    ) -> tuple[list[Event], int]:
        """Events by time, oldest first, the latest ``limit`` of them, and the revision to follow from."""
        events, revision = await list_resources(self._store, Event, None)
        kept = [
            event
            for event in events
            if about_kind in (None, event.spec.about_kind) and about_name in (None, event.spec.about_name)
        ]
        kept.sort(key=lambda event: (event.spec.at, event.revision))
        return (kept if limit is None else kept[max(0, len(kept) - limit) :]), revision

    async def follow(self, since: int | None, *, about_name: str | None = None) -> AsyncIterator[tuple[int, Event]]:
        """``(revision, event)`` after ``since``, or from now on. The revision is 0 when others of the same moment follow.

        Raises:
            Compacted: the log does not reach back to ``since``, or no longer to where a slow reader is; list again.
        """
        start = (await self._store.list(Event.kind)).revision if since is None else since
        async with self._store.watch(start, [Event.kind]) as batches:
            async for batch in batches:
                events = [from_stored(Event, change.data, batch.revision) for change in batch.changes if change.type == "put"]
                for left, event in zip(range(len(events) - 1, -1, -1), events, strict=True):
                    if about_name in (None, event.spec.about_name):
                        yield 0 if left else batch.revision, event
