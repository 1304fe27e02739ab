"""The account has at every moment what counting all records anew would find, and what was decided beside it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.core.claim import ClaimSpec, build_claim, device_claim_name, slot_claim_name
from volant.core.condition import Condition
from volant.core.hardware import Hardware
from volant.core.ids import Uid
from volant.core.node import NodeDevice, NodeRoom
from volant.core.placement import Affinity, Placement, Spread
from volant.core.resource import Meta, to_stored
from volant.core.selector import parse_selector
from volant.core.simulated_clock import SimulatedClock
from volant.core.vm import SCHEDULED, VM, VMSpec, VMStatus
from volant.reconcile.placement.account import Account, read_held
from volant.reconcile.placement.slots import Slots
from volant.reconcile.placement.tally import Placed, Tally
from volant.reconcile.placement.watch import SilenceWatch
from volant.store.cache import Cache
from volant.store.contract import Store
from volant.store.records import create_of, delete_of, update_of
from volant.store.sqlite import open_store

from .nodes_of import make_node

AT_REST = Condition(type=SCHEDULED, status="False", reason="AtRest")


def make_vm(name: str, *, uid: str = "", node: str = "", owner: str | None = None, **more: Any) -> VM:
    labels = more.pop("labels", {})
    spec = {"cpu_cores": 1, "memory_mb": 256, **more.pop("spec", {})}
    meta = Meta(name=name, uid=Uid((uid or name).ljust(32, "0")), labels=labels, owner=owner)
    status = VMStatus(node=node, slot=0 if node else None, **more)
    return VM(meta=meta, spec=VMSpec(plugin="nginx", **spec), status=status)


@contextlib.asynccontextmanager
async def following(store: Store) -> AsyncIterator[tuple[Cache, Account]]:
    cache = Cache(store, ("VM", "Node", "Claim"), SimulatedClock())
    cache.add_index("uid", lambda stored: [stored.data["meta"]["uid"]])
    account = Account(cache)
    task = asyncio.create_task(cache.run())
    await cache.wait_synced()
    try:
        yield cache, account
    finally:
        task.cancel()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path / "volant.db", SimulatedClock()) as opened:
        yield opened


async def write(store: Store, cache: Cache, *operations: Any) -> int:
    revision = await store.transact(operations)
    await asyncio.wait_for(cache.wait_revision(revision), 5)
    return revision


def given_of(account: Account, name: str = "a") -> tuple[int, float, int]:
    found = next(one for one in account.candidates() if one.name == name).given
    return found.vms, found.cpu_cores, found.memory_mb


async def test_room_is_held_from_placement_until_rest(store: Store) -> None:
    async with following(store) as (cache, account):
        node = make_node("a")
        vm = make_vm("web")
        await write(store, cache, create_of(node), create_of(vm))
        assert given_of(account) == (0, 0, 0)
        placed = msgspec.structs.replace(make_vm("web", node="a"), revision=2)
        stored = cache.get(create_of(vm).key)
        assert stored is not None
        placed = msgspec.structs.replace(placed, revision=stored.revision)
        revision = await write(store, cache, update_of(placed))
        assert given_of(account) == (1, 1, 256)
        assert account.room(node)[1].memory_mb == 4096 - 256
        resting = msgspec.structs.replace(make_vm("web", node="a", conditions=(AT_REST,)), revision=revision)
        revision = await write(store, cache, update_of(resting))
        assert given_of(account) == (1, 0, 0)
        # What still runs holds what it has, whatever its condition says.
        running = msgspec.structs.replace(make_vm("web", node="a", conditions=(AT_REST,), pid=7), revision=revision)
        revision = await write(store, cache, update_of(running))
        assert given_of(account) == (1, 1, 256)
        await write(store, cache, delete_of(msgspec.structs.replace(running, revision=revision)))
        assert given_of(account) == (0, 0, 0)


async def test_what_was_decided_counts_until_the_cache_has_seen_it(store: Store) -> None:
    async with following(store) as (cache, account):
        vm = make_vm("web")
        revision = await write(store, cache, create_of(make_node("a")), create_of(vm))
        account.assume(vm, "a")
        assert given_of(account) == (1, 1, 256)
        # News of somebody else's write does not take it back.
        labelled = msgspec.structs.replace(make_vm("web", labels={"a": "b"}), revision=revision)
        revision = await write(store, cache, update_of(labelled))
        assert given_of(account) == (1, 1, 256)
        account.forget(vm)
        assert given_of(account) == (0, 0, 0)
        account.assume(vm, "a")
        placed = msgspec.structs.replace(make_vm("web", node="a", spec={"memory_mb": 128}), revision=revision)
        revision = await write(store, cache, update_of(placed))
        account.settle(vm, revision)
        assert given_of(account) == (1, 1, 128)
        account.settle(vm, revision)
        account.forget(vm)
        assert given_of(account) == (1, 1, 128)


async def test_a_clone_that_is_taken_stays_one_vm(store: Store) -> None:
    async with following(store) as (cache, account):
        parked = make_vm("pool-1", uid="x", node="a", spec={"power": "parked"})
        revision = await write(store, cache, create_of(make_node("a")), create_of(parked))
        assert given_of(account) == (1, 1, 256)
        taken = make_vm("web", uid="x", node="a", labels={"app": "web"})
        await write(store, cache, delete_of(msgspec.structs.replace(parked, revision=revision)), create_of(taken))
        assert given_of(account) == (1, 1, 256)
        found = await store.get(create_of(taken).key)
        assert found is not None
        await write(store, cache, delete_of(msgspec.structs.replace(taken, revision=found.revision)))
        assert given_of(account) == (0, 0, 0)


async def test_claims_of_slots_and_devices_are_followed(store: Store) -> None:
    card = NodeDevice(address="0000:01:00.0", device="10de:2684")
    async with following(store) as (cache, account):
        claims = [
            build_claim(
                name,
                ClaimSpec(thing=thing, owner_kind="VM", owner_name="web", owner_uid=Uid("u"), node="node.a"),
                "",
            )
            for name, thing in (
                (slot_claim_name("node.a", 0), "slot"),
                (device_claim_name("node.a", card.address), "device"),
            )
        ]
        node = make_node("node.a", devices=(card,))
        revision = await write(store, cache, create_of(node), *map(create_of, claims))
        assert account.candidates()[0].devices == ()
        assert account.slots_of("node.a").guess() == 1
        gone = [delete_of(msgspec.structs.replace(claim, revision=revision)) for claim in claims]
        await write(store, cache, *gone)
        assert account.candidates()[0].devices == (card,)
        assert account.slots_of("node.a").guess() == 0


async def test_wishes_count_kin_and_the_selected(store: Store) -> None:
    async with following(store) as (cache, account):
        others = [
            make_vm("web-0", node="a", owner="dep", labels={"app": "web"}),
            make_vm("web-1", node="b", owner="dep", labels={"app": "web"}),
            make_vm("web-2", node="b", owner="dep", labels={"app": "web"}),
            make_vm("db", node="a", labels={"app": "db"}),
        ]
        await write(store, cache, create_of(make_node("a")), create_of(make_node("b")), *map(create_of, others))
        placement = Placement(affinity=(Affinity(vms="app=db"),), spread=(Spread(), Spread(vms="app in (web,db)")))
        asking = make_vm("web-3", owner="dep", labels={"app": "web"}, spec={"placement": placement})
        wish = account.wish_of(asking, Hardware())
        assert wish.kin == {"a": 1, "b": 2}
        assert dict(wish.affinity[0].counts) == {"a": 1} and wish.matches_itself == (False,)
        assert [dict(term.counts) for term in wish.spread] == [{"a": 1, "b": 2}, {"a": 2, "b": 2}]
        stored = await store.get(create_of(others[2]).key)
        assert stored is not None
        await write(store, cache, delete_of(msgspec.structs.replace(others[2], revision=stored.revision)))
        assert [dict(term.counts) for term in account.wish_of(asking, Hardware()).spread] == [{"a": 1, "b": 1}, {"a": 2, "b": 1}]


VMS = st.tuples(
    st.sampled_from(["", "a", "b"]),
    st.sampled_from([256, 512]),
    st.booleans(),
    st.sampled_from([None, "one", "two"]),
    st.sampled_from(["running", "parked"]),
)


@given(st.lists(st.tuples(st.sampled_from("uvwxyz"), st.one_of(st.none(), VMS)), max_size=40))
def test_sums_are_those_of_all_records_counted_anew(steps: list[tuple[str, Any]]) -> None:
    cache = _StandingCache()
    account = Account(cache)  # type: ignore[arg-type]  # what an account needs of one
    for uid, shape in steps:
        cache.put(uid, shape)
        expected: dict[str, list[int]] = {}
        for data in cache.records.values():
            held = read_held(data)
            if held.node:
                sums = expected.setdefault(held.node, [0, 0])
                sums[0] += 1
                sums[1] += held.memory_mb
        for name in ("a", "b"):
            room = account._given.get(name, NodeRoom())
            assert [room.vms, room.memory_mb] == expected.get(name, [0, 0])


class _StandingCache:
    """As much of a cache as an account asks for, changed by hand."""

    def __init__(self) -> None:
        self.records: dict[str, dict[str, Any]] = {}
        self.revision = 0
        self._subscriber: Any = None

    def subscribe(self, subscriber: Any) -> Any:
        self._subscriber = subscriber
        return lambda: None

    def get(self, key: Any) -> None:
        return None

    def by_index(self, name: str, value: str) -> list[Any]:
        return []

    def put(self, uid: str, shape: Any) -> None:
        from volant.store.contract import Change, Key

        key = Key("VM", "default", uid)
        if shape is None:
            data = self.records.pop(uid, None)
            if data is not None:
                self._subscriber(Change("delete", key, data), None)
            return
        node, memory, rests, owner, power = shape
        conditions = (AT_REST,) if rests else ()
        vm = make_vm(uid, node=node, owner=owner, conditions=conditions, spec={"memory_mb": memory, "power": power})
        self.records[uid] = to_stored(vm)
        self._subscriber(Change("put", key, self.records[uid]), None)


@given(st.lists(st.tuples(st.sampled_from(["put", "drop", "guess", "back"]), st.integers(0, 7)), max_size=60))
def test_a_guess_is_never_a_slot_that_is_known_to_be_taken(steps: list[tuple[str, int]]) -> None:
    slots = Slots(size=8)
    taken: set[int] = set()
    guessed: set[int] = set()
    for what, slot in steps:
        if what == "put":
            slots.put(slot)
            taken.add(slot)
            guessed.discard(slot)
        elif what == "drop":
            slots.drop(slot)
            taken.discard(slot)
        elif what == "back":
            slots.give_back(slot)
            guessed.discard(slot)
        else:
            guess = slots.guess()
            if guess is None:
                assert len(taken) == 8
                continue
            assert guess not in taken
            if guess in guessed:
                # All are taken or guessed: guesses that nobody told about are tried again.
                assert taken | guessed >= set(range(8))
                guessed = set()
            guessed.add(guess)
    assert slots.left == 8 - len(taken)


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from(["a", "b"]), st.sampled_from(["web", "db"]), st.booleans()), max_size=30)
)
def test_a_tally_counts_as_a_walk_over_all_does(steps: list[tuple[bool, str, str, bool]]) -> None:
    placed: list[Placed] = []
    tally = Tally(lambda: list(placed))
    selectors = ("app=web", "app!=db", "tier", "app in (web,db),tier=x")
    for text in selectors[:2]:
        tally.count("default", text)
    for comes, node, app, tiered in steps:
        one = Placed("default", node, {"app": app, **({"tier": "x"} if tiered else {})})
        if comes:
            placed.append(one)
            tally.put(one)
        elif one in placed:
            placed.remove(one)
            tally.drop(one)
        for text in selectors:
            selector = parse_selector(text)
            expected: dict[str, int] = {}
            for each in placed:
                if selector.matches(each.labels):
                    expected[each.node] = expected.get(each.node, 0) + 1
            assert dict(tally.count("default", text)) == expected
    assert not tally.count("other", "app=web")


def test_silence_is_counted_by_who_listens() -> None:
    watch = SilenceWatch(5.0)
    assert watch.silence({"a": "t1", "b": "t1"}, 100.0) == {"a": 0.0, "b": 0.0}
    assert watch.silence({"a": "t2", "b": "t1"}, 105.0) == {"a": 0.0, "b": 5.0}
    # A wall clock that was set back is another word, too.
    assert watch.silence({"a": "t0", "b": "t1"}, 110.0) == {"a": 0.0, "b": 10.0}
    # Who was away itself counts anew.
    assert watch.silence({"a": "t0", "b": "t1"}, 400.0) == {"a": 0.0, "b": 0.0}
    assert watch.silence({"b": "t1"}, 405.0) == {"b": 5.0}
