"""What controllers read: records of some kinds in memory, indexed, kept current by list and watch."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable, Sequence

from volant.core.clock import Clock, HostClock
from volant.core.errors import Compacted, Unavailable
from volant.store.contract import Batch, Change, Key, Listing, Store, Stored

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 10.0
CATCH_UP_S = 2.0

IndexFunction = Callable[[Stored], Iterable[str]]
"""The values under which a record is found; none leaves it out."""

Subscriber = Callable[[Change, Stored | None], None]
"""Called with a change that the cache has just taken in, and the record as it was before."""

_Revised = list[tuple[Change, int]]
_Found = list[Stored]


class Cache:
    """Records of ``kinds``, as the store had them a moment ago.

    Read only after ``wait_synced``; a record's data is shared by all readers, so nobody changes it. ``run`` is the body of
    the task that fills and follows. Everything else is synchronous and sees each transaction whole.
    """

    def __init__(self, store: Store, kinds: Sequence[str], clock: Clock | None = None) -> None:
        assert kinds, "a cache of nothing"
        self._store = store
        self._kinds = tuple(dict.fromkeys(kinds))
        self._clock = clock or HostClock()
        self._records: dict[str, dict[str, dict[Key, Stored]]] = {kind: {} for kind in self._kinds}
        self._indexes: dict[str, _Index] = {}
        self._indexes_of: dict[str, list[_Index]] = {kind: [] for kind in self._kinds}
        self._subscribers: dict[str, list[Subscriber]] = {kind: [] for kind in self._kinds}
        self._synced = asyncio.Event()
        self._listed: dict[str, int] = {}
        self._seen = 0
        self._waiting: set[tuple[int, asyncio.Future[None]]] = set()

    async def run(self) -> None:
        """Follow the store until cancelled.

        What the watch can no longer tell (Compacted) is found by listing again; while the store is Unavailable the last
        state stays readable and it is tried again after BACKOFF_FIRST_S, twice that, up to BACKOFF_MAX_S seconds.
        """
        backoff_s = BACKOFF_FIRST_S
        while True:
            try:
                since = await self._list_again()
                async with self._store.watch(since, self._kinds, progress=True) as batches:
                    async for batch in batches:
                        self._take_in(batch)
                        backoff_s = BACKOFF_FIRST_S
            except Compacted:
                continue
            except Unavailable:
                await self._clock.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)

    async def wait_synced(self) -> None:
        """Return once every kind was listed. No time limit of its own."""
        await self._synced.wait()

    async def wait_revision(self, revision: int) -> None:
        """Return once the cache has seen ``revision``, such as the one of the caller's own write. No time limit of its own."""
        if self._synced.is_set() and self._seen >= revision:
            return
        waiter = (revision, asyncio.get_running_loop().create_future())
        self._waiting.add(waiter)
        try:
            await waiter[1]
        finally:
            self._waiting.discard(waiter)

    async def catch_up(self, limit_s: float = CATCH_UP_S) -> bool:
        """True once it has seen all that the store held when this was called; False when it has not within ``limit_s``."""
        # Of a kind that is nowhere the listing costs nothing and says how far the store is.
        revision = (await self._store.list("Nothing", "")).revision
        try:
            async with asyncio.timeout(limit_s):
                await self.wait_revision(revision)
        except TimeoutError:
            return False
        return True

    @property
    def revision(self) -> int:
        """The newest revision that the cache has seen."""
        return self._seen

    def holds(self, kind: str) -> bool:
        """Whether ``kind`` is among those that are kept, and was listed."""
        return kind in self._records and self._synced.is_set()

    def get(self, key: Key) -> Stored | None:
        return self._records[key.kind].get(key.project, {}).get(key)

    def list(self, kind: str, project: str | None = None) -> _Found:
        """Records of ``kind`` in key order."""
        by_project = self._records[kind]
        chosen = by_project.values() if project is None else [by_project.get(project, {})]
        return sorted((stored for records in chosen for stored in records.values()), key=_key)

    def add_index(self, name: str, function: IndexFunction, *, kinds: Sequence[str] | None = None) -> None:
        """Find records, of ``kinds`` or of all, by what ``function`` says of them. It must depend on the record alone."""
        index = self._indexes[name] = _Index(function)
        for kind, by_project in self._records.items():
            if kinds is not None and kind not in kinds:
                continue
            self._indexes_of[kind].append(index)
            for records in by_project.values():
                for stored in records.values():
                    index.put(stored)

    def by_index(self, name: str, value: str) -> _Found:
        """Records that the index ``name`` has under ``value``, in key order."""
        return sorted(self._indexes[name].entries.get(value, {}).values(), key=_key)

    def count(self, name: str, value: str) -> int:
        """How many records the index ``name`` has under ``value``."""
        return len(self._indexes[name].entries.get(value, {}))

    def counts(self, name: str) -> dict[str, int]:
        """How many records the index ``name`` has under each of its values."""
        return {value: len(records) for value, records in self._indexes[name].entries.items()}

    def subscribe(self, subscriber: Subscriber, *, kinds: Sequence[str] | None = None) -> Callable[[], None]:
        """Call ``subscriber`` for every change, of ``kinds`` or of all, from now on, in order, after the change's whole
        transaction was taken in.

        The first listing's records come as puts that created them, what a later listing finds as the changes that lead there:
        deletions first; of a record that was deleted and made anew meanwhile, one put.

        Returns the function that ends it. What a subscriber raises ends ``run``.
        """
        heard = [self._subscribers[kind] for kind in (self._kinds if kinds is None else kinds) if kind in self._subscribers]
        for subscribers in heard:
            subscribers.append(subscriber)
        return functools.partial(_end_subscription, heard, subscriber)

    async def _list_again(self) -> int:
        """List every kind, take in what differs, return the revision to watch from."""
        listings = {kind: await self._store.list(kind) for kind in self._kinds}
        self._listed = {kind: listing.revision for kind, listing in listings.items()}
        changes: _Revised = []
        for kind, listing in listings.items():
            changes += self._find_deleted(kind, listing)
        for listing in listings.values():
            changes += self._find_put(listing)
        self._apply(changes)
        # What a later listing saw of the revisions in between is passed over when the watch brings it again.
        seen = min(self._listed.values(), default=0)
        self._synced.set()
        self._set_seen(seen)
        return seen

    def _find_deleted(self, kind: str, listing: Listing) -> _Revised:
        there = {stored.key for stored in listing.items}
        gone = (stored for stored in self.list(kind) if stored.key not in there)
        return [(Change("delete", stored.key, stored.data), listing.revision) for stored in gone]

    def _find_put(self, listing: Listing) -> _Revised:
        found = []
        for stored in listing.items:
            old = self.get(stored.key)
            if old != stored:
                found.append((Change("put", stored.key, stored.data, created=old is None), stored.revision))
        return found

    def _take_in(self, batch: Batch) -> None:
        self._apply(
            [(change, batch.revision) for change in batch.changes if batch.revision > self._listed[change.key.kind]],
        )
        self._set_seen(max(batch.revision, self._seen))

    def _apply(self, changes: _Revised) -> None:
        told = [(change, self._replace(change, revision)) for change, revision in changes]
        for change, old in told:
            for subscriber in tuple(self._subscribers[change.key.kind]):
                subscriber(change, old)

    def _replace(self, change: Change, revision: int) -> Stored | None:
        records = self._records[change.key.kind].setdefault(change.key.project, {})
        old = records.pop(change.key, None)
        new = None
        if change.type == "put":
            new = records[change.key] = Stored(change.key, revision, change.data)
        elif not records:
            del self._records[change.key.kind][change.key.project]
        for index in self._indexes_of[change.key.kind]:
            if old is not None:
                index.drop(old)
            if new is not None:
                index.put(new)
        return old

    def _set_seen(self, revision: int) -> None:
        self._seen = revision
        for wanted, waiter in self._waiting:
            if wanted <= revision and not waiter.done():
                waiter.set_result(None)


class _Index:
    def __init__(self, function: IndexFunction) -> None:
        self._function = function
        self.entries: dict[str, dict[Key, Stored]] = {}

    def put(self, stored: Stored) -> None:
        for value in self._function(stored):
            self.entries.setdefault(value, {})[stored.key] = stored

    def drop(self, stored: Stored) -> None:
        for value in self._function(stored):
            records = self.entries.get(value, {})
            records.pop(stored.key, None)
            if not records:
                self.entries.pop(value, None)


def _end_subscription(heard: list[list[Subscriber]], subscriber: Subscriber) -> None:
    for subscribers in heard:
        subscribers.remove(subscriber)


def _key(stored: Stored) -> Key:
    return stored.key
