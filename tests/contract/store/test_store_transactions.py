"""Store.transact and Store.get: all or nothing, one revision each, errors in the order given."""

from __future__ import annotations

import asyncio

import pytest

from volant.core.errors import AlreadyExists, InvalidInput, NotFound, StaleRevision, TooLarge, VolantError, WrongState
from volant.store.contract import (
    MAX_BYTES,
    MAX_OPERATIONS,
    Create,
    Delete,
    Key,
    Operation,
    RequireAbsent,
    RequireLease,
    RequireLive,
    RequireRevision,
    Store,
    Stored,
    Update,
)

from .store_steps import create, data_of, outcome, vm

A, B, C = vm("a"), vm("b"), vm("c")


async def test_get_answers_with_what_was_created(store: Store) -> None:
    data = {"meta": {"labels": {"a": "b"}}, "spec": {"list": [1, 2.5, None, True, "é"], "deep": {"x": {}}}}
    revision = await store.transact([Create(A, data)])
    assert await store.get(A) == Stored(A, revision, data)


async def test_get_answers_none_for_what_is_not_there(store: Store) -> None:
    await create(store, A)
    assert await store.get(B) is None
    assert await store.get(vm("a", "other")) is None
    assert await store.get(Key("image", "default", "a")) is None


async def test_an_update_replaces_the_whole_object(store: Store) -> None:
    await store.transact([Create(A, {"old": 1, "both": 1})])
    revision = await store.transact([Update(A, {"both": 2})])
    assert await store.get(A) == Stored(A, revision, {"both": 2})


async def test_what_is_deleted_can_be_made_again(store: Store) -> None:
    await create(store, A)
    await store.transact([Delete(A)])
    assert await store.get(A) is None
    revision = await create(store, A, value=2)
    assert await store.get(A) == Stored(A, revision, data_of(2))


async def test_data_is_as_it_was_when_transact_was_called(store: Store) -> None:
    data = data_of(1)
    write = asyncio.create_task(store.transact([Create(A, data)]))
    await asyncio.sleep(0)
    data["spec"]["value"] = 2
    revision = await write
    assert await store.get(A) == Stored(A, revision, data_of(1))


async def test_revisions_count_transactions_of_all_kinds(store: Store) -> None:
    first = await create(store, A)
    second = await create(store, Key("image", "", "debian"), vm("b", "other"))
    third = await store.transact([Delete(A), Update(Key("image", "", "debian"), data_of(2))])
    assert (second, third) == (first + 1, first + 2)


async def test_records_of_one_transaction_share_its_revision(store: Store) -> None:
    revision = await create(store, A, B, C)
    assert [(await store.get(key)).revision for key in (A, B, C)] == [revision] * 3


async def test_a_failed_transaction_takes_no_revision(store: Store) -> None:
    first = await create(store, A)
    with pytest.raises(AlreadyExists):
        await create(store, A)
    assert await create(store, B) == first + 1


async def test_a_transaction_of_guards_alone_returns_the_current_revision(store: Store) -> None:
    revision = await create(store, A)
    assert await store.transact([RequireLive(A), RequireRevision(A, revision), RequireAbsent(B)]) == revision
    assert await create(store, B) == revision + 1


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        (Create(A, data_of()), AlreadyExists),
        (RequireAbsent(A), AlreadyExists),
        (Update(B, data_of()), NotFound),
        (Update(B, data_of(), 1), NotFound),
        (Delete(B), NotFound),
        (Delete(B, 1), NotFound),
        (RequireRevision(B, 1), NotFound),
        (RequireLive(B), NotFound),
        (Update(A, data_of(), 10**6), StaleRevision),
        (Delete(A, 10**6), StaleRevision),
        (RequireRevision(A, 10**6), StaleRevision),
        (RequireRevision(A, 2**80), StaleRevision),
        (RequireLive(C), WrongState),
        (RequireLease("leader", "me"), StaleRevision),
    ],
)
async def test_a_precondition_that_fails_keeps_everything_out(
    store: Store, operation: Operation, error: type[VolantError]
) -> None:
    await store.transact([Create(A, data_of()), Create(C, data_of(deleting_at="2030-01-01T00:00:00.000000Z"))])
    before = await store.list("vm")
    others = (
        [Create(vm("new"), data_of()), Update(C, data_of(7))] if operation != RequireLive(C) else [Create(vm("new"), data_of())]
    )
    for operations in ([*others, operation], [operation, *others]):
        with pytest.raises(error) as caught:
            await store.transact(operations)
        assert type(caught.value) is error
    assert await store.list("vm") == before


