"""Store.watch and Store.compact: replay, order, no gaps, at everybody's own pace."""

from __future__ import annotations

import asyncio
import random

import pytest

from volant.core.errors import Compacted, Unavailable, VolantError
from volant.store.contract import RETAINED_S, Batch, Change, Create, Delete, Key, Operation, RequireAbsent, Store, Update

from .store_keepers import Keeper
from .store_steps import PATIENCE_S, create, data_of, outcome, take, take_until, vm

A, B = vm("a"), vm("b")


async def test_a_watch_replays_then_follows(store: Store) -> None:
    first = await create(store, A)
    async with store.watch(0) as batches:
        assert await take(batches, 1) == [Batch(first, (Change("put", A, data_of(), created=True),))]
        waiting = asyncio.create_task(take(batches, 1))
        second = await store.transact([Update(A, data_of(2))])
        assert await waiting == [Batch(second, (Change("put", A, data_of(2)),))]


async def test_a_deletion_carries_the_last_object(store: Store) -> None:
    since = await store.transact([Create(A, data_of("first"))])
    await store.transact([Update(A, data_of("last"))])
    revision = await store.transact([Delete(A)])
    async with store.watch(since + 1) as batches:
        assert await take(batches, 1) == [Batch(revision, (Change("delete", A, data_of("last")),))]


async def test_what_was_made_again_was_created(store: Store) -> None:
    await create(store, A)
    await store.transact([Delete(A)])
    await create(store, A)
    await store.transact([Update(A, {})])
    async with store.watch(0) as batches:
        taken = await take(batches, 4)
    assert [(change.type, change.created) for batch in taken for change in batch.changes] == [
        ("put", True), ("delete", False), ("put", True), ("put", False),
    ]  # fmt: skip


async def test_changes_of_a_transaction_arrive_together_in_the_order_given(store: Store) -> None:
    await create(store, A)
    operations: list[Operation] = [
        Create(B, data_of()),
        RequireAbsent(vm("x")),
        Delete(A),
        Create(Key("image", "", "i"), data_of()),
    ]
    revision = await store.transact(operations)
    async with store.watch(revision - 1) as batches:
        (batch,) = await take(batches, 1)
    assert batch.revision == revision
    assert [change.key for change in batch.changes] == [B, A, Key("image", "", "i")]


async def test_a_watch_is_narrowed_to_kinds(store: Store) -> None:
    image = Key("image", "", "i")
    first = await create(store, A, image)
    await create(store, B)
    async with store.watch(0, ["image"]) as batches:
        assert await take(batches, 1) == [Batch(first, (Change("put", image, data_of(), created=True),))]
        waiting = asyncio.create_task(take(batches, 1))
        await create(store, vm("c"))
        last = await store.transact([Delete(vm("c")), Update(image, data_of(2))])
        assert await waiting == [Batch(last, (Change("put", image, data_of(2)),))]


async def test_what_one_did_not_ask_for_hides_nothing_unread(store: Store) -> None:
    async with store.watch(0, ["image"]) as batches:
        first = await create(store, Key("image", "", "i"))
        await create(store, A)
        assert [batch.revision for batch in await take(batches, 1)] == [first]


async def test_progress_tells_how_far_nothing_happened(store: Store) -> None:
    first = await create(store, A)
    async with store.watch(0, ["image"], progress=True) as batches:
        assert await take(batches, 1) == [Batch(first, ())]
        waiting = asyncio.create_task(take(batches, 1))
        second = await create(store, B)
        assert await waiting == [Batch(second, ())]
        third = await create(store, Key("image", "", "i"))
        (batch,) = await take(batches, 1)
        assert (batch.revision, len(batch.changes)) == (third, 1)


async def test_neither_guards_nor_failures_nor_leases_are_events(store: Store) -> None:
    first = await create(store, A)
    async with store.watch(first) as batches:
        await store.transact([RequireAbsent(B)])
        await outcome(create(store, A))
        await store.grant_lease("leader", "me", 10)
        second = await create(store, B)
        assert [batch.revision for batch in await take(batches, 1)] == [second]


async def test_nothing_committed_after_entering_is_missed(store: Store) -> None:
    since = (await store.list("vm")).revision
    async with store.watch(since, ["vm"]) as batches:
        # Far more than a page, before the watcher looks for the first time.
        revisions = await asyncio.gather(*(create(store, vm(f"n{number}")) for number in range(600)))
        assert [batch.revision for batch in await take_until(batches, max(revisions))] == sorted(revisions)


async def test_large_batches_stay_whole(store: Store) -> None:
    text = "x" * 9000
    for part in range(8):
        await store.transact([Create(vm(f"{part}-{number}"), data_of(text)) for number in range(100)])
    async with store.watch(0) as batches:
        assert [len(batch.changes) for batch in await take(batches, 8)] == [100] * 8


async def test_a_watcher_that_reads_nothing_stops_nobody(store: Store) -> None:
    async with store.watch(0) as slow, store.watch(0) as quick:
        for number in range(50):
            revision = await create(store, vm(f"n{number}"))
            assert [batch.revision for batch in await take(quick, 1)] == [revision]
        assert len(await take_until(slow, revision)) == 50


async def test_a_cancelled_wait_ends_the_watch_alone(store: Store) -> None:
    async def follow() -> None:
        async with store.watch(0) as batches:
            async for _ in batches:
                started.set()

    started = asyncio.Event()
    await create(store, A)
    watching = asyncio.create_task(follow())
    async with asyncio.timeout(PATIENCE_S):
        await started.wait()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert watching.cancelled()
    revision = await create(store, B)
    async with store.watch(revision - 1) as batches:
        assert [batch.revision for batch in await take(batches, 1)] == [revision]


