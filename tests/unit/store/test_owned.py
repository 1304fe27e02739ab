"""What goes with another resource is the same from the cache, from one that lags, and from the store."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from volant.core.deployment import Deployment, DeploymentSpec, DeploymentStatus
from volant.core.ids import Uid
from volant.core.resource import Meta
from volant.core.simulated_clock import SimulatedClock
from volant.core.vm import VM, VMSpec, VMStatus
from volant.store.cache import Cache
from volant.store.contract import Store
from volant.store.owned import BY_OWNER, OwnedReader, index_owner
from volant.store.records import create_of
from volant.store.sqlite import open_store

MADE_AT = "2026-01-01T00:00:00Z"
LABELS = {"volant.deployment": "web"}


def owner_of(name: str, uid: str) -> Deployment:
    meta = Meta(name=name, uid=Uid(uid), project="default", created_at=MADE_AT)
    return Deployment(meta=meta, spec=DeploymentSpec(vm=VMSpec(plugin="nginx")), status=DeploymentStatus())


def replica(name: str, owner: str) -> VM:
    meta = Meta(name=name, uid=Uid(name), project="default", created_at=MADE_AT, labels=LABELS, owner=owner)
    return VM(meta=meta, spec=VMSpec(plugin="nginx"), status=VMStatus())


WEB = owner_of("web", "new")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path / "volant.db", SimulatedClock()) as opened:
        yield opened


def make_cache(store: Store) -> Cache:
    cache = Cache(store, [VM.kind, Deployment.kind])
    cache.add_index(BY_OWNER, index_owner)
    return cache


async def names_of(reader: OwnedReader) -> list[str]:
    return [vm.name for vm in await reader.list_of(VM, WEB, LABELS)]


async def test_it_is_that_of_the_owner_alone_from_both(store: Store) -> None:
    # One of the deployment that had the name before has its label still.
    await store.transact([create_of(replica("web-0", "new")), create_of(replica("web-1", "old")), create_of(WEB)])
    cache = make_cache(store)
    assert await names_of(OwnedReader(store)) == ["web-0"]
    assert await names_of(OwnedReader(store, cache)) == ["web-0"]
    async with asyncio.TaskGroup() as group:
        running = group.create_task(cache.run())
        await cache.wait_synced()
        await store.transact([create_of(replica("web-2", "new"))])
        assert await names_of(OwnedReader(store, cache)) == ["web-0", "web-2"]
        running.cancel()


async def test_from_a_cache_that_lags_it_is_what_the_store_has(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.transact([create_of(replica("web-0", "new"))])
    cache = make_cache(store)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(cache.run())
        await cache.wait_synced()
        running.cancel()
    await store.transact([create_of(replica("web-1", "new"))])
    monkeypatch.setattr(cache, "catch_up", functools.partial(cache.catch_up, 0.01))
    assert not await cache.catch_up()
    assert await names_of(OwnedReader(store, cache)) == ["web-0", "web-1"]
