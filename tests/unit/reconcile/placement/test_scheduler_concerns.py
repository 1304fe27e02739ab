"""Which changes of VMs the scheduler looks at: of those that have their place none, whatever becomes of them there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from volant.core.condition import Condition
from volant.core.ids import Uid
from volant.core.resource import Meta, to_stored
from volant.core.simulated_clock import SimulatedClock
from volant.core.vm import SCHEDULED, VM, VMSpec, VMStatus
from volant.reconcile.placement.account import Account
from volant.reconcile.placement.scheduler import Scheduler
from volant.reconcile.placement.waiting import WaitingRoom
from volant.store.cache import Cache
from volant.store.contract import Key
from volant.store.sqlite import open_store

KEY = Key(VM.kind, "default", "web")


class Room:
    def __init__(self, scheduler: Scheduler, waiting: WaitingRoom) -> None:
        self.scheduler = scheduler
        self.waiting = waiting


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    clock = SimulatedClock()
    async with open_store(tmp_path / "volant.db", clock) as store:
        cache = Cache(store, ("VM", "Node", "Claim"), clock)
        waiting = WaitingRoom(lambda key, after_s: None)
        yield Room(Scheduler(store, cache, clock, Account(cache), waiting), waiting)


def record(*, slot: int | None, power: str = "running", deleting_at: str | None = None, **status: Any) -> dict[str, Any]:
    meta = Meta(name="web", uid=Uid("w" * 32), deleting_at=deleting_at)
    spec = VMSpec(plugin="nginx", power=power)  # type: ignore[arg-type]  # one of those there are
    return to_stored(VM(meta=meta, spec=spec, status=VMStatus(slot=slot, **status)))


def test_one_without_a_place_is_looked_at_if_it_wants_one(room: Room) -> None:
    assert room.scheduler.concerns(KEY, record(slot=None))
    assert not room.scheduler.concerns(KEY, record(slot=None, power="stopped"))
    assert not room.scheduler.concerns(KEY, record(slot=None, deleting_at="2030-01-01T00:00:00Z"))


def test_one_that_has_a_place_is_not_looked_at_until_it_wants_to_come_back_to_it(room: Room) -> None:
    assert not room.scheduler.concerns(KEY, record(slot=3, ready=True))
    at_rest = Condition(type=SCHEDULED, status="False", reason="AtRest")
    assert room.scheduler.concerns(KEY, record(slot=3, conditions=(at_rest,)))


def test_one_that_waits_is_looked_at_whatever_happens_to_it(room: Room) -> None:
    room.waiting.enter(KEY)
    assert room.scheduler.concerns(KEY, record(slot=None, power="stopped"))
    assert room.scheduler.concerns(KEY, None)
    room.waiting.leave(KEY)
    assert not room.scheduler.concerns(KEY, None)
