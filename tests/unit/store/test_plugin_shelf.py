"""A plugin is read once for each change of its record, and by the version that a VM was made from."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from volant.core.ids import Uid
from volant.core.plugin import Plugin, PluginSpec, PluginStatus
from volant.core.resource import Meta
from volant.core.simulated_clock import SimulatedClock
from volant.core.vm import VM, VMSpec, VMStatus
from volant.store.cache import Cache
from volant.store.plugins import PluginShelf
from volant.store.records import create_of, delete_of, update_of
from volant.store.sqlite import open_store


def plugin(name: str, version: str) -> Plugin:
    spec: dict[str, Any] = {"version": version, "manifest": MANIFEST | {"version": version}}
    meta = Meta(name=name, uid=Uid(f"{name}{version}".ljust(32, "0")))
    return Plugin(meta=meta, spec=msgspec.convert(spec, PluginSpec), status=PluginStatus())


MEDIUM = {"url": "https://files.example/file", "checksum": "sha256:" + "0" * 64}
MANIFEST: dict[str, Any] = {
    "schema_version": "v1",
    "name": "nginx",
    "version": "1",
    "workload": {"type": "http", "base_url": "http://127.0.0.1:80", "entrypoint": ["/nginx"]},
    "boot": {"kernel": MEDIUM, "initramfs": MEDIUM},
    "rootfs": MEDIUM,
}


def vm_of(version: str) -> VM:
    return VM(meta=Meta(name="web", uid=Uid("w" * 32)), spec=VMSpec(plugin="nginx"), status=VMStatus(plugin_version=version))


async def test_a_version_is_found_wherever_it_is_and_asked_of_the_store_only_when_the_cache_has_it_not(tmp_path: Path) -> None:
    clock = SimulatedClock()
    async with open_store(tmp_path / "volant.db", clock) as store:
        cache = Cache(store, (Plugin.kind,), clock)
        shelf = PluginShelf(store, cache)
        await store.transact([create_of(plugin("nginx", "1"))])
        found = await shelf.find_of(vm_of("1"))
        assert found is not None and found.spec.version == "1", "before the cache has seen anything"
        async with asyncio.TaskGroup() as group:
            following = group.create_task(cache.run())
            await cache.wait_synced()
            first = await shelf.find_of(vm_of("1"))
            assert first is not None and first is await shelf.find_of(vm_of("1"))
            assert await shelf.find_of(vm_of("2")) is None
            new = msgspec.structs.replace(plugin("nginx", "2"), revision=first.revision)
            revision = await store.transact([update_of(new), create_of(plugin("nginx@1", "1"))])
            await cache.wait_revision(revision)
            assert [getattr(await shelf.find_of(vm_of(version)), "name", "") for version in ("1", "2")] == ["nginx@1", "nginx"]
            kept = await shelf.find_of(vm_of("1"))
            assert kept is not None
            await cache.wait_revision(await store.transact([delete_of(kept)]))
            assert await shelf.find_of(vm_of("1")) is None
            following.cancel()
