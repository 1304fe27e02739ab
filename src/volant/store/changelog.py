"""The change log as watchers read it: pages from a reader's connection, each at its own pace."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import cast

import apsw
import msgspec

from volant.core.errors import Compacted, Unavailable
from volant.store.contract import Batch, Change, Key
from volant.store.database import explained, fetch, snapshot
from volant.store.prepared import decode_data
from volant.store.transaction import CHANGES_PER_REVISION

PAGE_REVISIONS = 256
PAGE_BYTES = 256 * 1024
"""A page ends after the batch that passes this, so that the event loop is never held for long."""

_PAGE = "SELECT id, event, kind, project, name, data FROM changes WHERE id >= ? AND id < ?"
_OF_KINDS = " AND kind IN (SELECT value FROM json_each(?))"
_IN_ORDER = " ORDER BY id"


class Page(msgspec.Struct, frozen=True):
    """The batches between two revisions. ``caught_up`` when ``until`` was the newest there was."""

    batches: tuple[Batch, ...]
    until: int
    caught_up: bool


def read_bounds(connection: apsw.Connection) -> tuple[int, int]:
    """The revision just before the log's first, and the newest."""
    compacted, revision = fetch(connection, "SELECT compacted, revision FROM state")[0]
    return compacted, revision


def read_page(connection: apsw.Connection, since: int, kinds: str | None) -> Page:
    """The batches after ``since``; ``kinds`` is a JSON array of what to narrow them to.

    Raises:
        Compacted: the log does not hold everything after ``since``.
    """
    with snapshot(connection):
        compacted, newest = read_bounds(connection)
        check_since(since, compacted, newest)
        until = min(newest, since + PAGE_REVISIONS)
        bounds = ((since + 1) * CHANGES_PER_REVISION, (until + 1) * CHANGES_PER_REVISION)
        sql = _PAGE + ("" if kinds is None else _OF_KINDS) + _IN_ORDER
        batches: list[Batch] = []
        changes: list[Change] = []
        revision = size = 0
        with contextlib.closing(connection.execute(sql, bounds if kinds is None else (*bounds, kinds))) as rows:
            for row_id, event, kind, project, name, text in cast("Iterable[tuple[int, str, str, str, str, str]]", rows):
                if row_id // CHANGES_PER_REVISION != revision:
                    if changes:
                        batches.append(Batch(revision, tuple(changes)))
                        changes = []
                    if size > PAGE_BYTES:
                        until = revision
                        break
                    revision = row_id // CHANGES_PER_REVISION
                size += len(text)
                changes.append(
                    Change(
                        type="delete" if event == "deleted" else "put",
                        key=Key(kind, project, name),
                        data=decode_data(text),
                        created=event == "created",
                    )
                )
        if changes:
            batches.append(Batch(revision, tuple(changes)))
    return Page(tuple(batches), until, until == newest)


def check_since(since: int, compacted: int, newest: int) -> None:
    """Raises Compacted when a watch cannot begin after ``since``."""
    if since < compacted:
        raise Compacted(f"revision {since} is no longer in the change log, which begins after {compacted}", hint="list again")
    if since > newest:
        raise Compacted(f"revision {since} has not been: the newest is {newest}", hint="list again")


class Watcher:
    """One reader's place in the log. All of it runs on the loop."""

    def __init__(self, since: int, kinds: Sequence[str] | None, *, progress: bool) -> None:
        self._since = since
        self._kinds = None if kinds is None else frozenset(kinds)
        self._kinds_json = None if kinds is None else msgspec.json.encode(sorted(set(kinds))).decode()
        self._progress = progress
        self._news = asyncio.Event()
        self._ended: Unavailable | None = None

    def tell(self, before: int, after: int, kinds: frozenset[str]) -> None:
        """There is news between two revisions. What this watcher would pass over anyway does not wake it."""
        if self._since == before and self._kinds is not None and not self._progress and self._kinds.isdisjoint(kinds):
            self._since = after
        else:
            self._news.set()

    def end(self, reason: Unavailable) -> None:
        self._ended = reason
        self._news.set()

    async def follow(self, connection: apsw.Connection) -> AsyncGenerator[Batch, None]:
        """Batches for ever.

        Raises:
            Compacted: the log was compacted beyond what this watcher has read.
            Unavailable: the store was closed or cannot be read.
        """
        while True:
            self._news.clear()
            if self._ended is not None:
                raise self._ended
            before = self._since
            with explained("the store could not read its change log"):
                page = read_page(connection, before, self._kinds_json)
            self._since = page.until
            for batch in page.batches:
                yield batch
            if self._progress and page.until != before and (not page.batches or page.batches[-1].revision != page.until):
                yield Batch(page.until, ())
            if page.caught_up:
                await self._news.wait()
            else:
                await asyncio.sleep(0)  # between two pages others have their turn


class Watchers:
    """Everybody who follows the log."""

    def __init__(self) -> None:
        # No set: whoever began to watch first is told first.
        self._watchers: dict[Watcher, None] = {}

    def add(self, watcher: Watcher) -> None:
        self._watchers[watcher] = None

    def discard(self, watcher: Watcher) -> None:
        self._watchers.pop(watcher, None)

    def tell(self, before: int, after: int, kinds: frozenset[str]) -> None:
        for watcher in self._watchers:
            watcher.tell(before, after, kinds)

    def end(self, reason: Unavailable) -> None:
        for watcher in self._watchers:
            watcher.end(reason)
