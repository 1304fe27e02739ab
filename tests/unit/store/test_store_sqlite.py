"""What only this keeper promises: its limits of retention, and what it reads where."""

from __future__ import annotations

import contextlib
from pathlib import Path

import apsw
import pytest

from volant.core.clock import HostClock
from volant.core.errors import Compacted, Unavailable
from volant.store import listing, sqlite
from volant.store.changelog import read_bounds
from volant.store.contract import Create, Key, Listing, Stored, Update
from volant.store.listing import Wanted
from volant.store.prepared import prepare
from volant.store.sqlite import SqliteStore, open_database, open_store
from volant.store.transaction import Group, compact_some, transact


def vm(name: object) -> Key:
    return Key("vm", "default", str(name))


async def test_only_so_many_revisions_are_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "COMPACTED_AT_ONCE", 7)
    async with open_store(path, HostClock(), retained_revisions=10) as store:
        assert await store.compact() == 1
        for number in range(50):
            await store.transact([Create(vm(number), {}), Create(vm(f"{number}b"), {})])
        assert await store.compact() == 41
        with pytest.raises(Compacted):
            async with store.watch(39):
                pass
        async with store.watch(40) as batches:
            assert [(await anext(batches)).revision for _ in range(10)] == list(range(41, 51))
    connection = apsw.Connection(str(path))
    assert connection.execute("SELECT count(*) FROM changes").fetchall() == [(20,)]
    connection.close()


async def test_compaction_goes_a_little_at_a_time(path: Path) -> None:
    async with open_store(path, HostClock()) as store:
        for number in range(20):
            await store.transact([Create(vm(number), {})])
    connection = apsw.Connection(str(path))
    group = Group(connection)
    steps = [compact_some(group, before=0.0, keep=5, at_most=7) for _ in range(4)]
    connection.close()
    assert steps == [(8, False), (15, False), (16, True), (16, True)]


def test_a_listing_is_of_one_moment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another connection commits between the listing's revision and its records is not in it."""
    with contextlib.closing(open_database(path)) as opened:

        def write(name: str) -> None:
            group = Group(opened.writer)
            transact(group, prepare([Create(vm(name), {})]), 0.0)
            group.finish()

        def read_bounds_then_write(connection: apsw.Connection) -> tuple[int, int]:
            bounds = read_bounds(connection)
            write("b")
            return bounds

        assert listing.read_listing(opened.reader, Wanted("vm", None, {})) == Listing((), 0)
        write("a")
        monkeypatch.setattr(listing, "read_bounds", read_bounds_then_write)
        assert listing.read_listing(opened.reader, Wanted("vm", None, {})) == Listing((Stored(vm("a"), 1, {}),), 1)
        monkeypatch.undo()
        assert len(listing.read_listing(opened.reader, Wanted("vm", None, {})).items) == 2
        assert listing.read_listing(opened.reader, Wanted("plugin", None, {})) == Listing((), 2)


async def test_reads_leave_no_snapshot_behind(store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that stopped half way would keep the log from being folded into the database."""
    monkeypatch.setattr(sqlite, "SHORT_ROWS", 3)
    await store.transact([Create(vm(number), {"value": "x" * 9000}) for number in range(50)])
    await store.list("vm")
    await store.get(vm(1))
    async with store.watch(0) as batches:
        await anext(batches)
        for value in range(5):
            await store.transact([Update(vm(1), {"value": value})])
        other = apsw.Connection(str(path))
        _, frames, folded = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0]
        assert (frames, folded) == (0, 0)
        other.close()


async def test_a_damaged_record_is_unavailable(store: SqliteStore, path: Path) -> None:
    await store.transact([Create(vm("a"), {}), Create(vm("b"), {})])
    other = apsw.Connection(str(path))
    other.execute("""UPDATE records SET data = '{"half' WHERE name = 'a'""")
    other.execute("""UPDATE changes SET data = '{"half' WHERE name = 'a'""")
    other.close()
    with pytest.raises(Unavailable, match="damaged"):
        await store.get(vm("a"))
    with pytest.raises(Unavailable, match="damaged"):
        await store.list("vm")
    with pytest.raises(Unavailable, match="damaged"):
        async with store.watch(0) as batches:
            await anext(batches)
    assert await store.get(vm("b")) is not None


@pytest.mark.parametrize(
    ("wanted", "plan"),
    [
        (Wanted("vm", None, {}), ["SEARCH r USING INDEX sqlite_autoindex_records_1 (kind=?)"]),
        (Wanted("vm", "p", {}), ["SEARCH r USING INDEX sqlite_autoindex_records_1 (kind=? AND project=?)"]),
        (
            Wanted("vm", "p", {"a": "1"}),
            [
                "SEARCH l USING PRIMARY KEY (kind=? AND label=? AND value=? AND project=?)",
                "SEARCH r USING INDEX sqlite_autoindex_records_1 (kind=? AND project=? AND name=?)",
            ],
        ),
    ],
)
async def test_a_listing_reads_only_what_it_lists_and_sorts_nothing(
    store: SqliteStore, path: Path, wanted: Wanted, plan: list[str]
) -> None:
    sql, bindings = wanted.query()
    other = apsw.Connection(str(path))
    assert [row[3] for row in other.execute("EXPLAIN QUERY PLAN " + sql, bindings)] == plan
    other.close()


async def test_a_second_label_is_looked_up_by_key(store: SqliteStore, path: Path) -> None:
    sql, bindings = Wanted("vm", None, {"a": "1", "b": "2"}).query()
    other = apsw.Connection(str(path))
    plan = [row[3] for row in other.execute("EXPLAIN QUERY PLAN " + sql, bindings)]
    other.close()
    assert any(
        step.startswith("SEARCH m ") and step.endswith("(kind=? AND label=? AND value=? AND project=? AND name=?)")
        for step in plan
    )
    assert not any("SCAN" in step or "TEMP B-TREE" in step for step in plan)
