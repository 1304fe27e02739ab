"""The plugin controller: are its files there, who uses it, and what goes with it."""

from __future__ import annotations

from typing import Protocol

import msgspec
import structlog

from volant.core.clock import Clock, format_time
from volant.core.condition import Condition, set_condition
from volant.core.errors import ChecksumMismatch, VolantError
from volant.core.ids import Digest
from volant.core.plugin import ARTIFACTS_PRESENT, READY, ArtifactStatus, Plugin, PluginStatus, wanted_artifacts
from volant.core.resource import from_stored
from volant.core.vm import VM
from volant.reconcile.outcome import After, Done, Outcome
from volant.reconcile.recorder import Note, event_operation
from volant.store.cache import Cache
from volant.store.contract import Delete, Key, Operation, Store, Stored
from volant.store.records import find_resource, key_of, list_resources, update_of

log = structlog.get_logger()

USERS_GONE_POLL_S = 2.0


BY_PLUGIN = "plugin"
"""The cache's index of VMs by ``project/plugin``."""


def index_plugin(stored: Stored) -> list[str]:
    return [f"{stored.key.project}/{stored.data['spec']['plugin']}"] if stored.key.kind == VM.kind else []


class Artifacts(Protocol):
    """What this controller needs of the artifact store."""

    def size(self, digest: Digest) -> int | None: ...

    async def verify(self, digest: Digest) -> None: ...

    async def remove(self, digest: Digest) -> None: ...


class PluginController:
    """Implements engine.Controller for plugins."""

    kind = Plugin.kind

    def __init__(self, store: Store, cache: Cache, clock: Clock, artifacts: Artifacts) -> None:
        self._store = store
        self._cache = cache
        self._clock = clock
        self._artifacts = artifacts

    async def reconcile(self, key: Key) -> Outcome:
        plugin = await find_resource(self._store, Plugin, key.project, key.name)
        if plugin is None:
            return Done()
        if plugin.deleting:
            # Only the registry itself may say that nobody uses it any more; the cache may be a moment behind.
            vms, _ = await list_resources(self._store, VM, plugin.meta.project)
            return await self._remove(plugin, sum(vm.spec.plugin == plugin.name for vm in vms))
        stored = self._cache.by_index(BY_PLUGIN, f"{plugin.meta.project}/{plugin.name}")
        users = sum(one.data["spec"]["power"] != "parked" for one in stored)
        await self._write(plugin, await self._judge(plugin, users))
        return Done()

    async def report_failure(self, key: Key, error: VolantError, failures: int) -> None:
        plugin = await find_resource(self._store, Plugin, key.project, key.name)
        if plugin is not None:
            status = msgspec.structs.replace(plugin.status, reason="StepFailed", message=str(error))
            await self._write(plugin, status)

    async def _judge(self, plugin: Plugin, users: int) -> PluginStatus:
        found: list[ArtifactStatus] = []
        for role, digest in wanted_artifacts(plugin.manifest).items():
            size = self._artifacts.size(digest)
            state = "present"
            if size is None:
                state = "missing"
            else:
                try:
                    await self._artifacts.verify(digest)
                except ChecksumMismatch:
                    state = "damaged"
            found.append(
                msgspec.convert({"role": role, "digest": digest, "size_bytes": size or 0, "state": state}, ArtifactStatus)
            )
        bad = [f"{artifact.role} is {artifact.state}" for artifact in found if artifact.state != "present"]
        at = format_time(self._clock.now())
        conditions = plugin.status.conditions
        for type_ in (ARTIFACTS_PRESENT, READY):
            conditions = set_condition(
                conditions,
                Condition(
                    type=type_, status="False" if bad else "True", reason="Missing" if bad else "Present", message=", ".join(bad)
                ),
                at,
            )
        return msgspec.structs.replace(
            plugin.status,
            phase="Failed" if bad else "Ready",
            reason="ArtifactsMissing" if bad else "",
            message=f"{', '.join(bad)}: install the plugin again" if bad else "",
            artifacts=tuple(found),
            vms=users,
            conditions=conditions,
            observed_generation=plugin.meta.generation,
        )

    async def _remove(self, plugin: Plugin, users: int) -> Outcome:
        if users:
            status = msgspec.structs.replace(
                plugin.status, phase="Deleting", reason="InUse", message="it goes with its last VM", vms=users
            )
            await self._write(plugin, status)
            return After(USERS_GONE_POLL_S)
        others = {
            digest
            for stored in self._cache.list(Plugin.kind)
            if stored.key != key_of(plugin)
            for digest in wanted_artifacts(from_stored(Plugin, stored.data, stored.revision).manifest).values()
        }
        for digest in set(wanted_artifacts(plugin.manifest).values()) - others:
            await self._artifacts.remove(digest)
        note = event_operation(self._cache, plugin, Note("Normal", "Deleted", "it is gone"), format_time(self._clock.now()))
        operations: list[Operation] = [Delete(key_of(plugin), plugin.revision), note]
        await self._store.transact(operations)
        log.info("plugin_removed", name=plugin.name)
        return Done()

    async def _write(self, plugin: Plugin, status: PluginStatus) -> None:
        if status != plugin.status:
            await self._store.transact([update_of(msgspec.structs.replace(plugin, status=status))])
