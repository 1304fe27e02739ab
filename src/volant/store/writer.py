"""The one thread that writes: what waits is committed as one group, a savepoint each.

Work is handed over whole, so that a transaction costs one hop to the thread and one back, however many statements it has,
and a group costs one ``fsync``, however many transactions it has. Nobody hears of a result before the group's COMMIT returned.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import apsw
import msgspec

from volant.core.errors import Unavailable
from volant.store.database import STORAGE_ERRORS, explain
from volant.store.transaction import Group

GROUP_MEMBERS = 256
GROUP_BYTES = 8 * 1024 * 1024
"""A group is closed once it holds this much, so that the log does not grow by more at a time."""

T = TypeVar("T")
Work = Callable[[Group], T]
Committed = Callable[[int, int, frozenset[str]], None]
"""Called on the loop with the revision before the group, the one after, and the kinds that were written."""
RunSoon = Callable[[Callable[[], None]], object]
"""Has what it is given called on the loop, once, a little later."""


class _Job(msgspec.Struct):
    work: Work[Any]
    size: int
    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None


class Writer:
    """Runs work on ``connection`` in a thread of its own until it is stopped; with ``run_soon`` on the loop instead, for a
    simulation that decides when.

    ``committed`` is called on the loop for every group that wrote, before its members hear their results.
    """

    def __init__(self, connection: apsw.Connection, committed: Committed, *, run_soon: RunSoon | None = None) -> None:
        self._connection = connection
        self._committed = committed
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._group: list[_Job] = []
        self._stopping = False
        self._stopped: asyncio.Future[None] = self._loop.create_future()
        self._run_soon = run_soon
        self._is_due = False
        self._thread: threading.Thread | None = None
        if run_soon is not None:
            return
        # A daemon thread: an interpreter that ends without close() must not wait for work that never comes.
        self._thread = threading.Thread(target=self._run, name="volant-store-writer", daemon=True)
        self._thread.start()

    async def submit(self, work: Work[T], size: int = 0) -> T:
        """Run ``work`` in a group; ``size`` is the bytes that it writes.

        Once this is called the work is done even if the caller is cancelled. What ``work`` raises is raised here and undoes
        what it wrote, and only that.

        Raises:
            DiskFull, Unavailable: the group could not be committed; nothing of it was kept.
        """
        if self._stopping:
            raise Unavailable("the store is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._put(_Job(work, size, future))
        return await future

    async def stop(self) -> None:
        """Finish what was accepted and end the thread. The connection stays open."""
        if not self._stopping:
            self._stopping = True
            self._put(None)
        await asyncio.shield(self._stopped)
        if self._thread is not None:
            self._thread.join()

    def _put(self, job: _Job | None) -> None:
        self._jobs.put(job)
        if self._run_soon is not None and not self._is_due:
            self._is_due = True
            self._run_soon(self._run_due)

    def _run(self) -> None:
        try:
            while group := self._collect():
                self._write(group)
        finally:
            self._call_loop(self._set_stopped)

    def _run_due(self) -> None:
        """What the thread does, once for what waits now."""
        self._is_due = False
        while not self._jobs.empty():
            group = self._collect()
            if not group:
                self._call_loop(self._set_stopped)
                return
            self._write(group)

    def _write(self, group: list[_Job]) -> None:
        self._group = group
        news = self._commit(group)
        self._group = []
        self._call_loop(self._tell, news, group)

    def _collect(self) -> list[_Job]:
        """Wait for work, then take what is there. Empty when the writer was told to stop and everything is done."""
        group: list[_Job] = []
        size = 0
        while len(group) < GROUP_MEMBERS and size < GROUP_BYTES:
            try:
                job = self._jobs.get(block=not group)
            except queue.Empty:
                break
            if job is None:
                if group:
                    self._jobs.put(None)
                break
            group.append(job)
            size += job.size
        return group

    def _commit(self, group: list[_Job]) -> list[Group]:
        """Return what was committed."""
        together = self._try_commit(group)
        if isinstance(together, Group):
            return [together]
        if isinstance(together, apsw.FullError) and len(group) > 1:
            # One that does not fit must not take along those that would.
            return [committed for job in group for committed in self._commit([job])]
        for job in group:
            job.error = explain(together, "the store could not write")
        return []

    def _try_commit(self, group: list[_Job]) -> Group | apsw.Error:
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            together = Group(connection)
            for job in group:
                _attempt(together, job)
            together.finish()
            connection.execute("COMMIT")
        except apsw.Error as error:
            return error
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        return together

    def _tell(self, news: list[Group], group: list[_Job]) -> None:
        for together in news:
            if together.revision != together.base:
                self._committed(together.base, together.revision, frozenset(together.kinds))
        _settle(group)

    def _call_loop(self, function: Callable[..., None], *arguments: Any) -> None:
        # A loop that was closed before the store has nobody left to tell.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def _set_stopped(self) -> None:
        self._stopping = True
        # Nothing is left unless the thread died of a defect; then nobody may wait for it for ever.
        left = self._group
        while not self._jobs.empty():
            if (job := self._jobs.get_nowait()) is not None:
                left.append(job)
        for job in left:
            job.error = Unavailable("the store's writer ended", hint="restart volantd")
        _settle(left)
        if not self._stopped.done():
            self._stopped.set_result(None)


def _attempt(together: Group, job: _Job) -> None:
    """Do one job inside a savepoint. Only what ails the whole group is raised."""
    connection, revision = together.connection, together.revision
    job.result = job.error = None
    connection.execute("SAVEPOINT one")
    try:
        job.result = job.work(together)
    except STORAGE_ERRORS:
        raise
    except Exception as error:  # noqa: BLE001  # raised again where the work was submitted
        job.error = explain(error, "the store could not write") if isinstance(error, apsw.Error) else error
        together.revision = revision
        connection.execute("ROLLBACK TO one")
    connection.execute("RELEASE one")


def _settle(group: list[_Job]) -> None:
    for job in group:
        if job.future.done():
            continue  # its caller was cancelled
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)
