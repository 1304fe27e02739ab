"""What one piece of work does in the writer's thread: a transaction, a lease, a step of compaction."""

from __future__ import annotations

import apsw
import msgspec

from volant.core.errors import AlreadyExists, Conflict, NotFound, StaleRevision, WrongState
from volant.store.contract import (
    LONGEST_LEASE_S,
    Create,
    Delete,
    Key,
    Lease,
    Operation,
    RequireAbsent,
    RequireLease,
    RequireLive,
    RequireRevision,
    Update,
)
from volant.store.database import fetch
from volant.store.prepared import Prepared, Written, see

CHANGES_PER_REVISION = 128
"""A change's row id is its revision times this plus its place; more than MAX_OPERATIONS, and a power of two."""


class Group:
    """What is committed together. ``revision`` grows with each transaction that writes."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self.base: int = fetch(connection, "SELECT revision FROM state")[0][0]
        self.revision: int = self.base
        self.kinds: set[str] = set()
        """The kinds that were written, and perhaps some that were not."""

    def finish(self) -> None:
        if self.revision != self.base:
            self.connection.execute("UPDATE state SET revision = ?", (self.revision,))


class _Row(msgspec.Struct, frozen=True):
    revision: int
    text: str


def transact(group: Group, prepared: Prepared, now: float) -> int:
    """Judge every operation against what was before the transaction, then write; return the revision.

    ``now`` is seconds since the epoch. Raises what Store.transact does for the operation that failed.
    """
    before = [_check(group.connection, operation, now) for operation in prepared.operations]
    writes = [
        (operation, row, written)
        for operation, row, written in zip(prepared.operations, before, prepared.written, strict=True)
        if isinstance(operation, Create | Update | Delete)
    ]
    if not writes:
        return group.revision
    revision = group.revision + 1
    for place, (operation, row, written) in enumerate(writes):
        key = operation.key
        event, text = _write_record(group.connection, key, revision, row, written)
        _write_labels(group.connection, key, see(row.text).meta.labels if row else {}, written.labels if written else {})
        group.connection.execute(
            "INSERT INTO changes (id, committed_at, event, kind, project, name, data) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (revision * CHANGES_PER_REVISION + place, now, event, key.kind, key.project, key.name, text),
        )
        group.kinds.add(key.kind)
    group.revision = revision
    return revision


def _write_record(
    connection: apsw.Connection, key: Key, revision: int, row: _Row | None, written: Written | None
) -> tuple[str, str]:
    """Make, change or drop the record; return what the change log calls that, and the data it keeps of it."""
    names = (key.kind, key.project, key.name)
    if written is None:
        assert row is not None
        connection.execute("DELETE FROM records WHERE kind = ? AND project = ? AND name = ?", names)
        return "deleted", row.text
    if row is None:
        sql = "INSERT INTO records (revision, data, kind, project, name) VALUES (?, ?, ?, ?, ?)"
    else:
        sql = "UPDATE records SET revision = ?, data = ? WHERE kind = ? AND project = ? AND name = ?"
    connection.execute(sql, (revision, written.text, *names))
    return "created" if row is None else "updated", written.text


def _check(connection: apsw.Connection, operation: Operation, now: float) -> _Row | None:
    """The record that ``operation`` names, when its precondition holds."""
    if isinstance(operation, RequireLease):
        _check_lease(connection, operation, now)
        return None
    key = operation.key
    row = _read(connection, key)
    if isinstance(operation, Create | RequireAbsent):
        if row is not None:
            raise AlreadyExists(f"{key} exists already")
        return None
    if row is None:
        raise NotFound(f"there is no {key}")
    if isinstance(operation, RequireLive):
        if see(row.text).meta.deleting_at is not None:
            raise WrongState(f"{key} is being deleted")
    else:
        assert isinstance(operation, Update | Delete | RequireRevision)
        if operation.revision is not None and operation.revision != row.revision:
            raise StaleRevision(
                f"{key} is at revision {row.revision}, not {operation.revision}", hint="read it again, then change what you read"
            )
    return row


def _check_lease(connection: apsw.Connection, operation: RequireLease, now: float) -> None:
    held = fetch(connection, "SELECT holder, expires_at FROM leases WHERE name = ?", (operation.name,))
    if not held or held[0][0] != operation.holder or held[0][1] <= now:
        raise StaleRevision(f"{operation.holder} does not hold the lease {operation.name} any more")


def _read(connection: apsw.Connection, key: Key) -> _Row | None:
    sql = "SELECT revision, data FROM records WHERE kind = ? AND project = ? AND name = ?"
    rows = fetch(connection, sql, (key.kind, key.project, key.name))
    return _Row(*rows[0]) if rows else None


def _write_labels(connection: apsw.Connection, key: Key, before: dict[str, str], after: dict[str, str]) -> None:
    if before == after:
        return
    for label, value in before.items():
        connection.execute(
            "DELETE FROM labels WHERE kind = ? AND label = ? AND value = ? AND project = ? AND name = ?",
            (key.kind, label, value, key.project, key.name),
        )
    for label, value in after.items():
        connection.execute(
            "INSERT INTO labels (kind, label, value, project, name) VALUES (?, ?, ?, ?, ?)",
            (key.kind, label, value, key.project, key.name),
        )


def grant_lease(group: Group, name: str, holder: str, ttl_s: float, now: float) -> Lease:
    """Raises Conflict when somebody else holds ``name`` at ``now``."""
    held = fetch(group.connection, "SELECT holder, expires_at FROM leases WHERE name = ?", (name,))
    if held and held[0][0] != holder and now < held[0][1] <= now + LONGEST_LEASE_S:
        raise Conflict(f"{held[0][0]} holds the lease {name}", hint=f"it ends in {held[0][1] - now:.0f} s unless it is renewed")
    lease = Lease(name, holder, now + ttl_s)
    group.connection.execute(
        "INSERT INTO leases (name, holder, expires_at) VALUES (?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at",
        (name, holder, lease.expires_at),
    )
    return lease


def release_lease(group: Group, name: str, holder: str) -> None:
    group.connection.execute("DELETE FROM leases WHERE name = ? AND holder = ?", (name, holder))


def compact_some(group: Group, before: float, keep: int, at_most: int) -> tuple[int, bool]:
    """Drop the oldest changes, of ``at_most`` revisions: those committed before ``before`` or not among the newest ``keep``.

    Returns the oldest revision whose changes are kept, and whether nothing is left to drop.
    """
    execute = group.connection.execute
    compacted: int = fetch(group.connection, "SELECT compacted FROM state")[0][0]
    until = min(group.revision, compacted + at_most)
    beyond = max(compacted, min(until, group.revision - keep))
    recent = fetch(
        group.connection,
        "SELECT id FROM changes WHERE id >= ? AND id < ? AND committed_at >= ? ORDER BY id LIMIT 1",
        ((beyond + 1) * CHANGES_PER_REVISION, (until + 1) * CHANGES_PER_REVISION, before),
    )
    if recent:
        until = recent[0][0] // CHANGES_PER_REVISION - 1
    if until > compacted:
        execute("DELETE FROM changes WHERE id < ?", ((until + 1) * CHANGES_PER_REVISION,))
        execute("UPDATE state SET compacted = ?", (until,))
    return until + 1, until < compacted + at_most
