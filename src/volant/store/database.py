"""SQLite as the store uses it: how its files are opened and what its errors mean."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw
import msgspec

from volant.core.errors import DiskFull, HostError, Unavailable, VolantError

APPLICATION_ID = 0x566F6C74
"""Marks the file as Volant's (PRAGMA application_id): "Volt" in ASCII."""

BUSY_TIMEOUT_MS = 5000
"""How long a write waits for another process, such as a backup or a shell, that holds the database."""

READER_BUSY_TIMEOUT_MS = 100
"""Readers run on the event loop and, in WAL mode, meet a lock only while another process recovers the log."""

WAL_KEPT_BYTES = 16 * 1024 * 1024

STORAGE_ERRORS = (
    apsw.BusyError, apsw.CantOpenError, apsw.CorruptError, apsw.FullError, apsw.IOError, apsw.InterruptError, apsw.LockedError,
    apsw.NoMemError, apsw.NotADBError, apsw.PermissionsError, apsw.ProtocolError, apsw.ReadOnlyError,
)  # fmt: skip
"""What goes wrong with the disk or the file, not with one statement. SQLite may have rolled back by itself."""


def create_file(path: Path) -> None:
    """Make sure that ``path`` is a file that only its owner can read. SQLite gives its -wal and -shm files the same mode.

    Raises:
        Unavailable: it cannot be made or opened.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
        sync_directory(path.parent)
    except OSError as error:
        raise Unavailable(
            f"the store {path} cannot be opened: {error.strerror}", hint="see that its directory exists and is writable"
        ) from error


def sync_directory(directory: Path) -> None:
    """Make names just given in ``directory`` last through a power failure."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def connect_writer(path: Path, vfs: str | None = None) -> apsw.Connection:
    """The connection that writes: WAL, and every commit on the disk before it returns.

    Raises:
        HostError: the file is a database of something else; it is left as it was.
        Unavailable: the file system cannot share memory between processes, which WAL needs.
        apsw.Error: it cannot be opened.
    """
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    try:
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        _check_ownership(connection, path)
        mode = connection.pragma("journal_mode", "wal")
        if mode != "wal":
            raise Unavailable(f"the store {path} cannot keep a write-ahead log here", hint="put it on a local disk")
        connection.pragma("synchronous", "full")
        connection.pragma("trusted_schema", False)
        connection.pragma("journal_size_limit", WAL_KEPT_BYTES)
    except (apsw.Error, VolantError):
        connection.close(True)
        raise
    return connection


def _check_ownership(connection: apsw.Connection, path: Path) -> None:
    empty = not fetch(connection, "SELECT 1 FROM sqlite_schema LIMIT 1")
    if not empty and connection.pragma("application_id") != APPLICATION_ID:
        raise HostError(f"{path} is a database, but not a store of Volant's", hint="name another file for the store")


def connect_reader(path: Path, vfs: str | None = None) -> apsw.Connection:
    """A connection that only reads. Each statement outside of BEGIN sees everything committed before it."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs)
    connection.set_busy_timeout(READER_BUSY_TIMEOUT_MS)
    connection.pragma("trusted_schema", False)
    return connection


def fetch(connection: apsw.Connection, sql: str, bindings: Sequence[str | float] = ()) -> list[tuple[Any, ...]]:
    """All rows, with nothing left open on the connection."""
    return connection.execute(sql, bindings).fetchall()


@contextlib.contextmanager
def snapshot(connection: apsw.Connection) -> Iterator[None]:
    """Let all statements inside see the database at one moment."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("COMMIT")


def explain(error: apsw.Error | msgspec.DecodeError, doing: str) -> VolantError:
    """The error of the contract for what SQLite says, or for a record that is no longer JSON; ``error`` is its cause."""
    told: VolantError
    if isinstance(error, apsw.FullError):
        told = DiskFull(f"{doing}: the disk is full", hint="free some space; nothing of this was kept")
    elif isinstance(error, apsw.BusyError | apsw.LockedError):
        told = Unavailable(f"{doing}: another process holds the database", hint="end whatever has the store open beside volantd")
    elif isinstance(error, apsw.CorruptError | apsw.NotADBError | msgspec.DecodeError):
        told = Unavailable(f"{doing}: the database is damaged: {error}", hint="restore it from a backup")
    else:
        told = Unavailable(f"{doing}: {error}", hint="see the host's disk and the kernel's log")
    told.__cause__ = error
    return told


@contextlib.contextmanager
def explained(doing: str) -> Iterator[None]:
    """Raise errors of SQLite and of damaged records as the contract's."""
    try:
        yield
    except (apsw.Error, msgspec.DecodeError) as error:
        raise explain(error, doing) from error
