"""The database's schema: numbered steps, each applied whole or not at all, and a copy taken before each."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import apsw
import msgspec

from volant.core.errors import HostError
from volant.store.database import APPLICATION_ID, fetch, sync_directory

_FILE = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")

_HISTORY = """
CREATE TABLE IF NOT EXISTS migrations (
  number INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  digest TEXT NOT NULL,
  applied_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ'))
) STRICT
"""


class Migration(msgspec.Struct, frozen=True):
    """One step. ``sql`` may hold many statements, none of which begins or ends a transaction."""

    number: int
    name: str
    sql: str

    @property
    def digest(self) -> str:
        return "sha256:" + hashlib.sha256(self.sql.encode()).hexdigest()


def load_migrations() -> tuple[Migration, ...]:
    """The steps shipped with this version, in order from 1 without gaps."""
    found = []
    for entry in resources.files("volant.store").joinpath("migrations").iterdir():
        if match := _FILE.fullmatch(entry.name):
            found.append(Migration(int(match[1]), entry.name.removesuffix(".sql"), entry.read_text("utf-8")))
    found.sort(key=lambda migration: migration.number)
    assert [migration.number for migration in found] == list(range(1, len(found) + 1)), "a migration is missing"
    return tuple(found)


def migrate(connection: apsw.Connection, path: Path, migrations: Sequence[Migration]) -> None:
    """Bring the database at ``path`` to the newest schema.

    Before a step changes a database that holds something, a copy is left beside it as ``<path>.before-<number>``.

    Raises:
        HostError: it was written by a newer version, or by steps that differ from ours.
        apsw.Error: a step failed; the database is as before that step.
    """
    applied = _check_history(connection, path, migrations)
    for migration in migrations[applied:]:
        if migration.number > 1:
            take_backup(connection, path, migration.number)
        _apply(connection, migration)


def schema_version(connection: apsw.Connection) -> int:
    """The number of the last step applied; 0 for an empty database."""
    version = connection.pragma("user_version")
    assert isinstance(version, int)
    return version


def _check_history(connection: apsw.Connection, path: Path, migrations: Sequence[Migration]) -> int:
    version = schema_version(connection)
    if version > len(migrations):
        raise HostError(
            f"the store {path} was written by a newer Volant: its schema is {version}, this version knows {len(migrations)}",
            hint=f"run the newer version, or go back to the copy {path.name}.before-{len(migrations) + 1:04} with what it holds",
        )
    if version == 0:
        return 0
    history = fetch(connection, "SELECT number, name, digest FROM migrations ORDER BY number")
    expected = [(migration.number, migration.name, migration.digest) for migration in migrations[:version]]
    if history != expected:
        differing = next((ours for ours, theirs in zip(expected, history, strict=False) if ours != theirs), None)
        step = differing[1] if differing else f"{len(history)} steps instead of {version}"
        raise HostError(
            f"the store {path} was not made by this version's migrations: {step} differs",
            hint="a released migration never changes; restore the package's files or run the version that wrote the store",
        )
    return version


def take_backup(connection: apsw.Connection, path: Path, number: int) -> Path:
    """Copy the database as it is now to ``<path>.before-<number>``, readable by its owner alone.

    Raises:
        HostError: the copy cannot be made, so the step must not begin.
        apsw.Error: likewise, as SQLite says it.
    """
    backup = path.with_name(f"{path.name}.before-{number:04}")
    partial = backup.with_name(backup.name + ".partial")
    try:
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _copy(connection, partial)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        partial.rename(backup)
        sync_directory(backup.parent)
    except OSError as error:
        raise HostError(
            f"no copy of the store could be left at {backup}: {error.strerror}",
            hint="its schema is only changed with a copy beside it",
        ) from error
    return backup


def _copy(connection: apsw.Connection, path: Path) -> None:
    target = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        with target.backup("main", connection, "main") as copy:
            copy.step(-1)
        # The copy is one file: it must not wait for a log that nobody keeps.
        target.pragma("journal_mode", "delete")
    finally:
        target.close()


def _apply(connection: apsw.Connection, migration: Migration) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if schema_version(connection) == migration.number - 1:
            connection.execute(migration.sql)
            connection.execute(_HISTORY)
            connection.execute(
                "INSERT INTO migrations (number, name, digest) VALUES (?, ?, ?)",
                (migration.number, migration.name, migration.digest),
            )
            connection.pragma("application_id", APPLICATION_ID)
            connection.pragma("user_version", migration.number)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
