"""Opening, closing and opening again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from volant.core.errors import Unavailable
from volant.store.contract import Create, Delete, Key, Store, Stored, Update

from .store_keepers import Keeper
from .store_steps import PATIENCE_S, create, data_of, take, vm

A = vm("a")


async def test_a_store_opened_again_is_as_it_was(keeper: Keeper) -> None:
    async with keeper.open() as store:
        incarnation = store.incarnation
        await store.transact([Create(A, data_of(labels={"app": "web"})), Create(vm("b"), data_of())])
        revision = await store.transact([Update(A, data_of(2, {"app": "web"})), Delete(vm("b"))])
    async with keeper.open() as store:
        assert store.incarnation == incarnation
        listing = await store.list("vm", None, {"app": "web"})
        assert (listing.items, listing.revision) == ((Stored(A, revision, data_of(2, {"app": "web"})),), revision)
        async with store.watch(0) as batches:
            assert [batch.revision for batch in await take(batches, 2)] == [revision - 1, revision]
        assert await create(store, Key("image", "", "i")) == revision + 1


async def test_what_was_accepted_is_finished_before_closing(keeper: Keeper) -> None:
    async with keeper.open() as store:
        writes = [asyncio.create_task(create(store, vm(f"n{number}"))) for number in range(100)]
        await asyncio.sleep(0)
        await store.close()
        revisions = await asyncio.gather(*writes)
    async with keeper.open() as store:
        listing = await store.list("vm")
    assert sorted(item.revision for item in listing.items) == sorted(revisions)
    assert len(listing.items) == 100


async def enter_watch(store: Store) -> None:
    async with store.watch(0):
        pass


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.get(A),
        lambda store: store.list("vm"),
        lambda store: store.transact([Create(A, {})]),
        lambda store: store.grant_lease("leader", "me", 10),
        lambda store: store.release_lease("leader", "me"),
        lambda store: store.compact(),
        enter_watch,
    ],
    ids=["get", "list", "transact", "grant_lease", "release_lease", "compact", "watch"],
)
async def test_a_closed_store_is_unavailable(keeper: Keeper, call: Callable[[Store], Awaitable[object]]) -> None:
    async with keeper.open() as store:
        await store.close()
        with pytest.raises(Unavailable):
            await call(store)


async def test_closing_twice_is_closing(keeper: Keeper) -> None:
    async with keeper.open() as store, asyncio.timeout(PATIENCE_S):
        await asyncio.gather(store.close(), store.close())
        await store.close()


async def test_a_cancelled_writer_leaves_all_or_nothing(keeper: Keeper) -> None:
    async with keeper.open() as store:
        for number in range(50):
            write = asyncio.create_task(create(store, vm(f"a{number}"), vm(f"b{number}")))
            for _ in range(number % 4):
                await asyncio.sleep(0)
            write.cancel()
            await asyncio.gather(write, return_exceptions=True)
        await create(store, vm("last"))
    async with keeper.open() as store:
        names = {item.key.name for item in (await store.list("vm")).items}
    for number in range(50):
        assert (f"a{number}" in names) == (f"b{number}" in names)
    assert "last" in names
