"""Store.list: kinds, projects, labels, order, and the revision to watch from."""

from __future__ import annotations

import asyncio

import pytest

from volant.core.errors import InvalidInput
from volant.store.contract import Create, Delete, Key, Store, Update

from .store_steps import create, data_of, take, vm


async def names(store: Store, project: str | None = None, labels: dict[str, str] | None = None) -> list[str]:
    return [item.key.name for item in (await store.list("vm", project, labels)).items]


async def test_an_empty_store_lists_nothing_at_its_first_revision(store: Store) -> None:
    listing = await store.list("vm")
    assert listing.items == ()
    assert await create(store, vm("a")) == listing.revision + 1


async def test_a_list_is_of_one_kind_in_key_order(store: Store) -> None:
    await create(store, vm("b", "p2"), vm("a", "p2"), vm("z", "p1"), Key("image", "p1", "i"), Key("vm", "", "global"))
    assert [item.key for item in (await store.list("vm")).items] == [
        Key("vm", "", "global"),
        vm("z", "p1"),
        vm("a", "p2"),
        vm("b", "p2"),
    ]


async def test_a_list_is_narrowed_to_one_project(store: Store) -> None:
    await create(store, vm("a", "p1"), vm("b", "p2"), vm("c", ""))
    assert await names(store, "p2") == ["b"]
    assert await names(store, "") == ["c"]
    assert await names(store, "p") == []


async def test_a_list_is_narrowed_to_records_that_hold_all_labels(store: Store) -> None:
    labels = {"a": {"app": "web", "tier": "1"}, "b": {"app": "web"}, "c": {"app": "db", "tier": "1"}, "d": {}}
    for project in ("p1", "p2"):
        await store.transact([Create(vm(name, project), data_of(labels=held)) for name, held in labels.items()])
    await store.transact([Create(Key("image", "p1", "i"), data_of(labels={"app": "web"})), Create(vm("e", "p1"), {})])
    assert await names(store, "p1", {"app": "web"}) == ["a", "b"]
    assert await names(store, "p1", {"app": "web", "tier": "1"}) == ["a"]
    assert await names(store, "p1", {"tier": "1", "app": "web"}) == ["a"]
    assert await names(store, None, {"tier": "1"}) == ["a", "c", "a", "c"]
    assert await names(store, "p1", {"app": "webb"}) == []
    assert await names(store, "p1", {"App": "web"}) == []
    assert await names(store, "p1", {}) == ["a", "b", "c", "d", "e"]


async def test_labels_follow_updates_and_deletions(store: Store) -> None:
    await store.transact(
        [Create(vm("a"), data_of(labels={"app": "web", "old": "1"})), Create(vm("b"), data_of(labels={"app": "web"}))]
    )
    await store.transact([Update(vm("a"), data_of(labels={"app": "db", "new": ""})), Delete(vm("b"))])
    assert await names(store, None, {"app": "web"}) == []
    assert await names(store, None, {"old": "1"}) == []
    assert await names(store, None, {"app": "db", "new": ""}) == ["a"]
    await store.transact([Update(vm("a"), {})])
    assert await names(store, None, {"app": "db"}) == []


async def test_odd_labels_are_matched_whole(store: Store) -> None:
    odd = {"a.b/c": "é", 'q"': "'", "": "", "$.x": "🦊"}
    await store.transact([Create(vm("a"), data_of(labels=odd)), Create(vm("b"), data_of(labels={"a": "é"}))])
    for label, value in odd.items():
        assert await names(store, None, {label: value}) == ["a"]
    assert await names(store, None, odd) == ["a"]


async def test_half_a_surrogate_pair_is_refused(store: Store) -> None:
    with pytest.raises(InvalidInput):
        await store.list("vm", None, {"a": "\ud800"})
    with pytest.raises(InvalidInput):
        await store.get(vm("\ud800"))


async def test_a_long_list_is_whole_and_at_one_revision(store: Store) -> None:
    for part in range(10):
        await store.transact([Create(vm(f"{part}-{number:02}"), data_of(0, {"long": "yes"})) for number in range(100)])

    async def rewrite(value: int) -> None:
        data = data_of(value, {"long": "yes"})
        await store.transact([Update(vm("0-00"), data), Update(vm("9-99"), data)])

    async def rewrite_often() -> None:
        for value in range(2, 100):
            await rewrite(value)

    await rewrite(1)
    writing = asyncio.create_task(rewrite_often())
    while not writing.done():
        for labels in (None, {"long": "yes"}):
            listing = await store.list("vm", None, labels)
            assert len(listing.items) == 1000
            assert listing.items[0].data == listing.items[-1].data
            assert listing.items[0].revision == listing.items[-1].revision <= listing.revision
    await writing


async def test_a_watch_from_a_list_continues_it(store: Store) -> None:
    await create(store, vm("before"))
    listing = await store.list("vm")
    revision = await create(store, vm("after"))
    async with store.watch(listing.revision) as batches:
        (batch,) = await take(batches, 1)
    assert (batch.revision, [change.key.name for change in batch.changes]) == (revision, ["after"])
