"""The cache: what it holds, what its subscribers hear, and how it finds its way back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from volant.core.errors import Compacted, Unavailable, VolantError
from volant.store.cache import BACKOFF_FIRST_S, BACKOFF_MAX_S, Cache
from volant.store.contract import Batch, Change, Create, Delete, Key, Listing, Store, Stored, Update
from volant.store.sqlite import SqliteStore


def vm(name: str, project: str = "p") -> Key:
    return Key("vm", project, name)


def image(name: str) -> Key:
    return Key("image", "", name)


class Flaky:
    """The store, whose watch can be broken off and whose list can be out of reach."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._broken: asyncio.Queue[VolantError] = asyncio.Queue()
        self.refuse_lists = 0
        self.lists = 0

    def break_off(self, error: VolantError) -> None:
        self._broken.put_nowait(error)

    async def list(self, kind: str) -> Listing:
        self.lists += 1
        if self.refuse_lists:
            self.refuse_lists -= 1
            raise Unavailable("out of reach")
        return await self._store.list(kind)

    @asynccontextmanager
    async def watch(self, since: int, kinds: Sequence[str], *, progress: bool) -> AsyncIterator[AsyncIterator[Batch]]:
        async with self._store.watch(since, kinds, progress=progress) as batches:
            yield self._follow(batches)

    async def _follow(self, batches: AsyncIterator[Batch]) -> AsyncIterator[Batch]:
        broken = asyncio.ensure_future(self._broken.get())
        following = asyncio.ensure_future(anext(batches))
        try:
            while True:
                await asyncio.wait({broken, following}, return_when=asyncio.FIRST_COMPLETED)
                if broken.done():
                    raise broken.result()
                yield following.result()
                following = asyncio.ensure_future(anext(batches))
        finally:
            for future in (broken, following):
                future.cancel()
                with suppress(asyncio.CancelledError, VolantError):
                    await future


