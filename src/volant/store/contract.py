"""The Store contract: what every keeper promises. Arguments and answers are plain data.

- Every transaction gets the next revision of one global counter. Its events share that revision and arrive together.
- A transaction holds at most MAX_OPERATIONS operations, one RequireLease not counted, writes at most MAX_BYTES of JSON, and
  names a key at most once.
- ``list`` returns the revision to watch from; ``watch`` replays from any retained revision and then follows.
- What was acknowledged is durable. Nothing of a transaction that raised is kept.

Claims are ordinary records of kind ``claim`` whose name is the claimed thing, made with ``Create`` in the transaction
that makes their owner: no allocator keeps state, so none can leak.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol

import msgspec

MAX_OPERATIONS = 100
MAX_BYTES = 1024 * 1024
RETAINED_REVISIONS = 100_000
RETAINED_S = 3600.0
LONGEST_LEASE_S = 300.0


class Key(msgspec.Struct, frozen=True, order=True):
    """``project`` is ``""`` for what belongs to no project."""

    kind: str
    project: str
    name: str

    def __str__(self) -> str:
        return "/".join(part for part in (self.kind, self.project, self.name) if part)


class Stored(msgspec.Struct, frozen=True):
    """One record as kept. ``data`` is a JSON object; keepers look only at ``meta.labels`` and ``meta.deleting_at`` in it."""

    key: Key
    revision: int
    data: dict[str, Any]


class Listing(msgspec.Struct, frozen=True):
    """Records in key order, and the revision at which this was all there was."""

    items: tuple[Stored, ...]
    revision: int


# Operations. Each may carry its own precondition; Guards stand alone.


class Create(msgspec.Struct, frozen=True, tag=True):
    """Fails with AlreadyExists when the key is there."""

    key: Key
    data: dict[str, Any]


class Update(msgspec.Struct, frozen=True, tag=True):
    """Fails with NotFound when the key is absent, with StaleRevision when ``revision`` is given and is not the record's."""

    key: Key
    data: dict[str, Any]
    revision: int | None = None


class Delete(msgspec.Struct, frozen=True, tag=True):
    """Fails as Update does. Its event carries the last object."""

    key: Key
    revision: int | None = None


class RequireAbsent(msgspec.Struct, frozen=True, tag=True):
    """Fails with AlreadyExists when the key is there."""

    key: Key


class RequireRevision(msgspec.Struct, frozen=True, tag=True):
    """Fails with NotFound or StaleRevision unless the record is at ``revision``."""

    key: Key
    revision: int


class RequireLive(msgspec.Struct, frozen=True, tag=True):
    """Fails with NotFound when the key is absent, with WrongState when its ``meta.deleting_at`` is set."""

    key: Key


class RequireLease(msgspec.Struct, frozen=True, tag=True):
    """Fails with StaleRevision unless ``holder`` holds the lease ``name`` now."""

    name: str
    holder: str


Operation = Create | Update | Delete | RequireAbsent | RequireRevision | RequireLive | RequireLease


class Change(msgspec.Struct, frozen=True):
    """One record's part in a transaction. ``data`` is the new object, or the last one when deleted."""

    type: Literal["put", "delete"]
    key: Key
    data: dict[str, Any]
    created: bool = False
    """True for the put that made the record."""


class Batch(msgspec.Struct, frozen=True):
    """All changes of one transaction that a watcher asked for, under their common revision."""

    revision: int
    changes: tuple[Change, ...]


class Lease(msgspec.Struct, frozen=True):
    """``expires_at`` is seconds since the epoch by the keeper's clock."""

    name: str
    holder: str
    expires_at: float


class Store(Protocol):
    """A keeper. Every method may raise Unavailable when the keeper cannot be reached or its disk does not write."""

    @property
    def incarnation(self) -> str:
        """An id that changes when the revision counter starts anew; wire revisions carry it."""
        ...

    async def get(self, key: Key) -> Stored | None: ...

    async def list(self, kind: str, project: str | None = None, labels: dict[str, str] | None = None) -> Listing:
        """Every record of ``kind``, narrowed to one project and to those whose ``meta.labels`` hold all of ``labels``."""
        ...

    async def transact(self, operations: Sequence[Operation]) -> int:
        """Do all or nothing; return the transaction's revision.

        Guards and operations are checked in the order given, all against what was before the transaction, and the first
        that fails decides the error. A transaction of guards alone changes nothing and returns the current revision.

        A caller that is cancelled while it waits does not know: the transaction is done whole or not at all.

        Raises:
            AlreadyExists, NotFound, StaleRevision, WrongState: as the operation that failed says.
            InvalidInput: too many operations, a key named twice by writing operations, or no operation; data that is no JSON
                object; ``meta.labels`` that do not map text to text.
            TooLarge: more than MAX_BYTES.
            DiskFull, Unavailable: the keeper could not write; nothing was kept.
        """
        ...

    def watch(
        self, since: int, kinds: Sequence[str] | None = None, *, progress: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[Batch]]:
        """Batches after revision ``since``, in order, without gaps, for ever; only changes of ``kinds`` when given.

        Entering the context subscribes; nothing committed after that is missed. A slow watcher costs others nothing: it
        reads from the change log at its own pace. With ``progress`` a batch without changes says that nothing of
        ``kinds`` happened up to its revision.

        Raises (from entering or iterating):
            Compacted: ``since`` lies before what is retained, or has not been yet; list again.
            Unavailable: the store was closed; a waiting iteration ends with it too.
        """
        ...

    async def grant_lease(self, name: str, holder: str, ttl_s: float) -> Lease:
        """Take or renew the lease ``name`` for ``ttl_s`` seconds from now.

        Raises:
            Conflict: somebody else holds it. Nobody holds one that would last longer than LONGEST_LEASE_S: it was granted before
                the keeper's clock was put back, and whoever held it has it no more once another takes it.
            InvalidInput: ``ttl_s`` is not above 0, or above LONGEST_LEASE_S.
        """
        ...

    async def release_lease(self, name: str, holder: str) -> None:
        """Give the lease back; not holding it is no error."""
        ...

    async def compact(self) -> int:
        """Drop change-log entries older than RETAINED_S or beyond RETAINED_REVISIONS.

        Returns the oldest revision kept (one past the newest when none is): a watch can begin after the one before it.
        """
        ...

    async def close(self) -> None:
        """Finish what was accepted, end every watch, let go. Everything called afterwards raises Unavailable."""
        ...