async def test_the_record_s_own_revision_is_no_stale_one(store: Store) -> None:
    first = await create(store, A)
    second = await store.transact([Update(A, data_of(2), first)])
    await create(store, B)
    assert await outcome(store.transact([Update(A, data_of(3), first)])) is StaleRevision
    assert await store.transact([Delete(A, second)]) == second + 2


async def test_the_first_failure_in_the_order_given_decides(store: Store) -> None:
    await create(store, A)
    failing: list[tuple[Operation, type[VolantError]]] = [
        (Create(A, data_of()), AlreadyExists),
        (RequireLive(B), NotFound),
        (RequireRevision(A, 10**6), StaleRevision),
    ]
    for operation, error in failing:
        others = [other for other, _ in failing if other is not operation]
        assert await outcome(store.transact([RequireAbsent(C), operation, *others])) is error


async def test_guards_are_judged_against_what_was_before(store: Store) -> None:
    revision = await create(store, A)
    await store.transact([Update(A, data_of(2)), RequireRevision(A, revision), Create(B, data_of()), RequireAbsent(B)])
    assert await outcome(store.transact([Create(C, data_of()), RequireLive(C)])) is NotFound


async def test_a_move_is_one_transaction(store: Store) -> None:
    revision = await create(store, A)
    moved = await store.transact([Delete(A, revision), Create(B, data_of())])
    listing = await store.list("vm")
    assert [(item.key, item.revision) for item in listing.items] == [(B, moved)]


async def test_of_many_who_create_one_name_exactly_one_wins(store: Store) -> None:
    claim = Key("claim", "", "ip 10.0.0.1")
    racers = [
        outcome(store.transact([Create(vm(f"vm{number}"), data_of()), Create(claim, {"owner": number})])) for number in range(60)
    ]
    outcomes = await asyncio.gather(*racers)
    winners = [number for number, result in enumerate(outcomes) if result is not AlreadyExists]
    assert len(winners) == 1
    assert [item.key for item in (await store.list("vm")).items] == [vm(f"vm{winners[0]}")]
    kept = await store.get(claim)
    assert kept is not None
    assert kept.data == {"owner": winners[0]}


async def test_compare_and_set_loses_no_increment(store: Store) -> None:
    await store.transact([Create(A, {"count": 0})])

    async def increment() -> None:
        while True:
            current = await store.get(A)
            assert current is not None
            try:
                await store.transact([Update(A, {"count": current.data["count"] + 1}, current.revision)])
            except StaleRevision:
                continue
            return

    await asyncio.gather(*(increment() for _ in range(20)))
    final = await store.get(A)
    assert final is not None
    assert final.data == {"count": 20}


async def test_neighbours_of_a_failing_transaction_are_done(store: Store) -> None:
    first = await create(store, A)
    names = [vm(f"n{number}") for number in range(10)]
    outcomes = await asyncio.gather(
        *(outcome(create(store, *([key, A] if index % 2 else [key]))) for index, key in enumerate(names))
    )
    assert outcomes[1::2] == [AlreadyExists] * 5
    assert sorted(outcomes[::2]) == [first + count for count in range(1, 6)]
    assert {item.key for item in (await store.list("vm")).items} == {A, *names[::2]}


