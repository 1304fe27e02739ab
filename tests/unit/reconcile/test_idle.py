from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from volant.core.address import tap_name
from volant.core.errors import HostError
from volant.core.ids import Uid
from volant.core.vm import VM
from volant.reconcile.idle import IdleWatch
from volant.store.contract import Key, RequireAbsent

from .port_world import World, make_vm, open_world, until_read


class Watched:
    """A world with an idle watch, and what port keepers would tell it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.active: dict[Uid, float] = {}
        self.watch = IdleWatch(world.store, world.cache, world.clock, world.fabric, self.active.get)
        self.looks = 0
        world.fabric.before = self._count

    def _count(self, step: str) -> None:
        self.looks += step == "read_traffic"

    async def add(self, vm: VM) -> VM:
        self.world.fabric.traffic[tap_name(vm.uid)] = 0
        return await self.world.add(vm)

    def hear(self, vm: VM) -> None:
        self.world.fabric.traffic[tap_name(vm.uid)] += 1

    async def pass_time(self, seconds: float) -> None:
        """Let time pass in small steps, and each write be done before the next."""
        end = self.world.clock.monotonic() + seconds
        while self.world.clock.monotonic() < end:
            await self.world.clock.advance(min(0.25, end - self.world.clock.monotonic()))
            # The store writes in a thread of its own, which the clock does not wait for.
            await self.world.see(await self.world.store.transact([RequireAbsent(Key("VM", "default", "nobody"))]))

    async def sleeps(self, name: str = "web") -> None:
        """Return once it is asked to sleep, in no time of the clock."""

        async def asleep() -> bool:
            return await self.power(name) == "suspended"

        await until_read(asleep)

    async def power(self, name: str = "web") -> str:
        return (await self.world.read(name)).spec.power


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    async with open_world(tmp_path) as world:
        watched = Watched(world)
        world.start(watched.watch.run())
        await asyncio.sleep(0)
        yield watched


async def test_a_vm_without_traffic_is_suspended_once_and_told_why(watched: Watched) -> None:
    await watched.add(make_vm(auto_suspend_s=300))
    await watched.pass_time(290)
    assert await watched.power() == "running"
    await watched.pass_time(30)
    await watched.sleeps()
    assert await watched.world.events() == [("Idle", "no traffic for 300 s; it is being suspended")]
    await watched.pass_time(30)
    assert watched.world.power_writes().count("suspended") == 1


async def test_traffic_begins_the_count_anew(watched: Watched) -> None:
    vm = await watched.add(make_vm(auto_suspend_s=20))
    for _ in range(4):
        await watched.pass_time(15)
        watched.hear(vm)
    assert await watched.power() == "running"
    await watched.pass_time(26)
    await watched.sleeps()


async def test_what_volantd_carries_counts_as_traffic(watched: Watched) -> None:
    vm = await watched.add(make_vm(auto_suspend_s=20))
    for _ in range(4):
        await watched.pass_time(15)
        watched.active[vm.uid] = watched.world.clock.monotonic()
    assert await watched.power() == "running"
    await watched.pass_time(26)
    await watched.sleeps()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"auto_suspend_s": 0}, id="never"),
        pytest.param({"auto_suspend_s": None}, id="not said"),
        pytest.param({"auto_suspend_s": 2, "ready": False}, id="not ready"),
        pytest.param({"auto_suspend_s": 2, "power": "stopped"}, id="stopping"),
        pytest.param({"auto_suspend_s": 2, "power": "parked"}, id="parked"),
    ],
)
async def test_others_are_not_even_looked_at(watched: Watched, changes: dict[str, object]) -> None:
    await watched.add(make_vm(**changes))
    await watched.pass_time(60)
    assert await watched.power() == changes.get("power", "running")
    assert watched.looks == 0


async def test_the_count_begins_when_it_becomes_ready(watched: Watched) -> None:
    await watched.add(make_vm(auto_suspend_s=10, ready=False))
    await watched.pass_time(60)
    await watched.world.change("web", ready=True)
    await watched.pass_time(9)
    assert await watched.power() == "running"
    await watched.pass_time(4)
    await watched.sleeps()


async def test_an_impatient_vm_does_not_wait_for_the_look_that_a_patient_one_needs(watched: Watched) -> None:
    await watched.add(make_vm("patient", auto_suspend_s=3600))
    await watched.pass_time(1)
    await watched.add(make_vm("web", auto_suspend_s=1))
    await watched.pass_time(1.5)
    await watched.sleeps()
    assert await watched.power("patient") == "running"


async def test_all_are_looked_at_together_and_not_too_often(watched: Watched) -> None:
    for number in range(5):
        await watched.add(make_vm(f"vm-{number}", auto_suspend_s=3600))
    await watched.pass_time(1)
    looks = watched.looks
    await watched.pass_time(60)
    assert watched.looks - looks <= 4


async def test_it_can_fall_asleep_again_after_it_was_woken(watched: Watched) -> None:
    await watched.add(make_vm(auto_suspend_s=4))
    for _ in range(2):
        await watched.pass_time(6)
        await watched.sleeps()
        await watched.world.change("web", ready=False, phase="Suspended")
        await watched.world.change("web", power="running")
        await watched.pass_time(6)
        assert await watched.power() == "running"
        await watched.world.change("web", ready=True, phase="Running")


async def test_who_comes_while_it_is_being_suspended_wakes_it(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    vm = await watched.add(make_vm(auto_suspend_s=4))
    real = watched.world.store.transact

    async def transact(operations: list[object]) -> int:
        if any(getattr(each, "data", {}).get("spec", {}).get("power") == "suspended" for each in operations):
            watched.active[vm.uid] = watched.world.clock.monotonic() + 0.001
        revision: int = await real(operations)
        return revision

    monkeypatch.setattr(watched.world.store, "transact", transact)
    await watched.pass_time(5)

    async def told_twice() -> bool:
        return len(await watched.world.events()) == 2

    await until_read(told_twice)
    assert await watched.power() == "running"
    assert [reason for reason, _ in sorted(await watched.world.events())] == ["Idle", "Waking"]


async def test_a_tap_that_cannot_be_read_counts_as_heard_of(watched: Watched) -> None:
    vm = await watched.add(make_vm(auto_suspend_s=4))
    del watched.world.fabric.traffic[tap_name(vm.uid)]
    await watched.pass_time(20)
    assert await watched.power() == "running"


async def test_a_host_that_does_not_tell_is_asked_again(watched: Watched) -> None:
    def fail(step: str) -> None:
        if step == "read_traffic":
            raise HostError("no counters")

    watched.world.fabric.before = fail
    await watched.add(make_vm(auto_suspend_s=4))
    await watched.pass_time(20)
    assert await watched.power() == "running"
    watched.world.fabric.before = lambda step: None
    await watched.pass_time(2)
    await watched.sleeps()


async def test_a_deleted_vm_is_forgotten(watched: Watched) -> None:
    await watched.add(make_vm(auto_suspend_s=4))
    await watched.world.delete("web")
    looks = watched.looks
    await watched.pass_time(20)
    assert watched.looks <= looks + 1
