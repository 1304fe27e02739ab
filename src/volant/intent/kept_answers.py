"""Requests that are done once, however often they are sent: what an Idempotency-Key stands for, and what was answered.

The first transaction of such a request also makes a record of its key. So the key is known to have had its effect exactly when
the effect is there, whenever volantd is killed. The answer is written to the record afterwards; until it is, and for ever when
volantd was killed in between, the record says which resources were written, and the answer is made anew from them.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import zlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any

import msgspec
import structlog

from volant.core.clock import Clock
from volant.core.errors import InProgress, KeyReused, VolantError
from volant.core.moment import format_time, parse_time
from volant.store.contract import MAX_OPERATIONS, Batch, Create, Delete, Key, Lease, Listing, Operation, Store, Stored, Update

KIND = "IdempotencyKey"
KEPT_S = 24 * 3600.0
KEPT_MAX = 10_000
"""The oldest go first."""

ANSWER_MAX_BYTES = 64 * 1024
"""Of an answer, compressed. A longer one is not kept: only that it was done."""

AT_ONCE = 32
"""Records that are dropped along with one that is written."""

log = structlog.get_logger("volant.intent")


class KeptAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What was answered; ``headers`` by lower-case name."""

    status: int
    headers: dict[str, str]
    content: bytes


class Touched(msgspec.Struct, frozen=True, kw_only=True):
    """A resource that the request wrote; ``created``: it made it."""

    kind: str
    project: str
    name: str
    created: bool


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    fingerprint: str
    at: str
    touched: tuple[Touched, ...] = ()
    status: int = 0
    """0 while the answer is not known."""
    headers: dict[str, str] = {}
    content: str = ""
    """Compressed (RFC 1950), in base64."""


class Attempt:
    """One request under a key. ``has_effect`` once a transaction of it was done; ``earlier``: a request before it had one."""

    def __init__(self, key: Key, fingerprint: str, at: datetime, earlier: tuple[Touched, ...] | None = None) -> None:
        self.key = key
        self.fingerprint = fingerprint
        self.at = format_time(at)
        self.earlier = earlier
        self.has_effect = earlier is not None
        self.touched: tuple[Touched, ...] = earlier or ()

    def record(self, answer: KeptAnswer | None = None) -> dict[str, Any]:
        record = _Record(fingerprint=self.fingerprint, at=self.at, touched=self.touched)
        if answer is not None:
            content = base64.b64encode(zlib.compress(answer.content, 1)).decode()
            if len(content) <= ANSWER_MAX_BYTES:
                record = msgspec.structs.replace(record, status=answer.status, headers=answer.headers, content=content)
        return {"spec": msgspec.to_builtins(record)}


_ATTEMPT: ContextVar[Attempt | None] = ContextVar("volant_attempt", default=None)
"""Of the request that this task works for. Every request is a task of its own."""


@contextlib.contextmanager
def attempting(attempt: Attempt) -> Iterator[None]:
    """Transactions inside belong to ``attempt``."""
    token = _ATTEMPT.set(attempt)
    try:
        yield
    finally:
        _ATTEMPT.reset(token)


def begin_attempt(attempt: Attempt) -> None:
    """As ``attempting``, until the task ends."""
    _ATTEMPT.set(attempt)


class MarkingStore:
    """A store whose first transaction for an Attempt records its key with it. The rest of the contract passes through."""

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
        attempt = _ATTEMPT.get()
        writes = [each for each in operations if isinstance(each, Create | Update | Delete)]
        if attempt is None or attempt.has_effect or not writes or len(operations) >= MAX_OPERATIONS:
            return await self._store.transact(operations)
        attempt.touched = tuple(
            Touched(kind=each.key.kind, project=each.key.project, name=each.key.name, created=isinstance(each, Create))
            for each in writes
        )
        revision = await self._store.transact([*operations, Create(attempt.key, attempt.record())])
        attempt.has_effect = True
        return revision

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


