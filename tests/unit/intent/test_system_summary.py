"""The summary counts VMs from the cache's index, and says the same when there is no cache to ask."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from volant.artifact.trust import Trust
from volant.core.ids import Uid
from volant.core.resource import Meta
from volant.core.simulated_clock import SimulatedClock
from volant.core.vm import VM, VMSpec, VMStatus
from volant.intent import NodeIntent, PluginIntent, SystemIntent, VMIntent
from volant.intent.system import BY_STATE, index_state
from volant.store.cache import Cache
from volant.store.contract import Store
from volant.store.records import create_of, delete_of

from .conftest import artifact_size


def make(name: str, *, power: Any = "running", **status: Any) -> VM:
    meta = Meta(name=name, uid=Uid(name.ljust(32, "0")))
    return VM(meta=meta, spec=VMSpec(plugin="nginx", power=power), status=VMStatus(**status))


async def test_the_cache_counts_what_the_store_would(store: Store, tmp_path: Path) -> None:
    clock = SimulatedClock()
    cache = Cache(store, (VM.kind,), clock)
    cache.add_index(BY_STATE, index_state, kinds=(VM.kind,))
    vms = VMIntent(store, clock)
    parts = (store, vms, PluginIntent(store, clock, artifact_size, Trust("off", tmp_path)), NodeIntent(store, clock))
    plain, quick = SystemIntent(*parts), SystemIntent(*parts, cache)
    ready = make("a", phase="Running", ready=True)
    there = [ready, make("b", phase="Running"), make("c", phase="Failed"), make("d", power="parked", phase="Parked", ready=True)]
    await store.transact([create_of(vm) for vm in there])
    async with asyncio.TaskGroup() as group:
        following = group.create_task(cache.run())
        await cache.wait_synced()
        assert await quick.summary() == await plain.summary()
        assert await quick.summary() == {
            "vms": 3,
            "vms_by_phase": {"Failed": 1, "Running": 2},
            "vms_ready": 1,
            "plugins": 0,
        }
        stored = (await store.list(VM.kind)).items[0]
        await store.transact([delete_of(VM(meta=ready.meta, spec=ready.spec, status=ready.status, revision=stored.revision))])
        assert (await quick.summary())["vms_ready"] == 0, "a summary knows of all that was written before it was asked"
        following.cancel()
