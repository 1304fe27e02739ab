"""Reading records: by key, and by kind, project and labels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import cast

import apsw
import msgspec

from volant.store.changelog import read_bounds
from volant.store.contract import Key, Listing, Stored
from volant.store.database import fetch, snapshot
from volant.store.prepared import decode_data

_COLUMNS = "SELECT r.kind, r.project, r.name, r.revision, r.data"
# CROSS JOIN keeps SQLite from beginning with the records: the first label bounds what a listing costs.
_LABELLED = (
    " FROM labels l CROSS JOIN records r ON r.kind = l.kind AND r.project = l.project AND r.name = l.name"
    " WHERE l.kind = ? AND l.label = ? AND l.value = ?"
)
_LABELLED_TOO = (
    " AND EXISTS (SELECT 1 FROM labels m WHERE m.kind = l.kind AND m.label = ? AND m.value = ?"
    " AND m.project = l.project AND m.name = l.name)"
)


class Wanted(msgspec.Struct, frozen=True):
    """What a listing is narrowed to."""

    kind: str
    project: str | None
    labels: dict[str, str]

    def query(self) -> tuple[str, list[str]]:
        """SQL with its bindings; every part of it is a constant, and an index gives the order."""
        if not self.labels:
            sql, bindings, table = _COLUMNS + " FROM records r WHERE r.kind = ?", [self.kind], "r"
        else:
            first, *others = self.labels.items()
            sql, bindings, table = _COLUMNS + _LABELLED + _LABELLED_TOO * len(others), [self.kind, *first], "l"
            for other in others:
                bindings += other
        if self.project is not None:
            sql += f" AND {table}.project = ?"
            bindings.append(self.project)
        return sql + f" ORDER BY {table}.project, {table}.name", bindings


def read_record(connection: apsw.Connection, key: Key) -> Stored | None:
    sql = "SELECT revision, data FROM records WHERE kind = ? AND project = ? AND name = ?"
    rows = fetch(connection, sql, (key.kind, key.project, key.name))
    return Stored(key, rows[0][0], decode_data(rows[0][1])) if rows else None


def read_listing(
    connection: apsw.Connection, wanted: Wanted, *, rows_max: int | None = None, bytes_max: int | None = None
) -> Listing | None:
    """Everything wanted at one moment; None when it is more than ``rows_max`` records or ``bytes_max`` of JSON."""
    if not wanted.labels and (nowhere := _find_nothing(connection, wanted.kind)) is not None:
        return Listing((), nowhere)
    sql, bindings = wanted.query()
    items: list[Stored] = []
    size = 0
    with snapshot(connection):
        _, revision = read_bounds(connection)
        with contextlib.closing(connection.execute(sql, bindings)) as rows:
            for kind, project, name, at, text in cast("Iterable[tuple[str, str, str, int, str]]", rows):
                size += len(text)
                if (rows_max is not None and len(items) >= rows_max) or (bytes_max is not None and size > bytes_max):
                    return None
                items.append(Stored(Key(kind, project, name), at, decode_data(text)))
    return Listing(tuple(items), revision)


def _find_nothing(connection: apsw.Connection, kind: str) -> int | None:
    """The newest revision when there is no record of ``kind``: who asks whether anything of it is there asks often."""
    sql = "SELECT revision, EXISTS (SELECT 1 FROM records WHERE kind = ?) FROM state"
    revision, is_there = fetch(connection, sql, (kind,))[0]
    return None if is_there else int(revision)
