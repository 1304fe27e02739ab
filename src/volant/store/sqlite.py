"""The keeper for one machine: a SQLite database, one thread that writes, and readers on the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw
import msgspec

from volant.core.clock import Clock
from volant.core.errors import InvalidInput, Unavailable
from volant.store import transaction
from volant.store.changelog import Watcher, Watchers, check_since, read_bounds
from volant.store.contract import LONGEST_LEASE_S, RETAINED_REVISIONS, RETAINED_S, Batch, Key, Lease, Listing, Operation, Stored
from volant.store.database import connect_reader, connect_writer, create_file, explained, fetch
from volant.store.listing import Wanted, read_listing, read_record
from volant.store.prepared import check_key, check_text, prepare
from volant.store.schema import load_migrations, migrate
from volant.store.writer import RunSoon, Writer

SHORT_ROWS = 200
SHORT_BYTES = 256 * 1024
"""A listing up to this is read directly on the event loop; a longer one in a thread."""

COMPACTED_AT_ONCE = 256
"""Revisions dropped in one go, so that others can write in between."""


class Opened(msgspec.Struct, frozen=True):
    """The connections of one store: for the writer's thread, for the event loop, for the thread of long listings."""

    writer: apsw.Connection
    reader: apsw.Connection
    lister: apsw.Connection
    incarnation: str

    def close(self) -> None:
        """The writer goes last: it folds the log into the database when nobody reads any more."""
        for connection in (self.reader, self.lister, self.writer):
            connection.close(True)


def open_database(path: Path, vfs: str | None = None) -> Opened:
    """Make or open the database at ``path`` and bring its schema up to date. Blocks.

    Raises:
        HostError: it is no store, or not one that this version can read.
        DiskFull, Unavailable: it cannot be opened or brought up to date.
    """
    create_file(path)
    with contextlib.ExitStack() as undo, explained(f"the store {path} cannot be opened"):
        writer = connect_writer(path, vfs)
        undo.callback(writer.close, True)
        migrate(writer, path, load_migrations())
        reader = connect_reader(path, vfs)
        undo.callback(reader.close, True)
        lister = connect_reader(path, vfs)
        undo.callback(lister.close, True)
        incarnation: str = fetch(reader, "SELECT incarnation FROM state")[0][0]
        undo.pop_all()
    return Opened(writer, reader, lister, incarnation)


class SqliteStore:
    """The Store contract over one database. Made by ``open_store``; belongs to the event loop that made it."""

    def __init__(
        self,
        opened: Opened,
        clock: Clock,
        threads: ThreadPoolExecutor,
        *,
        retained_revisions: int = RETAINED_REVISIONS,
        retained_s: float = RETAINED_S,
        run_soon: RunSoon | None = None,
    ) -> None:
        self._opened = opened
        self._clock = clock
        self._threads = threads
        self._retained_revisions = retained_revisions
        self._retained_s = retained_s
        self._watchers = Watchers()
        self._writer = Writer(opened.writer, self._watchers.tell, run_soon=run_soon)
        self._closing: asyncio.Task[None] | None = None

    @property
    def incarnation(self) -> str:
        return self._opened.incarnation

    async def get(self, key: Key) -> Stored | None:
        self._check_open()
        check_key(key)
        with explained(f"the store could not read {key}"):
            return read_record(self._opened.reader, key)

    async def list(self, kind: str, project: str | None = None, labels: dict[str, str] | None = None) -> Listing:
        self._check_open()
        wanted = Wanted(kind, project, dict(labels or {}))
        check_text(kind, project or "", *wanted.labels, *wanted.labels.values())
        with explained(f"the store could not list {kind}"):
            short = read_listing(self._opened.reader, wanted, rows_max=SHORT_ROWS, bytes_max=SHORT_BYTES)
            if short is not None:
                return short
            loop = asyncio.get_running_loop()
            long = await loop.run_in_executor(self._threads, read_listing, self._opened.lister, wanted)
        assert long is not None
        return long

    async def transact(self, operations: Sequence[Operation]) -> int:
        self._check_open()
        prepared = prepare(operations)
        return await self._writer.submit(
            functools.partial(transaction.transact, prepared=prepared, now=self._now()), size=prepared.size
        )

    @contextlib.asynccontextmanager
    async def watch(
        self, since: int, kinds: Sequence[str] | None = None, *, progress: bool = False
    ) -> AsyncIterator[AsyncIterator[Batch]]:
        self._check_open()
        with explained("the store could not read its change log"):
            check_since(since, *read_bounds(self._opened.reader))
        watcher = Watcher(since, kinds, progress=progress)
        self._watchers.add(watcher)
        try:
            async with contextlib.aclosing(watcher.follow(self._opened.reader)) as batches:
                yield batches
        finally:
            self._watchers.discard(watcher)

    async def grant_lease(self, name: str, holder: str, ttl_s: float) -> Lease:
        self._check_open()
        check_text(name, holder)
        if not 0 < ttl_s <= LONGEST_LEASE_S:
            raise InvalidInput(f"a lease lasts more than 0 and at most {LONGEST_LEASE_S:g} s, not {ttl_s:g}", field="ttl_s")
        work = functools.partial(transaction.grant_lease, name=name, holder=holder, ttl_s=ttl_s, now=self._now())
        return await self._writer.submit(work)

    async def release_lease(self, name: str, holder: str) -> None:
        self._check_open()
        check_text(name, holder)
        await self._writer.submit(functools.partial(transaction.release_lease, name=name, holder=holder))

    async def compact(self) -> int:
        self._check_open()
        work = functools.partial(
            transaction.compact_some,
            before=self._now() - self._retained_s,
            keep=self._retained_revisions,
            at_most=COMPACTED_AT_ONCE,
        )
        done = False
        while not done:
            oldest, done = await self._writer.submit(work)
        return oldest

    async def close(self) -> None:
        """Everything accepted is finished first, even when the caller is cancelled meanwhile."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="volant-store-close")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await self._writer.stop()
        self._watchers.end(Unavailable("the store was closed"))
        await asyncio.get_running_loop().run_in_executor(self._threads, self._opened.close)
        self._threads.shutdown()

    def _check_open(self) -> None:
        if self._closing is not None:
            raise Unavailable("the store is closed")

    def _now(self) -> float:
        return self._clock.now().timestamp()


@contextlib.asynccontextmanager
async def open_store(
    path: Path,
    clock: Clock,
    *,
    vfs: str | None = None,
    retained_revisions: int = RETAINED_REVISIONS,
    retained_s: float = RETAINED_S,
    run_soon: RunSoon | None = None,
) -> AsyncIterator[SqliteStore]:
    """The store at ``path``, which is made when it is not there (mode 0600; its directory must exist), until the block ends.

    One process at a time owns a store: watchers hear only of what was written through their own. ``run_soon`` as in ``Writer``.

    Raises:
        HostError: the file is no store, or not one that this version can read.
        DiskFull, Unavailable: it cannot be opened or brought up to date.
    """
    threads = ThreadPoolExecutor(1, thread_name_prefix="volant-store-reader")
    try:
        opened = await asyncio.get_running_loop().run_in_executor(threads, open_database, path, vfs)
    except BaseException:
        threads.shutdown(wait=False)
        raise
    store = SqliteStore(opened, clock, threads, retained_revisions=retained_revisions, retained_s=retained_s, run_soon=run_soon)
    try:
        yield store
    finally:
        await store.close()
