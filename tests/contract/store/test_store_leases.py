"""Leases: one holder at a time, until the keeper's clock says otherwise."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from volant.core.errors import Conflict, InvalidInput, StaleRevision
from volant.core.simulated_clock import SimulatedClock
from volant.store.contract import Create, Lease, RequireLease, Store
from volant.store.sqlite import open_store

from .store_keepers import Keeper
from .store_steps import create, data_of, outcome, vm

MINE = RequireLease("leader", "me")


async def test_a_lease_ends_after_its_time(keeper: Keeper, store: Store) -> None:
    now = keeper.clock.now().timestamp()
    assert await store.grant_lease("leader", "me", 10) == Lease("leader", "me", now + 10)
    keeper.clock.turn(9.9)
    assert await outcome(store.grant_lease("leader", "you", 10)) is Conflict
    keeper.clock.turn(0.1)
    assert (await store.grant_lease("leader", "you", 10)).holder == "you"
    assert await outcome(store.grant_lease("leader", "me", 10)) is Conflict


async def test_a_holder_renews_its_lease(keeper: Keeper, store: Store) -> None:
    await store.grant_lease("leader", "me", 10)
    keeper.clock.turn(9)
    renewed = await store.grant_lease("leader", "me", 10)
    assert renewed.expires_at == keeper.clock.now().timestamp() + 10
    keeper.clock.turn(9)
    assert await outcome(store.grant_lease("leader", "you", 10)) is Conflict


async def test_what_needs_a_lease_is_done_only_while_it_is_held(keeper: Keeper, store: Store) -> None:
    assert await outcome(store.transact([MINE, Create(vm("a"), data_of())])) is StaleRevision
    await store.grant_lease("leader", "me", 10)
    await store.transact([MINE, Create(vm("b"), data_of())])
    assert await outcome(store.transact([RequireLease("leader", "you"), Create(vm("c"), data_of())])) is StaleRevision
    assert await outcome(store.transact([RequireLease("other", "me"), Create(vm("c"), data_of())])) is StaleRevision
    keeper.clock.turn(10)
    assert await outcome(store.transact([Create(vm("d"), data_of()), MINE])) is StaleRevision
    assert [item.key.name for item in (await store.list("vm")).items] == ["b"]


async def test_a_lease_given_back_is_free(store: Store) -> None:
    await store.grant_lease("leader", "me", 10)
    await store.release_lease("leader", "me")
    assert await outcome(store.transact([MINE])) is StaleRevision
    assert (await store.grant_lease("leader", "you", 10)).holder == "you"


async def test_giving_back_what_one_does_not_hold_changes_nothing(store: Store) -> None:
    await store.release_lease("leader", "me")
    await store.grant_lease("leader", "you", 10)
    await store.release_lease("leader", "me")
    assert await outcome(store.grant_lease("leader", "me", 10)) is Conflict


async def test_leases_of_different_names_are_apart(store: Store) -> None:
    await store.grant_lease("leader", "me", 10)
    assert (await store.grant_lease("node/1", "you", 10)).holder == "you"


async def test_of_many_who_want_a_lease_one_gets_it(store: Store) -> None:
    outcomes = await asyncio.gather(*(outcome(store.grant_lease("leader", str(number), 10)) for number in range(30)))
    held = [result for result in outcomes if isinstance(result, Lease)]
    assert len(held) == 1
    assert outcomes.count(Conflict) == 29


async def test_a_lease_takes_no_revision(store: Store) -> None:
    revision = await create(store, vm("a"))
    await store.grant_lease("leader", "me", 10)
    await store.release_lease("leader", "me")
    assert (await store.list("vm")).revision == revision


@pytest.mark.parametrize("ttl_s", [0, -1, 301, float("nan"), float("inf")])
async def test_a_lease_needs_a_time(store: Store, ttl_s: float) -> None:
    with pytest.raises(InvalidInput):
        await store.grant_lease("leader", "me", ttl_s)


async def test_a_lease_outlives_the_keeper_s_restart(keeper: Keeper) -> None:
    async with keeper.open() as store:
        await store.grant_lease("leader", "me", 10)
    async with keeper.open() as store:
        assert await outcome(store.grant_lease("leader", "you", 10)) is Conflict
        assert await store.transact([MINE]) == 0


async def test_nobody_holds_a_lease_from_before_the_clock_was_put_back(tmp_path: Path) -> None:
    later, earlier = (SimulatedClock(datetime(2026, 1, 1, hour, tzinfo=UTC)) for hour in (13, 12))
    async with open_store(tmp_path / "volant.db", later) as store:
        await store.grant_lease("leader", "me", 10)
    async with open_store(tmp_path / "volant.db", earlier) as store:
        assert (await store.grant_lease("leader", "you", 10)).holder == "you", "nobody leads for an hour"
        assert await outcome(store.transact([MINE])) is StaleRevision