class Gate:
    """A clock whose sleepers wait until they are let go."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.asleep = asyncio.Event()
        self.go = asyncio.Event()

    def now(self) -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.asleep.set()
        await self.go.wait()


@asynccontextmanager
async def running(cache: Cache) -> AsyncIterator[None]:
    task = asyncio.create_task(cache.run())
    try:
        async with asyncio.timeout(30):
            await cache.wait_synced()
            yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def named(records: Iterable[Stored]) -> list[str]:
    return [stored.key.name for stored in records]


def owners(stored: Stored) -> Iterable[str]:
    return [stored.data["owner"]] if "owner" in stored.data else []


Heard = list[tuple[str, str, bool, Any, Any]]


def listen(cache: Cache) -> Heard:
    """What a subscriber hears: type, name, created, value, value before."""
    heard: Heard = []

    def hear(change: Change, old: Stored | None) -> None:
        heard.append(
            (change.type, change.key.name, change.created, change.data.get("v"), None if old is None else old.data.get("v"))
        )

    cache.subscribe(hear)
    return heard


async def test_a_cache_holds_what_the_store_holds(store: SqliteStore) -> None:
    await store.transact(
        [Create(vm("b"), {"v": 1}), Create(vm("a", "q"), {}), Create(image("i"), {}), Create(Key("other", "", "x"), {})]
    )
    cache = Cache(store, ["vm", "image"])
    async with running(cache):
        assert cache.get(vm("b")) == await store.get(vm("b"))
        assert cache.get(vm("c")) is None
        assert named(cache.list("vm")) == ["b", "a"]
        assert named(cache.list("vm", "q")) == ["a"]
        assert cache.list("vm", "none") == []
        assert named(cache.list("image")) == ["i"]


async def test_a_cache_follows_and_tells_when_it_has_seen_a_write(store: SqliteStore) -> None:
    cache = Cache(store, ["vm"])
    async with running(cache):
        await cache.wait_revision(await store.transact([Create(vm("a"), {"v": 1})]))
        assert cache.get(vm("a")) == await store.get(vm("a"))
        await cache.wait_revision(await store.transact([Update(vm("a"), {"v": 2})]))
        assert cache.get(vm("a")) == await store.get(vm("a"))
        await cache.wait_revision(await store.transact([Delete(vm("a"))]))
        assert cache.get(vm("a")) is None
        # Not one of its kinds: it sees that revision all the same.
        last = await store.transact([Create(image("i"), {})])
        await cache.wait_revision(last)
        assert cache.revision == last


async def test_what_was_written_before_the_first_list_can_be_waited_for(store: SqliteStore) -> None:
    revision = await store.transact([Create(image("i"), {})])
    cache = Cache(store, ["vm"])
    waiting = asyncio.create_task(cache.wait_revision(revision))
    await asyncio.sleep(0)
    async with running(cache):
        await waiting
        assert cache.revision == revision


async def test_a_subscriber_hears_everything_in_order(store: SqliteStore) -> None:
    await store.transact([Create(vm("a"), {"v": 1})])
    cache = Cache(store, ["vm"])
    heard = listen(cache)
    async with running(cache):
        await store.transact([Update(vm("a"), {"v": 2}), Create(vm("b"), {"v": 1})])
        await store.transact([Delete(vm("a"))])
        await cache.wait_revision(await store.transact([Create(vm("a"), {"v": 3})]))
    assert heard == [
        ("put", "a", True, 1, None),
        ("put", "a", False, 2, 1),
        ("put", "b", True, 1, None),
        ("delete", "a", False, 2, 2),
        ("put", "a", True, 3, None),
    ]


async def test_a_subscriber_sees_a_transaction_whole(store: SqliteStore) -> None:
    cache = Cache(store, ["vm"])
    seen: list[list[str]] = []
    cache.subscribe(lambda change, old: seen.append(named(cache.list("vm"))))
    async with running(cache):
        await cache.wait_revision(await store.transact([Create(vm("a"), {}), Create(vm("b"), {})]))
    assert seen == [["a", "b"], ["a", "b"]]


async def test_a_subscription_can_be_ended(store: SqliteStore) -> None:
    cache = Cache(store, ["vm"])
    heard: list[Change] = []
    end = cache.subscribe(lambda change, old: heard.append(change))
    async with running(cache):
        await cache.wait_revision(await store.transact([Create(vm("a"), {})]))
        end()
        await cache.wait_revision(await store.transact([Create(vm("b"), {})]))
    assert [change.key for change in heard] == [vm("a")]


async def test_an_index_finds_records_by_what_they_say(store: SqliteStore) -> None:
    await store.transact([Create(vm("a"), {"owner": "x"})])
    cache = Cache(store, ["vm", "image"])
    cache.add_index("by-owner", owners)
    async with running(cache):
        await store.transact([Create(image("i"), {"owner": "x"}), Create(vm("b"), {"owner": "y"}), Create(vm("c"), {})])
        await cache.wait_revision(await store.transact([Update(vm("b"), {"owner": "x"})]))
        assert named(cache.by_index("by-owner", "x")) == ["i", "a", "b"]
        assert cache.by_index("by-owner", "y") == []
        await cache.wait_revision(await store.transact([Delete(vm("a")), Update(image("i"), {})]))
        assert named(cache.by_index("by-owner", "x")) == ["b"]
        cache.add_index("late", owners)
        assert cache.by_index("late", "x") == cache.by_index("by-owner", "x")


async def test_listing_again_finds_what_the_watch_could_not_tell(store: SqliteStore) -> None:
    await store.transact([Create(vm(name), {"v": 1, "owner": "x"}) for name in ("changed", "deleted", "same")])
    flaky, clock = Flaky(store), Gate()
    cache = Cache(flaky, ["vm", "image"], clock)  # type: ignore[arg-type]  # the part of a store that a cache uses
    cache.add_index("by-owner", owners)
    heard = listen(cache)
    async with running(cache):
        heard.clear()
        flaky.break_off(Unavailable("gone"))
        await clock.asleep.wait()
        await store.transact([Update(vm("changed"), {"v": 2}), Delete(vm("deleted")), Create(vm("new"), {"v": 1, "owner": "x"})])
        last = await store.transact([Update(vm("changed"), {"v": 3}), Create(image("i"), {"v": 1})])
        # What is known stays readable meanwhile.
        assert named(cache.list("vm")) == ["changed", "deleted", "same"]
        clock.go.set()
        await cache.wait_revision(last)
        assert heard == [
            ("delete", "deleted", False, 1, 1),
            ("put", "changed", False, 3, 1),
            ("put", "new", True, 1, None),
            ("put", "i", True, 1, None),
        ]
        assert named(cache.by_index("by-owner", "x")) == ["new", "same"]
        assert cache.list("vm") == [*(await store.list("vm")).items]


async def test_a_compacted_watch_is_followed_by_a_list_at_once(store: SqliteStore) -> None:
    flaky, clock = Flaky(store), Gate()
    cache = Cache(flaky, ["vm"], clock)  # type: ignore[arg-type]  # the part of a store that a cache uses
    async with running(cache):
        flaky.break_off(Compacted("too far back"))
        await cache.wait_revision(await store.transact([Create(vm("a"), {})]))
        await cache.wait_revision(await store.transact([Create(vm("b"), {})]))
        assert named(cache.list("vm")) == ["a", "b"]
        assert flaky.lists == 2
    assert clock.slept == []


async def test_an_unavailable_store_is_asked_less_and_less(store: SqliteStore) -> None:
    flaky, clock = Flaky(store), Gate()
    clock.go.set()
    flaky.refuse_lists = 10
    async with running(Cache(flaky, ["vm"], clock)):  # type: ignore[arg-type]  # the part of a store that a cache uses
        pass
    assert clock.slept == [min(BACKOFF_FIRST_S * 2**turn, BACKOFF_MAX_S) for turn in range(10)]


async def test_changes_that_a_later_list_has_seen_do_not_come_twice(store: SqliteStore) -> None:
    class Racing(Flaky):
        """Between the lists of two kinds, both change."""

        async def list(self, kind: str) -> Listing:
            if kind == "image":
                await store.transact([Create(vm("a"), {"v": 1}), Create(image("i"), {"v": 1})])
                await store.transact([Update(image("i"), {"v": 2})])
            return await super().list(kind)

    cache = Cache(Racing(store), ["vm", "image"])  # type: ignore[arg-type]  # the part of a store that a cache uses
    heard = listen(cache)
    async with running(cache):
        await cache.wait_revision(2)
        assert heard == [("put", "i", True, 2, None), ("put", "a", True, 1, None)]


async def test_what_a_subscriber_raises_ends_the_cache(store: SqliteStore) -> None:
    def fail(change: Change, old: Stored | None) -> None:
        raise ZeroDivisionError

    await store.transact([Create(vm("a"), {})])
    cache = Cache(store, ["vm"])
    cache.subscribe(fail)
    with pytest.raises(ZeroDivisionError):
        await cache.run()


async def test_an_index_and_a_subscriber_of_some_kinds_see_nothing_else(store: SqliteStore) -> None:
    await store.transact([Create(vm("a"), {"owner": "x"}), Create(image("i"), {"owner": "x"})])
    cache = Cache(store, ["vm", "image"])
    cache.add_index("vms-by-owner", owners, kinds=("vm",))
    heard: list[str] = []
    end = cache.subscribe(lambda change, old: heard.append(change.key.name), kinds=("vm", "nothing that is kept"))
    async with running(cache):
        await cache.wait_revision(await store.transact([Create(image("j"), {"owner": "x"}), Create(vm("b"), {"owner": "y"})]))
        assert named(cache.by_index("vms-by-owner", "x")) == ["a"]
        assert cache.counts("vms-by-owner") == {"x": 1, "y": 1}
        assert heard == ["a", "b"]
        end()
        await cache.wait_revision(await store.transact([Delete(vm("b")), Delete(image("j"))]))
        assert heard == ["a", "b"]
        assert cache.counts("vms-by-owner") == {"x": 1}
