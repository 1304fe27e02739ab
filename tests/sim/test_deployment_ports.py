"""A deployment's ports before simulated guests: what is rolled out, restarted, killed or woken under load, and what is lost."""

from __future__ import annotations

import asyncio
import contextlib

from volant.core.deployment import Strategy

from .deployed import HOST_PORT, Served, ask, deploy, guest_of, list_replicas, under_load, wait_deployment
from .host import LIMIT_S, World, check_nothing_left, reach, reach_gone

ROLLING = Strategy(max_surge=1, max_unavailable=0)


async def test_a_rollout_under_load_loses_no_request(world: World) -> None:
    Served(world)
    async with world.plane() as (plane, _):
        await deploy(plane, world, 3, strategy=ROLLING)
        await wait_deployment(plane, lambda web: web.status.available == 3)
        before = {vm.uid for vm in await list_replicas(plane)}
        async with under_load(world) as load:
            await plane.intents.deployments.restart("web")
            await wait_deployment(plane, lambda web: web.status.rollout.phase == "Complete" and web.status.rollout.revision == 2)
            after = {vm.uid for vm in await list_replicas(plane)}
            load.answers.clear()
            async with asyncio.timeout(LIMIT_S):
                while len(load.answers) < 3:  # noqa: ASYNC110  # what is waited for tells nobody
                    await asyncio.sleep(0)
        assert load.failures == []
        assert not before & after and set(load.answers) <= after


async def test_restarts_by_hand_under_load_lose_no_request(world: World) -> None:
    Served(world)
    async with world.plane() as (plane, _):
        await deploy(plane, world, 2, strategy=ROLLING)
        await wait_deployment(plane, lambda web: web.status.available == 2)
        async with under_load(world) as load:
            for name in ("web-0", "web-1", "web-0"):
                run_id = (await plane.intents.vms.restart(name)).status.run_id
                await reach(plane, name, lambda vm, run_id=run_id: vm.status.ready and vm.status.run_id != run_id)
        assert load.failures == []


async def test_who_is_deleted_by_hand_finishes_what_it_was_asked(world: World) -> None:
    served = Served(world, answer_s=0.5)
    async with world.plane() as (plane, _):
        await deploy(plane, world, 2)
        await wait_deployment(plane, lambda web: web.status.available == 2)
        served.answer_s = 0.2
        async with under_load(world, workers=4) as load:
            for _ in range(2):
                vm = (await list_replicas(plane))[0]
                await plane.intents.vms.delete(vm.name)
                await wait_deployment(plane, lambda web: web.status.available == 2)
        assert load.failures == []


async def test_it_is_asked_to_stop_once_its_connections_are_over(world: World) -> None:
    Served(world)
    async with world.plane() as (plane, _):
        await deploy(plane, world, 1, vm={"stop_grace_s": 600})
        await wait_deployment(plane, lambda web: web.status.available == 1)
        (vm,) = await list_replicas(plane)
        guest = guest_of(world, vm)
        reader, writer = await asyncio.open_connection("127.0.0.1", world.fabric.listening[HOST_PORT])
        writer.write(b"hello\n")
        assert (await reader.readline()).decode().strip() == vm.uid
        await plane.intents.vms.restart("web-0")
        await reach(plane, "web-0", lambda vm: vm.status.phase == "Stopping")
        writer.write(b"hello again\n")
        assert (await reader.readline()).decode().strip() == vm.uid, "it goes on"
        assert guest.state == "configured"
        writer.close()
        again = await reach(plane, "web-0", lambda found: found.status.ready and found.status.run_id != vm.status.run_id)
        assert again.status.last_end is not None and again.status.last_end.asked


async def test_half_of_its_grace_is_all_that_connections_get(world: World) -> None:
    Served(world)
    async with world.plane() as (plane, _):
        await deploy(plane, world, 1, vm={"stop_grace_s": 1})
        await wait_deployment(plane, lambda web: web.status.available == 1)
        (vm,) = await list_replicas(plane)
        reader, writer = await asyncio.open_connection("127.0.0.1", world.fabric.listening[HOST_PORT])
        writer.write(b"hello\n")
        await reader.readline()
        await plane.intents.vms.restart("web-0")
        await reach(plane, "web-0", lambda found: found.status.ready and found.status.run_id != vm.status.run_id)
        writer.close()


async def test_who_is_to_end_at_once_waits_for_nobody(world: World) -> None:
    Served(world)
    async with world.plane() as (plane, _):
        await deploy(plane, world, 1, vm={"stop_grace_s": 600})
        await wait_deployment(plane, lambda web: web.status.available == 1)
        (vm,) = await list_replicas(plane)
        reader, writer = await asyncio.open_connection("127.0.0.1", world.fabric.listening[HOST_PORT])
        writer.write(b"hello\n")
        await reader.readline()
        await plane.intents.vms.delete("web-0", force=True)
        await reach_gone(plane, "web-0")
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        assert await ask(world) != vm.uid, "it is made anew, and who comes meanwhile is held"
        writer.close()


async def test_a_vm_process_that_dies_takes_only_its_own_connections_along(world: World) -> None:
    Served(world)
    async with world.plane() as (plane, _):
        await deploy(plane, world, 3)
        await wait_deployment(plane, lambda web: web.status.available == 3)
        vm = (await list_replicas(plane))[1]
        async with under_load(world, workers=6) as load:
            world.host.crash(vm.uid, signal=9)
            await reach(plane, vm.name, lambda found: found.status.ready and found.status.run_id != vm.status.run_id)
        # Each worker has one request under way, and the least busy is next: two were on their way to it.
        assert len(load.failures) <= 3
        assert await ask(world)


async def test_a_deployment_that_goes_leaves_nothing(world: World) -> None:
    Served(world)
    async with world.plane() as (plane, _):
        await deploy(plane, world, 2)
        await wait_deployment(plane, lambda web: web.status.available == 2)
        await ask(world)
        await plane.intents.deployments.delete("web")
        for name in ("web-0", "web-1"):
            await reach_gone(plane, name)
        async for web in plane.intents.deployments.watch("web"):
            if web is None:
                break
        await check_nothing_left(world, plane)