async def test_every_acknowledged_write_is_read(store: Store) -> None:
    async def write_and_read(number: int) -> bool:
        revision = await create(store, vm(f"n{number}"))
        found = await store.get(vm(f"n{number}"))
        listing = await store.list("vm")
        return found is not None and found.revision == revision and listing.revision >= revision and found in listing.items

    assert await asyncio.gather(*(write_and_read(number) for number in range(50))) == [True] * 50


@pytest.mark.parametrize(
    "operations",
    [
        [],
        [Create(vm(f"n{number}"), {}) for number in range(MAX_OPERATIONS + 1)],
        [RequireAbsent(B)] * (MAX_OPERATIONS + 1),
        [Create(B, {}), Create(B, {})],
        [Update(A, {}), Delete(A)],
        [Create(B, {"meta": {"labels": {"a": 1}}})],
        [Create(B, {"meta": {"labels": ["a"]}})],
        [Create(B, {"meta": 1})],
        [Create(B, {"meta": {"deleting_at": 5}})],
        [Create(B, {"value": object()})],
        [Create(B, {"value": "\ud800"})],
        [Create(B, [1])],
        [Create(vm("\ud800"), {})],
    ],
)
async def test_what_is_outside_the_limits_is_invalid(store: Store, operations: list[Operation]) -> None:
    revision = await create(store, A)
    with pytest.raises(InvalidInput):
        await store.transact(operations)
    assert (await store.list("vm")).revision == revision


async def test_a_transaction_may_hold_as_much_as_the_limits_say(store: Store) -> None:
    empty = len(b'{"value":""}')
    share = MAX_BYTES // MAX_OPERATIONS
    fill = [Create(vm(f"n{number:03}"), {"value": "x" * (share - empty)}) for number in range(MAX_OPERATIONS - 1)]
    rest = MAX_BYTES - share * (MAX_OPERATIONS - 1) - empty
    with pytest.raises(TooLarge):
        await store.transact([*fill, Create(vm("last"), {"value": "x" * (rest + 1)})])
    assert (await store.list("vm")).items == ()
    await store.transact([*fill, Create(vm("last"), {"value": "x" * rest})])
    assert len((await store.list("vm")).items) == MAX_OPERATIONS


async def test_size_is_counted_in_bytes(store: Store) -> None:
    with pytest.raises(TooLarge):
        await store.transact([Create(A, {"value": "é" * (MAX_BYTES // 2)})])


async def test_a_guard_and_a_write_may_name_the_same_key(store: Store) -> None:
    revision = await create(store, A)
    assert await store.transact([RequireLive(A), RequireRevision(A, revision), Update(A, data_of(2))]) == revision + 1


ODD_NAMES = [
    "",
    "a/b",
    "/",
    "..",
    " ",
    "a b",
    "Ünïcödé",
    "名前",
    "🦊",
    "a\x00b",
    "a\x00",
    "a\nb",
    "%",
    "_",
    "'",
    '"',
    "x" * 2000,
    "ß",
    "A",
    "a",
]


async def test_odd_names_are_names(store: Store) -> None:
    keys = [Key("vm", project, name) for name in ODD_NAMES for project in ("", "p", "p/q")]
    for number, key in enumerate(keys):
        await store.transact([Create(key, {"number": number})])
    for number, key in enumerate(keys):
        found = await store.get(key)
        assert found is not None
        assert found.data == {"number": number}
    assert [item.key for item in (await store.list("vm")).items] == sorted(keys)


async def test_a_key_s_parts_are_not_run_together(store: Store) -> None:
    await create(store, Key("a", "b", "c"))
    for other in (Key("a/b", "", "c"), Key("a", "", "b/c"), Key("a", "b/c", ""), Key("ab", "", "c")):
        assert await store.get(other) is None


async def test_odd_data_comes_back_as_it_was(store: Store) -> None:
    data = {"": "", "\x00": "\x00", "🦊": ["é", -(2**63), 2**64 - 1, 0.1, 1e300, [], {}], "meta": {"labels": {}, "more": None}}
    await store.transact([Create(A, data)])
    found = await store.get(A)
    assert found is not None
    assert found.data == data
