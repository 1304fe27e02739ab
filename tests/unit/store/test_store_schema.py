"""Migrations: checked, backed up before, whole or not at all."""

from __future__ import annotations

import contextlib
import stat
from pathlib import Path

import apsw
import pytest

from volant.core.clock import HostClock
from volant.core.errors import HostError, Unavailable
from volant.store import sqlite
from volant.store.contract import Create, Key
from volant.store.database import connect_writer, create_file
from volant.store.schema import Migration, load_migrations, migrate, schema_version
from volant.store.sqlite import open_database, open_store

SHIPPED = load_migrations()
NEXT = Migration(len(SHIPPED) + 1, "next", "CREATE TABLE more (x TEXT) STRICT; INSERT INTO more VALUES ('a;b');")
KEY = Key("vm", "default", "a")


async def make_store(path: Path) -> None:
    async with open_store(path, HostClock()) as store:
        await store.transact([Create(KEY, {"value": 1})])


def open_with(path: Path, *migrations: Migration) -> apsw.Connection:
    create_file(path)
    connection = connect_writer(path)
    try:
        migrate(connection, path, migrations)
    except BaseException:
        connection.close()
        raise
    return connection


def tables(connection: apsw.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}


def files(path: Path) -> set[str]:
    return {entry.name for entry in path.parent.iterdir()}


def test_shipped_migrations_are_numbered_from_one() -> None:
    assert [migration.number for migration in SHIPPED] == list(range(1, len(SHIPPED) + 1))
    assert SHIPPED[0].name == "0001_records"


async def test_a_new_store_needs_no_backup(path: Path) -> None:
    async with open_store(path, HostClock()):
        assert files(path) == {"volant.db", "volant.db-wal", "volant.db-shm"}
    assert files(path) == {"volant.db"}


def test_only_the_owner_reads_the_files(path: Path) -> None:
    path.touch(0o644)
    with contextlib.closing(open_database(path)):
        assert {stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()} == {0o600}


async def test_a_copy_is_left_before_a_step(path: Path) -> None:
    await make_store(path)
    open_with(path, *SHIPPED, NEXT).close()
    backup = path.with_name(f"volant.db.before-{NEXT.number:04}")
    assert files(path) == {"volant.db", backup.name}
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    async with open_store(backup, HostClock()) as store:
        found = await store.get(KEY)
    assert found is not None
    assert found.data == {"value": 1}


async def test_no_step_without_a_copy(path: Path) -> None:
    await make_store(path)
    path.with_name(f"volant.db.before-{NEXT.number:04}").mkdir()
    with pytest.raises(HostError, match="no copy of the store could be left"):
        open_with(path, *SHIPPED, NEXT)
    connection = open_with(path, *SHIPPED)
    assert "more" not in tables(connection)
    connection.close()


async def test_a_step_is_applied_once(path: Path) -> None:
    await make_store(path)
    for _ in range(2):
        connection = open_with(path, *SHIPPED, NEXT)
        assert schema_version(connection) == NEXT.number
        assert connection.execute("SELECT x FROM more").fetchall() == [("a;b",)]
        connection.close()


async def test_a_step_that_fails_leaves_the_version_before(path: Path) -> None:
    await make_store(path)
    broken = Migration(NEXT.number, "broken", "CREATE TABLE half (x TEXT) STRICT; INSERT INTO nowhere VALUES (1);")
    with pytest.raises(apsw.SQLError):
        open_with(path, *SHIPPED, broken)
    connection = open_with(path, *SHIPPED)
    assert schema_version(connection) == len(SHIPPED)
    assert "half" not in tables(connection)
    connection.close()
    open_with(path, *SHIPPED, NEXT).close()


async def test_a_crash_within_a_step_leaves_the_version_before(path: Path) -> None:
    await make_store(path)
    connection = open_with(path, *SHIPPED)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(NEXT.sql)
    connection.pragma("user_version", NEXT.number)
    # What a killed process leaves are its files as they are now.
    copies = path.parent / "after"
    copies.mkdir()
    for entry in list(path.parent.glob("volant.db*")):
        (copies / entry.name).write_bytes(entry.read_bytes())
    connection.execute("ROLLBACK")
    connection.close()
    async with open_store(copies / path.name, HostClock()) as store:
        assert await store.get(KEY) is not None


def test_a_newer_database_is_refused(path: Path) -> None:
    open_with(path, *SHIPPED, NEXT).close()
    before = path.read_bytes()
    with pytest.raises(HostError, match=f"newer Volant: its schema is {NEXT.number}") as caught:
        open_database(path)
    assert caught.value.hint is not None
    assert f"volant.db.before-{NEXT.number:04}" in caught.value.hint
    assert path.read_bytes() == before


async def test_a_step_that_was_changed_is_noticed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await make_store(path)
    changed = Migration(1, SHIPPED[0].name, SHIPPED[0].sql + "-- changed")
    monkeypatch.setattr(sqlite, "load_migrations", lambda: (changed, *SHIPPED[1:]))
    with pytest.raises(HostError, match="0001_records differs"):
        async with open_store(path, HostClock()):
            pass


async def test_a_step_that_was_renamed_is_noticed(path: Path) -> None:
    await make_store(path)
    with pytest.raises(HostError, match="0001_other differs"):
        open_with(path, Migration(1, "0001_other", SHIPPED[0].sql), *SHIPPED[1:])


def test_a_database_of_something_else_is_left_alone(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(HostError, match="not a store of Volant's"):
        open_database(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"this is no database, whatever its name says" * 100)
    with pytest.raises(Unavailable, match="damaged"):
        open_database(path)


def test_a_directory_that_is_not_there_is_named(path: Path) -> None:
    missing = path.parent / "missing" / "volant.db"
    with pytest.raises(Unavailable, match=f"{missing} cannot be opened: No such file or directory"):
        open_database(missing)


def test_a_store_made_anew_is_another_incarnation(path: Path) -> None:
    with contextlib.closing(open_database(path)) as first:
        pass
    path.unlink()
    with contextlib.closing(open_database(path)) as second:
        assert first.incarnation != second.incarnation