class KeptAnswers:
    """Of one volantd, on the store itself, not on the MarkingStore of its intents."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: OrderedDict[Key, str] | None = None
        """Every key in the store by age, and when it was made."""
        self._begun: dict[Key, Attempt] = {}
        self._answered: dict[Key, tuple[Attempt, KeptAnswer]] = {}
        """Not written down yet."""
        self._writing: set[asyncio.Task[None]] = set()
        self._loading = asyncio.Lock()

    async def begin(self, caller: str, key: str, request: bytes) -> Attempt | KeptAnswer:
        """The answer that ``caller`` got under ``key`` before, or an Attempt, which must be finished.

        ``request`` stands for all that the request asks for. An Attempt whose ``earlier`` is not None must have no effect: it
        had it before, and only an answer is wanted.

        Raises:
            InProgress: the first one is not answered yet. KeyReused: the key was given for another request.
        """
        await self._load()
        name = Key(KIND, "", hashlib.sha256(f"{caller}\0{key}".encode()).hexdigest())
        fingerprint = hashlib.sha256(request).hexdigest()
        begun = self._begun.get(name)
        if begun is not None:
            _check_same(begun.fingerprint, fingerprint)
            raise InProgress("the first request with this Idempotency-Key is not answered yet", hint="ask again in a second")
        if name in self._answered:
            attempt, answer = self._answered[name]
            _check_same(attempt.fingerprint, fingerprint)
            return answer
        attempt = self._begun[name] = Attempt(name, fingerprint, self._clock.now())
        try:
            found = await self._find(name)
            if found is None:
                return attempt
            _check_same(found.fingerprint, fingerprint)
            if found.status:
                del self._begun[name]
                content = zlib.decompress(base64.b64decode(found.content))
                return KeptAnswer(status=found.status, headers=found.headers, content=content)
            attempt = self._begun[name] = Attempt(name, fingerprint, parse_time(found.at), found.touched)
        except BaseException:
            self._begun.pop(name, None)
            raise
        return attempt

    def finish(self, attempt: Attempt, answer: KeptAnswer | None) -> None:
        """It is over. With ``answer``, or when it had an effect, the key is kept."""
        self._begun.pop(attempt.key, None)
        if answer is None and not attempt.has_effect:
            return
        assert self._known is not None
        self._known[attempt.key] = attempt.at
        if answer is None:
            return
        self._answered[attempt.key] = (attempt, answer)
        task = asyncio.create_task(self._write(attempt, answer), name="kept answer")
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def settle(self) -> None:
        """Returns once every answer is written down."""
        while self._writing:
            await asyncio.wait(self._writing)

    async def _write(self, attempt: Attempt, answer: KeptAnswer) -> None:
        record = attempt.record(answer)
        write: Operation = Update(attempt.key, record) if attempt.has_effect else Create(attempt.key, record)
        dropped = self._choose_old()
        try:
            await self._store.transact([write, *(Delete(key) for key in dropped)])
        except VolantError as error:
            # The next request under the key is answered from what it wrote, or, having written nothing, done anew.
            log.warning("an answer could not be kept", error=str(error))
        finally:
            self._answered.pop(attempt.key, None)

    def _choose_old(self) -> list[Key]:
        """Forget some keys that are too old or too many."""
        assert self._known is not None
        limit = format_time(self._clock.now() - timedelta(seconds=KEPT_S))
        dropped: list[Key] = []
        for key, at in self._known.items():
            if len(dropped) == AT_ONCE or (at > limit and len(self._known) - len(dropped) <= KEPT_MAX):
                break
            if key not in self._answered and key not in self._begun:
                dropped.append(key)
        for key in dropped:
            del self._known[key]
        return dropped

    async def _find(self, key: Key) -> _Record | None:
        stored = await self._store.get(key)
        if stored is None:
            return None
        record = msgspec.convert(stored.data["spec"], _Record)
        if parse_time(record.at) < self._clock.now() - timedelta(seconds=KEPT_S):
            # Old, and not swept yet. Away with it, so that the key can be made again.
            assert self._known is not None
            self._known.pop(key, None)
            await self._store.transact([Delete(key)])
            return None
        return record

    async def _load(self) -> None:
        if self._known is not None:
            return
        async with self._loading:
            if self._known is None:
                found = [(item.data["spec"]["at"], item.key) for item in (await self._store.list(KIND, "")).items]
                self._known = OrderedDict((key, at) for at, key in sorted(found))


def _check_same(known: str, asked: str) -> None:
    if known != asked:
        raise KeyReused(
            "this Idempotency-Key was given for another request", field="Idempotency-Key", hint="a new request takes a new key"
        )
