"""The writer: groups, savepoints, and what happens when the disk does not write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from volant.core.clock import HostClock
from volant.core.errors import AlreadyExists, DiskFull, Unavailable, VolantError
from volant.store import writer as writer_module
from volant.store.contract import Create, Key
from volant.store.sqlite import SqliteStore, open_store
from volant.store.transaction import Group
from volant.store.writer import Writer

from .failing_disk import FailingDisk


def vm(name: object) -> Key:
    return Key("vm", "default", str(name))


async def create(store: SqliteStore, name: object, size: int = 10) -> int:
    return await store.transact([Create(vm(name), {"value": "x" * size})])


async def pile_up(disk: FailingDisk, store: SqliteStore, attempts: Callable[[], list[Any]]) -> list[Any]:
    """Let ``attempts`` wait behind a commit that is held at its sync, so that they become one group."""
    disk.held.clear()
    disk.hold.clear()
    try:
        first = asyncio.create_task(create(store, "first"))
        await asyncio.to_thread(disk.held.wait, 30)
        tasks = [asyncio.create_task(attempt) for attempt in attempts()]
        await asyncio.sleep(0)
    finally:
        disk.hold.set()
    await first
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_waits_is_committed_as_one_group(path: Path, disk: FailingDisk) -> None:
    async with open_store(path, HostClock(), vfs=disk.NAME) as store:
        await create(store, "warm")
        before = disk.syncs
        revisions = await pile_up(disk, store, lambda: [create(store, number) for number in range(100)])
        assert revisions == list(range(3, 103))
        # One for the commit that was held, one for all that waited behind it.
        assert disk.syncs - before == 2


async def test_one_that_fails_harms_nobody_in_its_group(path: Path, disk: FailingDisk) -> None:
    async with open_store(path, HostClock(), vfs=disk.NAME) as store:
        names = [0, 1, 0, 2, 1, 3]
        results = await pile_up(disk, store, lambda: [create(store, name) for name in names])
        assert [type(result) for result in results] == [int, int, AlreadyExists, int, AlreadyExists, int]
        assert [result for result in results if isinstance(result, int)] == [2, 3, 4, 5]
        assert (await store.list("vm")).revision == 5


async def test_a_cancelled_waiter_harms_nobody_in_its_group(path: Path, disk: FailingDisk) -> None:
    async with open_store(path, HostClock(), vfs=disk.NAME) as store:

        async def cancelled() -> int:
            async with asyncio.timeout(0):
                return await create(store, "cancelled")

        results = await pile_up(disk, store, lambda: [create(store, 0), cancelled(), create(store, 1)])
        assert (results[0], type(results[1]), results[2]) == (2, TimeoutError, 4)
        # It was accepted, so it was done.
        assert await store.get(vm("cancelled")) is not None


async def test_nobody_hears_of_a_write_before_it_is_on_the_disk(path: Path, disk: FailingDisk) -> None:
    async with open_store(path, HostClock(), vfs=disk.NAME) as store:
        disk.held.clear()
        disk.hold.clear()
        write = asyncio.create_task(create(store, "a"))
        await asyncio.to_thread(disk.held.wait, 30)
        assert not write.done()
        assert await store.get(vm("a")) is None
        disk.hold.set()
        assert await write == 1


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (apsw.FullError("disk full"), DiskFull),
        (apsw.IOError("input/output error"), Unavailable),
        (apsw.ReadOnlyError("read only"), Unavailable),
        (apsw.CorruptError("malformed"), Unavailable),
    ],
)
async def test_what_the_disk_refuses_is_not_kept(
    path: Path, disk: FailingDisk, error: apsw.Error, expected: type[VolantError]
) -> None:
    async with open_store(path, HostClock(), vfs=disk.NAME) as store:
        first = await create(store, "before")
        disk.error = error
        with pytest.raises(expected) as caught:
            await create(store, "lost")
        assert isinstance(caught.value.__cause__, apsw.Error)
        assert caught.value.hint
        with pytest.raises(expected):
            await store.grant_lease("leader", "me", 10)
        # What is there can still be read.
        listing = await store.list("vm")
        assert ([item.key for item in listing.items], listing.revision) == ([vm("before")], first)
        disk.error = None
        assert await create(store, "after") == first + 1
    async with open_store(path, HostClock()) as store:
        assert [item.key.name for item in (await store.list("vm")).items] == ["after", "before"]


async def test_one_that_does_not_fit_does_not_take_along_those_that_do(path: Path, disk: FailingDisk) -> None:
    async with open_store(path, HostClock(), vfs=disk.NAME) as store:
        await create(store, "warm")
        disk.error, disk.above = apsw.FullError("disk full"), 256 * 1024
        results = await pile_up(disk, store, lambda: [create(store, "s1"), create(store, "big", 900_000), create(store, "s2")])
        assert (results[0], type(results[1]), results[2]) == (3, DiskFull, 4)
        disk.error = None
        assert [item.key.name for item in (await store.list("vm")).items] == ["first", "s1", "s2", "warm"]


async def test_another_process_that_holds_the_database_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volant.store.database.BUSY_TIMEOUT_MS", 1)
    async with open_store(path, HostClock()) as store:
        other = apsw.Connection(str(path))
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="another process holds the database"):
            await create(store, "a")
        other.execute("ROLLBACK")
        other.close()
        assert await create(store, "a") == 1


async def test_a_full_group_is_followed_by_another(path: Path, monkeypatch: pytest.MonkeyPatch, disk: FailingDisk) -> None:
    monkeypatch.setattr(writer_module, "GROUP_MEMBERS", 10)
    async with open_store(path, HostClock(), vfs=disk.NAME) as store:
        await create(store, "warm")
        before = disk.syncs
        await pile_up(disk, store, lambda: [create(store, number) for number in range(95)])
        assert disk.syncs - before == 1 + 10


async def test_a_defect_in_one_piece_of_work_is_its_caller_s_alone() -> None:
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE state (revision INTEGER NOT NULL); INSERT INTO state VALUES (0); CREATE TABLE t (x UNIQUE)")
    told: list[tuple[int, int, frozenset[str]]] = []
    writer = Writer(connection, lambda *news: told.append(news))

    def insert(group: Group) -> None:
        group.connection.execute("INSERT INTO t VALUES (1)")

    def insert_and_break(group: Group) -> None:
        group.connection.execute("INSERT INTO t VALUES (2)")
        group.revision += 7
        raise ZeroDivisionError

    results = await asyncio.gather(
        writer.submit(insert), writer.submit(insert_and_break), writer.submit(insert), return_exceptions=True
    )
    await writer.stop()
    assert [type(result) for result in results] == [type(None), ZeroDivisionError, Unavailable]
    assert connection.execute("SELECT x FROM t").fetchall() == [(1,)]
    assert told == []
    connection.close()


async def test_nobody_waits_for_a_writer_that_died(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = apsw.Connection(":memory:")
    monkeypatch.setattr("threading.excepthook", lambda _: None)

    def die(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Writer, "_commit", die)
    writer = Writer(connection, lambda *_: None)
    results = await asyncio.gather(*(writer.submit(lambda _: None) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable] * 3
    with pytest.raises(Unavailable):
        await writer.submit(lambda _: None)
    await writer.stop()
    connection.close()