async def test_what_has_not_been_cannot_be_watched_from(store: Store) -> None:
    revision = await create(store, A)
    for since in (revision + 1, -1):
        with pytest.raises(Compacted):
            async with store.watch(since):
                pass


async def test_compaction_drops_what_is_too_old(keeper: Keeper, store: Store) -> None:
    old = await create(store, A)
    await store.transact([Delete(A)])
    keeper.clock.turn(RETAINED_S - 10)
    new = await create(store, B)
    assert await store.compact() <= old
    keeper.clock.turn(20)
    assert await store.compact() == new
    with pytest.raises(Compacted):
        async with store.watch(new - 2) as batches:
            await take(batches, 1)
    async with store.watch(new - 1) as batches:
        assert [batch.revision for batch in await take(batches, 1)] == [new]
    assert [item.key for item in (await store.list("vm")).items] == [B]


async def test_compaction_of_everything_leaves_the_present(keeper: Keeper, store: Store) -> None:
    for number in range(600):
        last = await create(store, vm(f"n{number}"))
    keeper.clock.turn(2 * RETAINED_S)
    assert await store.compact() == last + 1
    assert await store.compact() == last + 1
    assert len((await store.list("vm")).items) == 600
    async with store.watch(last) as batches:
        revision = await create(store, A)
        assert revision == last + 1
        assert [batch.revision for batch in await take(batches, 1)] == [revision]


async def test_a_watcher_that_fell_behind_learns_of_it(keeper: Keeper, store: Store) -> None:
    first = await create(store, A)
    async with store.watch(0) as behind, store.watch(0, ["image"]) as quiet:
        assert len(await take(behind, 1)) == 1
        waiting = asyncio.create_task(take(quiet, 1))
        await asyncio.sleep(0)
        await create(store, B)
        keeper.clock.turn(2 * RETAINED_S)
        await store.compact()
        with pytest.raises(Compacted):
            await take(behind, 1)
        # Nothing that this one asked for was dropped, and it had read that far.
        revision = await create(store, Key("image", "", "i"))
        assert [batch.revision for batch in await waiting] == [revision]
    assert revision == first + 2


async def test_closing_ends_waiting_watchers(keeper: Keeper) -> None:
    async with keeper.open() as store:
        revision = await create(store, A)
        async with store.watch(revision) as batches:
            waiting = asyncio.create_task(take(batches, 1))
            await asyncio.sleep(0)
            await store.close()
            with pytest.raises(Unavailable):
                await waiting


@pytest.mark.parametrize("seed", range(6))
async def test_watchers_see_everything_once_and_in_order(store: Store, seed: int) -> None:
    """Writers write at random; watchers come at random, from random revisions, for random kinds."""
    chance = random.Random(seed)
    kinds = ["vm", "image", "claim"]
    keys = [Key(kind, "p", str(number)) for kind in kinds for number in range(4)]
    revisions: list[int] = []

    def random_operation(key: Key, value: str) -> Operation:
        return chance.choice([Create(key, {"value": value}), Update(key, {"value": value}), Delete(key)])

    async def write(writer: int) -> None:
        for turn in range(40):
            chosen = chance.sample(keys, chance.randint(1, 4))
            result = await outcome(store.transact([random_operation(key, f"{writer}.{turn}") for key in chosen]))
            if isinstance(result, int):
                revisions.append(result)
            else:
                assert issubclass(result, VolantError)

    async def follow(since: int, wanted: list[str] | None) -> tuple[int, list[str] | None, list[Batch]]:
        async with store.watch(since, wanted, progress=chance.random() < 0.5) as batches:
            taken: list[Batch] = []
            while not any(change.key.name == "last" for batch in taken[-1:] for change in batch.changes):
                taken += await take(batches, 1)
                for _ in range(chance.randint(0, 3)):
                    await asyncio.sleep(0)
            return since, wanted, [batch for batch in taken if batch.changes]

    followers = []
    async with asyncio.TaskGroup() as group:
        writers = [group.create_task(write(writer)) for writer in range(8)]
        for _ in range(10):
            since = chance.choice([0, max(revisions, default=0)])
            followers.append(group.create_task(follow(since, chance.choice([None, ["vm"], ["vm", "claim"]]))))
            for _ in range(chance.randint(0, 20)):
                await asyncio.sleep(0)
        await asyncio.gather(*writers)
        revisions.append(await store.transact([Create(Key(kind, "p", "last"), {}) for kind in kinds]))

    assert sorted(revisions) == list(range(1, len(revisions) + 1))
    async with store.watch(0) as batches:
        log = await take_until(batches, len(revisions))
    assert [batch.revision for batch in log] == sorted(revisions)
    state: dict[Key, tuple[int, object]] = {}
    for batch in log:
        for change in batch.changes:
            if change.type == "delete":
                assert change.data == state.pop(change.key)[1]
            else:
                assert change.created == (change.key not in state)
                state[change.key] = (batch.revision, change.data)
    present = [item for kind in kinds for item in (await store.list(kind)).items]
    assert state == {item.key: (item.revision, item.data) for item in present}
    for follower in followers:
        since, wanted, taken = follower.result()
        assert taken == narrow(log, since, wanted)


def narrow(log: list[Batch], since: int, kinds: list[str] | None) -> list[Batch]:
    found = []
    for batch in log:
        changes = tuple(change for change in batch.changes if kinds is None or change.key.kind in kinds)
        if batch.revision > since and changes:
            found.append(Batch(batch.revision, changes))
    return found
