"""A step is taken on what was decided on, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from volant.core.clock import HostClock
from volant.core.deployment import Deployment, DeploymentSpec, DeploymentStatus
from volant.core.errors import DiskFull, StaleRevision
from volant.core.ids import new_uid
from volant.core.resource import Meta
from volant.core.vm import VM, VMSpec, VMStatus
from volant.reconcile.deployment.deletion import Deleter
from volant.reconcile.deployment.observe import Observed
from volant.reconcile.deployment.replica import read_replica
from volant.reconcile.deployment.steps import Steps
from volant.reconcile.outcome import After
from volant.store.cache import Cache
from volant.store.contract import Operation
from volant.store.records import create_of, get_resource, update_of
from volant.store.sqlite import open_store


async def test_a_replica_that_became_ready_meanwhile_is_not_removed_as_one_that_is_not(tmp_path: Path) -> None:
    clock = HostClock()
    async with open_store(tmp_path / "volant.db", clock) as store:
        cache = Cache(store, ("VM", "Deployment"))
        async with asyncio.TaskGroup() as group:
            following = group.create_task(cache.run())
            await cache.wait_synced()
            web = Deployment(
                meta=Meta(name="web", uid=new_uid()), spec=DeploymentSpec(vm=VMSpec(plugin="nginx")), status=DeploymentStatus()
            )
            meta = Meta(name="web-0", uid=new_uid(), owner=web.uid)
            vm = VM(meta=meta, spec=VMSpec(plugin="nginx"), status=VMStatus(phase="Starting"))
            await store.transact([create_of(web), create_of(vm)])
            vm = await get_resource(store, VM, "default", "web-0")
            replica = read_replica(vm, "web", {})
            assert replica is not None
            ready = msgspec.structs.replace(vm, status=VMStatus(phase="Running", ready=True))
            await cache.wait_revision(await store.transact([update_of(ready)]))
            steps = Steps(store, cache, clock, None)  # type: ignore[arg-type]  # nothing is made here
            with pytest.raises(StaleRevision):
                steps.read(web, replica)
            made = await steps.remove(web, [replica])
            assert made.done == []
            deleter = Deleter(store, cache, clock, steps)
            outcome, _ = await deleter.step(web, Observed(revisions={}, replicas=(replica,)))
            assert isinstance(outcome, After), "until the cache has seen it there is nothing to do again"
            assert not (await get_resource(store, VM, "default", "web-0")).deleting
            following.cancel()


async def test_a_step_that_the_store_refuses_says_so_and_what_was_written_before(tmp_path: Path) -> None:
    clock = HostClock()
    async with open_store(tmp_path / "volant.db", clock) as store:
        cache = Cache(store, ("VM", "Deployment"))
        async with asyncio.TaskGroup() as group:
            following = group.create_task(cache.run())
            await cache.wait_synced()
            web = Deployment(
                meta=Meta(name="web", uid=new_uid()), spec=DeploymentSpec(vm=VMSpec(plugin="nginx")), status=DeploymentStatus()
            )
            await store.transact([create_of(web)])
            replicas = []
            for name in ("web-0", "web-1"):
                vm = VM(meta=Meta(name=name, uid=new_uid(), owner=web.uid), spec=VMSpec(plugin="nginx"), status=VMStatus())
                await cache.wait_revision(await store.transact([create_of(vm)]))
                replica = read_replica(await get_resource(store, VM, "default", name), "web", {})
                assert replica is not None
                replicas.append(replica)
            transact, asked = store.transact, [0, 0]

            async def fill_up(operations: Sequence[Operation]) -> int:
                asked[0] += 1
                if asked[0] > 1:
                    raise DiskFull("no space left")
                asked[1] = await transact(operations)
                return asked[1]

            store.transact = fill_up  # type: ignore[method-assign]  # a disk that is full after one more transaction
            made = await Steps(store, cache, clock, None).remove(web, replicas)  # type: ignore[arg-type]  # nothing is made here
            assert isinstance(made.error, DiskFull)
            assert (len(made.done), made.revision) == (1, asked[1])
            following.cancel()
