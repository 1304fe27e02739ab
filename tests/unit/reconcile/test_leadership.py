"""One leads, whatever becomes of it; on the simulated clock."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from volant.core.errors import StaleRevision, Unavailable
from volant.core.leader import LEADER
from volant.core.simulated_clock import SimulatedClock
from volant.reconcile.leadership import ASK_AGAIN_S, LEASE_S, RECORD, RENEW_S, Leadership
from volant.store.contract import Create, Key, Lease
from volant.store.fenced import FencedStore
from volant.store.sqlite import SqliteStore, open_store


class Awaited:
    """A store that tells when nobody waits for it, so that no test's time passes while it writes."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._asked = 0
        self.rests = asyncio.Event()
        self.rests.set()

    def __getattr__(self, name: str) -> Any:
        return functools.partial(self._ask, getattr(self._store, name))

    async def _ask(self, method: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        self._asked += 1
        self.rests.clear()
        try:
            return await method(*arguments)
        finally:
            self._asked -= 1
            if not self._asked:
                self.rests.set()


class Moody:
    """A store whose leases cannot be asked for while it is ``broken``."""

    def __init__(self, store: Awaited) -> None:
        self._store = store
        self.broken = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def grant_lease(self, name: str, holder: str, ttl_s: float) -> Lease:
        if self.broken:
            raise Unavailable("the store cannot be reached")
        lease: Lease = await self._store.grant_lease(name, holder, ttl_s)
        return lease


class Candidate:
    def __init__(self, store: Awaited, clock: SimulatedClock, name: str) -> None:
        self.leads = False
        self.terms = 0
        self.store = Moody(store)
        self.leadership = Leadership(self.store, clock, name, self._lead, random_source=random.Random(name))
        self.fenced = FencedStore(store, LEADER, name, lambda: self.leadership.held)
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.task = asyncio.create_task(self.leadership.run())

    async def stop(self) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait({self.task})

    def kill(self) -> None:
        """What SIGKILL leaves: a lease that nobody renews."""
        self.store.broken = True
        self.leadership._until = None
        assert self.task is not None
        self.task.cancel()

    async def _lead(self) -> None:
        self.leads = True
        self.terms += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.leads = False


@pytest.fixture
async def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
async def store(tmp_path: Path, clock: SimulatedClock) -> AsyncIterator[Awaited]:
    async with open_store(tmp_path / "volant.db", clock) as opened:
        awaited = Awaited(opened)
        yield awaited


async def settle(store: Awaited, clock: SimulatedClock, seconds: float = 0.0) -> None:
    """Let time pass in small steps, and whoever asked the store have the answer before each."""
    end = clock.monotonic() + seconds
    while True:
        await clock.advance(0)
        while not store.rests.is_set():
            await store.rests.wait()
            await clock.advance(0)
        if clock.monotonic() >= end:
            return
        await clock.advance(min(0.25, end - clock.monotonic()))


async def until(store: Awaited, clock: SimulatedClock, satisfied: Any, limit_s: float) -> float:
    """Seconds until ``satisfied()``, on the simulated clock."""
    began = clock.monotonic()
    while not satisfied():
        assert clock.monotonic() - began <= limit_s, f"not within {limit_s} s"
        await settle(store, clock, 0.25)
    return clock.monotonic() - began


async def test_one_alone_leads_at_once(store: Awaited, clock: SimulatedClock) -> None:
    a = Candidate(store, clock, "a")
    a.start()
    await until(store, clock, lambda: a.leads, 1)
    assert a.leadership.held
    await settle(store, clock, 60)
    assert (a.leads, a.terms) == (True, 1)
    stored = await store.get(RECORD)
    assert stored is not None
    assert stored.data["spec"]["node"] == "a"
    await a.stop()


async def test_of_two_exactly_one_leads_and_the_other_takes_over_when_it_is_killed(store: Awaited, clock: SimulatedClock) -> None:
    a, b = Candidate(store, clock, "a"), Candidate(store, clock, "b")
    a.start()
    await until(store, clock, lambda: a.leads, 1)
    b.start()
    for _ in range(100):
        await settle(store, clock, 0.5)
        assert (a.leads, b.leads) == (True, False)
    a.kill()
    took = await until(store, clock, lambda: b.leads, LEASE_S + ASK_AGAIN_S + 0.5)
    assert took >= LEASE_S - RENEW_S - 0.5, "the lease was still the other's"
    stored = await store.get(RECORD)
    assert stored is not None
    assert stored.data["spec"]["node"] == "b"
    await b.stop()


async def test_an_orderly_end_hands_over_at_once(store: Awaited, clock: SimulatedClock) -> None:
    a, b = Candidate(store, clock, "a"), Candidate(store, clock, "b")
    a.start()
    await until(store, clock, lambda: a.leads, 1)
    b.start()
    await settle(store, clock, 1)
    await a.stop()
    assert not a.leads
    await until(store, clock, lambda: b.leads, ASK_AGAIN_S + 0.5)
    await b.stop()


async def test_the_same_node_goes_on_with_its_lease_after_a_crash(store: Awaited, clock: SimulatedClock) -> None:
    a = Candidate(store, clock, "a")
    a.start()
    await until(store, clock, lambda: a.leads, 1)
    a.kill()
    again = Candidate(store, clock, "a")
    again.start()
    await until(store, clock, lambda: again.leads, 1)
    await again.stop()


async def test_who_cannot_renew_stops_before_another_can_lead(store: Awaited, clock: SimulatedClock) -> None:
    a, b = Candidate(store, clock, "a"), Candidate(store, clock, "b")
    a.start()
    await until(store, clock, lambda: a.leads, 1)
    b.start()
    a.store.broken = True
    while not b.leads:
        assert clock.monotonic() < 60
        await settle(store, clock, 0.25)
        assert not (a.leads and b.leads)
    assert a.terms == 1
    a.store.broken = False
    await b.stop()
    await until(store, clock, lambda: a.leads, ASK_AGAIN_S + 1)
    assert a.terms == 2, "it leads again, with everything begun anew"
    await a.stop()


async def test_a_short_silence_of_the_store_loses_nothing(store: Awaited, clock: SimulatedClock) -> None:
    a = Candidate(store, clock, "a")
    a.start()
    await until(store, clock, lambda: a.leads, 1)
    a.store.broken = True
    await settle(store, clock, RENEW_S + 1)
    a.store.broken = False
    await settle(store, clock, 30)
    assert (a.leads, a.terms) == (True, 1)
    await a.stop()


async def test_a_deposed_leader_writes_nothing(store: Awaited, clock: SimulatedClock) -> None:
    a = Candidate(store, clock, "a")
    a.start()
    await until(store, clock, lambda: a.leads, 1)
    await a.fenced.transact([Create(Key("Thing", "", "one"), {"meta": {}})])
    held = FencedStore(store, LEADER, "a", lambda: True)
    a.kill()
    with pytest.raises(Unavailable):
        await a.fenced.transact([Create(Key("Thing", "", "two"), {"meta": {}})])
    await settle(store, clock, LEASE_S)
    # Even one that has not noticed, since its host stood still.
    with pytest.raises(StaleRevision):
        await held.transact([Create(Key("Thing", "", "three"), {"meta": {}})])
    assert await store.get(Key("Thing", "", "three")) is None


async def test_a_full_transaction_may_need_a_lease_as_well(store: Awaited) -> None:
    await store.grant_lease(LEADER, "a", 10)
    fenced = FencedStore(store, LEADER, "a", lambda: True)
    await fenced.transact([Create(Key("Thing", "", f"{number}"), {"meta": {}}) for number in range(100)])
    assert len((await store.list("Thing")).items) == 100
