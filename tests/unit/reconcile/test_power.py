from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from volant.core.vm import VM
from volant.reconcile.power import change_power
from volant.reconcile.recorder import Note
from volant.store.contract import Operation
from volant.store.records import key_of, update_of

from .port_world import World, change_vm, make_vm, open_world

NOTE = Note("Normal", "Waking", "somebody connects")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def wake(world: World, vm: VM, note: Note | None = NOTE) -> bool:
    return await change_power(
        world.store, key_of(vm), vm.uid, expected="suspended", wanted="running", note=note, cache=world.cache, clock=world.clock
    )


async def test_a_change_counts_a_generation_and_is_told_and_seen(world: World) -> None:
    vm = await world.add(make_vm(power="suspended"))
    assert await wake(world, vm)
    stored = world.cache.get(key_of(vm))
    assert stored is not None
    assert (stored.data["spec"]["power"], stored.data["meta"]["generation"]) == ("running", 2)
    assert await world.events() == [("Waking", "somebody connects")]


async def test_what_is_asked_otherwise_by_now_stays(world: World) -> None:
    vm = await world.add(make_vm(power="stopped"))
    assert not await wake(world, vm)
    assert (await world.read("web")).spec.power == "stopped"
    assert await world.events() == []


async def test_another_vm_of_the_same_name_is_left_alone(world: World) -> None:
    vm = await world.add(make_vm(power="suspended"))
    stranger = make_vm(power="suspended")
    assert stranger.uid != vm.uid
    assert not await wake(world, stranger)
    assert (await world.read("web")).spec.power == "suspended"


async def test_a_vm_that_is_gone_is_no_error(world: World) -> None:
    assert not await wake(world, make_vm())


async def test_of_many_at_once_one_changes_it(world: World) -> None:
    vm = await world.add(make_vm(power="suspended"))
    assert sorted(await asyncio.gather(*(wake(world, vm) for _ in range(20)))) == [False] * 19 + [True]


async def test_a_write_that_comes_between_is_not_undone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    vm = await world.add(make_vm(power="suspended"))
    real, between = world.store.transact, ["once"]

    async def transact(operations: Sequence[Operation]) -> Any:
        if between:
            between.clear()
            await real([_update(await world.read("web"))])
        return await real(operations)

    monkeypatch.setattr(world.store, "transact", transact)
    assert await wake(world, vm)
    changed = await world.read("web")
    assert (changed.spec.power, changed.status.message) == ("running", "written in between")


def _update(vm: VM) -> Operation:
    return update_of(change_vm(vm, message="written in between"))


async def test_an_event_that_the_cache_does_not_know_stops_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    vm = await world.add(make_vm(power="suspended"))
    assert await wake(world, vm)
    await world.change("web", power="suspended")
    monkeypatch.setattr(world.cache, "get", lambda key: None)
    assert await wake(world, vm)
    assert (await world.read("web")).spec.power == "running"
    assert await world.events() == [("Waking", "somebody connects")]


async def test_no_note_tells_nothing(world: World) -> None:
    vm = await world.add(make_vm(power="suspended"))
    assert await wake(world, vm, None)
    assert await world.events() == []
