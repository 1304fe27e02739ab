"""A store that keeps account of who decides which field, whatever intent writes through it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import Any

import msgspec

from volant.core.document_schema import KINDS
from volant.core.ownership import EDITOR, describe_fields, note_edit
from volant.core.resource import from_stored
from volant.store.contract import Batch, Create, Key, Lease, Listing, Operation, Store, Stored, Update


class _Decided(msgspec.Struct, frozen=True):
    key: Key
    managers: Mapping[str, tuple[str, ...]]


_DECIDED: ContextVar[_Decided | None] = ContextVar("volant_decided", default=None)
_EDITOR: ContextVar[str] = ContextVar("volant_editor", default=EDITOR)
"""Of the request that this task works for. Every request is a task of its own."""


@contextlib.contextmanager
def deciding(key: Key, managers: Mapping[str, tuple[str, ...]]) -> Iterator[None]:
    """What is written of ``key`` inside has ``managers``."""
    token = _DECIDED.set(_Decided(key, managers))
    try:
        yield
    finally:
        _DECIDED.reset(token)


def begin_editing(editor: str) -> None:
    """What is changed by hand until the task ends is ``editor``'s."""
    _EDITOR.set(editor)


class OwningStore:
    """In the transaction that writes a resource, its ``managers`` become what they are then. The rest of the contract passes
    through. For what people ask; what controllers write is nobody's decision, and goes to the store itself."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def incarnation(self) -> str:
        return self._store.incarnation

    async def get(self, key: Key) -> Stored | None:
        return await self._store.get(key)

    async def list(self, kind: str, project: str | None = None, labels: dict[str, str] | None = None) -> Listing:
        return await self._store.list(kind, project, labels)

    async def transact(self, operations: Sequence[Operation]) -> int:
        return await self._store.transact([await self._account(operation) for operation in operations])

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

    async def _account(self, operation: Operation) -> Operation:
        if not isinstance(operation, Create | Update) or operation.key.kind not in KINDS:
            return operation
        decided = _DECIDED.get()
        if decided is not None and decided.key == operation.key:
            return _with_managers(operation, decided.managers)
        if isinstance(operation, Create):
            return operation
        before = await self._store.get(operation.key)
        if before is None or before.revision != operation.revision or _is_same(before.data, operation.data):
            return operation
        cls = KINDS[operation.key.kind]
        old, new = from_stored(cls, before.data, 0), from_stored(cls, operation.data, 0)
        managers = note_edit(cls.kind, describe_fields(old), describe_fields(new), new.meta.managers, _EDITOR.get())
        return operation if managers == new.meta.managers else _with_managers(operation, managers)


def _is_same(before: dict[str, Any], after: dict[str, Any]) -> bool:
    return bool(before["spec"] == after["spec"] and before["meta"].get("labels") == after["meta"].get("labels"))


def _with_managers(operation: Create | Update, managers: Mapping[str, tuple[str, ...]]) -> Create | Update:
    meta = {**operation.data["meta"], "managers": {name: list(paths) for name, paths in managers.items()}}
    return msgspec.structs.replace(operation, data={**operation.data, "meta": meta})
