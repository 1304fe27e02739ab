"""A deployment's ports, with real connections on the loopback: who is led where, who is held, who is drained."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from volant.core.autoscale import Autoscale, AutoscaleStatus
from volant.core.vm import EndRecord
from volant.reconcile.balance import balancer

from .balanced_world import HOST_PORT, World, open_world, until


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as made:
        yield made


async def test_connections_are_spread_over_those_that_are_ready(world: World) -> None:
    await world.add_deployment(replicas=3)
    for index in range(3):
        await world.add(index)
    await world.add(3, phase="Starting", ready=False)
    clients = [await world.connect() for _ in range(9)]
    names = collections.Counter([await client.ask() for client in clients])
    assert names == {"web-0": 3, "web-1": 3, "web-2": 3}


async def test_who_has_least_to_do_is_next(world: World) -> None:
    await world.add_deployment(replicas=2)
    await world.add(0)
    stay = [await world.connect() for _ in range(4)]
    assert {await client.ask() for client in stay} == {"web-0"}
    await world.add(1)
    assert [await (await world.connect()).ask() for _ in range(4)] == ["web-1"] * 4


async def test_one_after_the_other_when_all_have_nothing_to_do(world: World) -> None:
    await world.add_deployment(replicas=3)
    for index in range(3):
        await world.add(index)
    answers = []
    for _ in range(6):
        client = await world.connect()
        answers.append(await client.ask())
        client.close()
        await until(lambda: world.connections == 0)
    assert answers[:3] == answers[3:] and len(set(answers)) == 3


async def test_who_comes_while_none_is_ready_is_held(world: World) -> None:
    await world.add_deployment()
    await world.add(0, phase="Starting", ready=False)
    client = await world.connect()
    answer = asyncio.ensure_future(client.ask())
    await until(lambda: world.held == 1)
    assert not answer.done()
    await world.change(0, phase="Running", ready=True)
    assert await answer == "web-0"
    assert world.held == 0


async def test_who_is_held_too_long_is_turned_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balancer, "HOLD_LIMIT_S", 0.01)
    await world.add_deployment()
    assert await (await world.connect()).is_reset()
    await until(lambda: world.connections == 0)


async def test_no_more_than_a_limit_come_in(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balancer, "MAX_CONNECTIONS", 2)
    await world.add_deployment()
    await world.add(0)
    for _ in range(2):
        await (await world.connect()).ask()
    with pytest.raises(ConnectionResetError):
        if await (await world.connect()).is_reset():
            raise ConnectionResetError


async def test_a_replica_that_refuses_is_passed_over_and_nothing_is_lost(world: World) -> None:
    await world.add_deployment(replicas=2)
    await world.add(0, up=False)
    await world.add(1)
    assert [await (await world.connect()).ask() for _ in range(5)] == ["web-1"] * 5


async def test_one_that_was_suspect_is_asked_again(world: World) -> None:
    await world.add_deployment(replicas=2)
    await world.add(0, up=False)
    await world.add(1)
    for _ in range(3):
        await (await world.connect()).ask()
    await world.servers["web-0"].start()
    await world.clock.advance(2.0)
    assert await (await world.connect()).ask() == "web-0"


async def test_when_all_refuse_it_is_tried_until_one_does_not(world: World) -> None:
    await world.add_deployment()
    await world.add(0, up=False)
    answer = asyncio.ensure_future((await world.connect()).ask())
    for _ in range(5):
        await world.clock.advance(balancer.ATTEMPT_AGAIN_S)
    assert not answer.done()
    await world.servers["web-0"].start()
    await world.clock.advance(2.0)
    assert await answer == "web-0"


async def test_one_that_is_to_end_gets_nobody_new_and_waits_for_those_it_has(world: World) -> None:
    await world.add_deployment(replicas=2)
    await world.add(0)
    client = await world.connect()
    assert await client.ask() == "web-0"
    await world.add(1)
    vm = await world.change(0, deleting_at="2026-01-01T00:00:01Z")
    assert world.keeper.hold_end(vm) == 5.0, "half its grace"
    assert [await (await world.connect()).ask() for _ in range(3)] == ["web-1"] * 3
    await world.clock.advance(2.0)
    assert world.keeper.hold_end(vm) == 3.0
    assert await client.ask(b"still there") == "web-0"
    client.close()
    await until(lambda: world.drained == [vm.uid])
    assert world.keeper.hold_end(vm) == 0.0


async def test_the_wait_for_connections_has_an_end(world: World) -> None:
    await world.add_deployment()
    await world.add(0)
    await (await world.connect()).ask()
    vm = await world.change(0, power="stopped")
    assert world.keeper.hold_end(vm) == 5.0
    await world.clock.advance(5.0)
    assert world.keeper.hold_end(vm) == 0.0


async def test_who_is_about_to_stop_it_takes_it_out_before_the_cache_has_seen_that(world: World) -> None:
    await world.add_deployment(replicas=2)
    before = await world.add(0)
    await world.add(1)
    told = world.cache.get
    vm = await world.change(0, restart_token=1)
    assert world.keeper.hold_end(vm) == 0.0
    # What is older than what it was told does not bring it back.
    balancer_, _ = next(iter(world.keeper._balancers.values()))
    balancer_.update_replica(before)
    assert told is not None
    assert [await (await world.connect()).ask() for _ in range(3)] == ["web-1"] * 3


async def test_one_that_is_not_to_end_holds_nobody_up(world: World) -> None:
    await world.add_deployment()
    vm = await world.add(0)
    await (await world.connect()).ask()
    assert world.keeper.hold_end(vm) == 0.0


async def test_connections_of_one_whose_run_ended_are_reset(world: World) -> None:
    await world.add_deployment(replicas=2)
    await world.add(0)
    client = await world.connect()
    await client.ask()
    end = EndRecord(run_id="r", kind="crashed", message="gone", at="2026-01-01T00:00:00Z")
    await world.change(0, ready=False, phase="Starting", last_end=end)
    assert await client.is_reset()


async def test_connections_of_one_that_is_gone_are_reset(world: World) -> None:
    await world.add_deployment()
    await world.add(0)
    client = await world.connect()
    await client.ask()
    await world.delete(0)
    assert await client.is_reset()
    await until(lambda: world.connections == 0)


async def test_one_that_somebody_is_about_to_stop_serves_only_when_there_is_no_other(world: World) -> None:
    await world.add_deployment(replicas=2)
    vm = await world.add(0)
    await world.add(1)
    await world.change_deployment(disrupted={vm.uid: "2026-01-01T00:00:00Z"})
    assert [await (await world.connect()).ask() for _ in range(3)] == ["web-1"] * 3
    await world.change(1, ready=False, phase="Starting")
    assert await (await world.connect()).ask() == "web-0"


async def test_under_blue_green_only_the_revision_that_serves_does(world: World) -> None:
    await world.add_deployment(replicas=1)
    await world.add(0, revision=1)
    await world.add(1, revision=2)
    await world.change_deployment(serving=1)
    assert [await (await world.connect()).ask() for _ in range(3)] == ["web-0"] * 3
    await world.change_deployment(serving=2)
    assert [await (await world.connect()).ask() for _ in range(3)] == ["web-1"] * 3


async def test_who_connects_to_one_that_sleeps_has_it_woken(world: World) -> None:
    await world.add_deployment(autoscale=Autoscale(min=0, max=3))
    await world.add(0, power="suspended", phase="Suspended", ready=False)
    await world.change_deployment(autoscale=AutoscaleStatus(replicas=0))
    answer = asyncio.ensure_future((await world.connect()).ask())
    await until(lambda: bool(world.wanted))
    assert [key.name for key in world.wanted] == ["web"]
    await world.change_deployment(autoscale=AutoscaleStatus(replicas=1))
    await world.change(0, power="running", phase="Running", ready=True)
    assert await answer == "web-0"


async def test_who_is_held_while_it_falls_asleep_has_it_woken(world: World) -> None:
    await world.add_deployment(autoscale=Autoscale(min=0, max=3))
    await world.add(0, phase="Starting", ready=False)
    await world.connect()
    await until(lambda: world.held == 1)
    await world.change_deployment(autoscale=AutoscaleStatus(replicas=0))
    assert [key.name for key in world.wanted] == ["web"]


async def test_silence_ends_a_connection(world: World) -> None:
    await world.add_deployment()
    await world.add(0)
    client = await world.connect()
    await client.ask()
    waiting = asyncio.ensure_future(client.is_reset())
    await world.clock.advance(balancer.IDLE_LIMIT_S + 120)
    assert await waiting


async def test_a_deployment_that_is_deleted_listens_no_more(world: World) -> None:
    await world.add_deployment()
    await world.add(0)
    await (await world.connect()).ask()
    stored = world.cache.list("Deployment")[0]
    from volant.store.contract import Delete

    await world.see(await world.store.transact([Delete(stored.key)]))
    assert not world.keeper.has_port(world.uid, HOST_PORT)
    assert world.keeper.find_traffic(world.uid) is None


async def test_ten_thousand_replicas_cost_one_connection_no_more_than_ten(world: World) -> None:
    from volant.core.ids import Uid
    from volant.reconcile.balance.rota import Rota

    rota = Rota()
    for number in range(10_000):
        rota.put(Uid(f"{number}"), 0)
    for number in range(10_000):
        first = next(iter(rota))
        assert first == f"{number}"
        rota.put(first, 1)
    assert next(iter(rota)) == "0"
