"""A store whose every write needs a lease: what the leader's controllers write through."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager

from volant.core.errors import Unavailable
from volant.store.contract import Batch, Key, Lease, Listing, Operation, RequireLease, Store, Stored


class FencedStore:
    """``held`` is the holder's own opinion, which ends before the lease can; the keeper's is asked with each write as well, in
    the same transaction. So nothing that a leader began is written once another one may lead."""

    def __init__(self, store: Store, name: str, holder: str, held: Callable[[], bool]) -> None:
        self._store = store
        self._guard = RequireLease(name, holder)
        self._held = held

    @property
    def incarnation(self) -> str:
        return self._store.incarnation

    async def get(self, key: Key) -> Stored | None:
        return await self._store.get(key)

    async def list(self, kind: str, project: str | None = None, labels: dict[str, str] | None = None) -> Listing:
        return await self._store.list(kind, project, labels)

    async def transact(self, operations: Sequence[Operation]) -> int:
        """As Store.transact. Raises Unavailable when the lease is not held, StaleRevision when the keeper says so."""
        if not self._held():
            raise Unavailable(f"this node does not hold the lease {self._guard.name} any more")
        return await self._store.transact([self._guard, *operations])

    def watch(
        self, since: int, kinds: Sequence[str] | None = None, *, progress: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[Batch]]:
        return self._store.watch(since, kinds, progress=progress)

    async def grant_lease(self, name: str, holder: str, ttl_s: float) -> Lease:
        return await self._store.grant_lease(name, holder, ttl_s)

    async def release_lease(self, name: str, holder: str) -> None:
        await self._store.release_lease(name, holder)

    async def compact(self) -> int:
        return await self._store.compact()

    async def close(self) -> None:
        await self._store.close()
