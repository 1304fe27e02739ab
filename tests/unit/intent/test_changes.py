"""Following many resources: from the beginning, from where one was, for days."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from volant.core.errors import Compacted
from volant.core.ids import new_uid
from volant.core.resource import Meta
from volant.core.selector import parse_selector
from volant.core.simulated_clock import SimulatedClock
from volant.core.vm import VM, VMSpec, VMStatus
from volant.intent.changes import Changed, follow_one, follow_resources
from volant.intent.listing import Filters
from volant.intent.vm_list import VMS
from volant.store.contract import Create, Key
from volant.store.records import create_of, delete_of, get_resource, update_of
from volant.store.sqlite import SqliteStore, open_store

CHOSEN = Filters(selector=parse_selector("tier=web", "labels"))


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
async def store(tmp_path: Path, clock: SimulatedClock) -> AsyncIterator[SqliteStore]:
    async with open_store(tmp_path / "volant.db", clock, retained_revisions=5) as opened:
        yield opened


async def _make(store: SqliteStore, name: str, **labels: str) -> VM:
    vm = VM(meta=Meta(name=name, uid=new_uid(), labels=labels), spec=VMSpec(plugin="nginx"), status=VMStatus())
    revision = await store.transact([create_of(vm)])
    return msgspec.structs.replace(vm, revision=revision)


async def _relabel(store: SqliteStore, vm: VM, **labels: str) -> VM:
    changed = msgspec.structs.replace(vm, meta=msgspec.structs.replace(vm.meta, labels=labels))
    return msgspec.structs.replace(changed, revision=await store.transact([update_of(changed)]))


async def _next(changes: AsyncIterator[Changed[VM]]) -> tuple[str, str, int]:
    change = await anext(changes)
    return change.type, "" if change.resource is None else change.resource.name, change.revision


async def test_all_that_are_chosen_and_then_what_happens_to_them(store: SqliteStore) -> None:
    web = await _make(store, "web", tier="web")
    await _make(store, "db", tier="db")
    changes = follow_resources(store, VMS, "default", CHOSEN, None)
    assert [await _next(changes) for _ in range(2)] == [("put", "web", 0), ("synced", "", 2)]
    await _make(store, "other", tier="db")
    late = await _make(store, "late", tier="web")
    assert await _next(changes) == ("put", "late", late.revision)
    left = await _relabel(store, web, tier="db")
    assert await _next(changes) == ("deleted", "web", left.revision)
    back = await _relabel(store, left, tier="web")
    assert await _next(changes) == ("put", "web", back.revision)
    gone = await store.transact([delete_of(late)])
    assert await _next(changes) == ("deleted", "late", gone)


async def test_who_goes_on_misses_nothing(store: SqliteStore) -> None:
    web = await _make(store, "web", tier="web")
    since = web.revision
    left = await _relabel(store, web, tier="db")
    late = await _make(store, "late", tier="web")
    changes = follow_resources(store, VMS, "default", CHOSEN, since)
    assert [await _next(changes) for _ in range(2)] == [("deleted", "web", left.revision), ("put", "late", late.revision)]


async def test_of_one_transaction_only_the_last_change_is_a_place_to_go_on(store: SqliteStore) -> None:
    changes = follow_resources(store, VMS, "default", Filters(), 0)
    vms = [VM(meta=Meta(name=name, uid=new_uid()), spec=VMSpec(plugin="nginx"), status=VMStatus()) for name in ("a", "b")]
    revision = await store.transact([create_of(vm) for vm in vms])
    assert [await _next(changes) for _ in range(2)] == [("put", "a", 0), ("put", "b", revision)]


async def test_a_stream_that_keeps_up_lasts_for_days_and_a_late_one_is_told(store: SqliteStore, clock: SimulatedClock) -> None:
    vm = await _make(store, "web", tier="web")
    first = vm.revision
    changes = follow_resources(store, VMS, "default", CHOSEN, first)
    for day in range(30):
        waiting = asyncio.ensure_future(_next(changes))
        await asyncio.sleep(0)
        vm = await _relabel(store, vm, tier="web", day=str(day))
        for number in range(20):
            key = Key("Noise", "", f"{day}-{number}")
            await store.transact([Create(key, {})])
        assert await waiting == ("put", "web", vm.revision)
        await clock.advance(24 * 3600.0)
        await store.compact()
    late = follow_resources(store, VMS, "default", CHOSEN, first)
    with pytest.raises(Compacted):
        await anext(late)


async def test_one_is_followed_from_where_one_was_until_it_is_gone(store: SqliteStore) -> None:
    vm = await _make(store, "web")
    await _make(store, "other")
    changed = await _relabel(store, vm, a="b")
    states = follow_one(store, VMS, vm, vm.revision)
    told: Any = await anext(states)
    assert (told.revision, told.meta.labels) == (changed.revision, {"a": "b"})
    await store.transact([delete_of(await get_resource(store, VM, "default", "web"))])
    assert [state async for state in states] == [None]
