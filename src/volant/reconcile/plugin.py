"""The plugin controller: are its files there, who uses it, and what goes with it."""

from __future__ import annotations

from typing import Protocol

import msgspec
import structlog

from volant.core.clock import Clock, format_time
from volant.core.condition import Condition, Truth, set_condition
from volant.core.disks import own_artifacts
from volant.core.errors import AlreadyExists, ChecksumMismatch, NotFound, VolantError
from volant.core.ids import Digest
from volant.core.plugin import ARTIFACTS_PRESENT, READY, ArtifactStatus, Plugin, PluginStatus, wanted_artifacts
from volant.core.plugin_versions import is_default, is_made_from, name_version, split_reference
from volant.core.resource import from_stored
from volant.core.trust import TRUSTED, Judge, Verdict
from volant.core.vm import VM
from volant.reconcile.outcome import After, Done, Outcome
from volant.reconcile.recorder import Note, event_operation
from volant.store.cache import Cache
from volant.store.contract import Delete, Key, Operation, Store, Stored
from volant.store.plugin_users import count_plugin_users
from volant.store.records import find_resource, key_of, list_resources, update_of

log = structlog.get_logger()

USERS_GONE_POLL_S = 2.0
TRUST_POLL_S = 10.0
"""How old what a plugin says of its signature may be: nobody tells when a key comes or goes. No start relies on it."""


BY_PLUGIN = "plugin"
"""The cache's index of a pool's clones by ``project/plugin``, whatever the version."""


def index_plugin(stored: Stored) -> list[str]:
    if stored.key.kind != VM.kind or stored.data["spec"]["power"] != "parked":
        return []
    return [f"{stored.key.project}/{split_reference(stored.data['spec']['plugin'])[0]}"]


BY_VERSION = "plugin_version"
"""The cache's index of the VMs that count as users of a plugin, by ``project/plugin@version``."""


def index_version(stored: Stored) -> list[str]:
    if stored.key.kind != VM.kind or stored.data["spec"]["power"] == "parked":
        return []
    name, asked = split_reference(stored.data["spec"]["plugin"])
    return [f"{stored.key.project}/{name_version(name, stored.data['status'].get('plugin_version') or asked)}"]


def count_users(cache: Cache, plugin: Plugin) -> int:
    """How many VMs were made from this version, those of a pool not counted. It costs the same however many there are."""
    name = split_reference(plugin.name)[0]
    versions = [plugin.spec.version, *([""] if is_default(plugin.name) else [])]
    return sum(cache.count(BY_VERSION, f"{plugin.meta.project}/{name_version(name, version)}") for version in versions)


def list_made_from(cache: Cache, plugin: Plugin) -> list[Stored]:
    """The records of a pool's clones that were made from this version."""
    name = split_reference(plugin.name)[0]
    found = []
    for stored in cache.by_index(BY_PLUGIN, f"{plugin.meta.project}/{name}"):
        asked = split_reference(stored.data["spec"]["plugin"])[1]
        if is_made_from(plugin, (name, stored.data["status"].get("plugin_version") or asked)):
            found.append(stored)
    return found


class Artifacts(Protocol):
    """What this controller needs of the artifact store."""

    def size(self, digest: Digest) -> int | None: ...

    async def hold(self, *digests: Digest) -> None: ...

    async def verify(self, digest: Digest) -> None: ...

    async def remove(self, digest: Digest) -> None: ...


class PluginController:
    """Implements engine.Controller for plugins."""

    kind = Plugin.kind

    def __init__(self, store: Store, cache: Cache, clock: Clock, artifacts: Artifacts, trust: Judge) -> None:
        self._store = store
        self._cache = cache
        self._clock = clock
        self._artifacts = artifacts
        self._trust = trust

    async def reconcile(self, key: Key) -> Outcome:
        plugin = await find_resource(self._store, Plugin, key.project, key.name)
        if plugin is None:
            return Done()
        if plugin.deleting:
            # Only the registry itself may say that nobody uses it any more; the cache may be a moment behind.
            return await self._remove(plugin, await count_plugin_users(self._store, plugin))
        users = count_users(self._cache, plugin)
        verdict = await self._judge_trust(plugin)
        await self._write(plugin, await self._judge(plugin, users, verdict), *_tell(plugin, verdict))
        return Done() if verdict is None else After(TRUST_POLL_S)

    async def report_failure(self, key: Key, error: VolantError, failures: int) -> None:
        plugin = await find_resource(self._store, Plugin, key.project, key.name)
        if plugin is not None:
            status = msgspec.structs.replace(plugin.status, reason="StepFailed", message=str(error))
            await self._write(plugin, status)

    async def _judge_trust(self, plugin: Plugin) -> Verdict | None:
        if self._trust.policy == "off" and plugin.spec.signed is None:
            return None
        return await self._trust.judge(plugin.spec.manifest, plugin.spec.signed)

    async def _judge(self, plugin: Plugin, users: int, verdict: Verdict | None) -> PluginStatus:
        found: list[ArtifactStatus] = []
        wanted = wanted_artifacts(plugin.manifest)
        # First, so that what is found here stays: others remove what nobody holds.
        await self._artifacts.hold(*wanted.values())
        for role, digest in wanted.items():
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
        words = ", ".join(bad)
        present = Condition(
            type=ARTIFACTS_PRESENT, status="False" if bad else "True", reason="Missing" if bad else "Present", message=words
        )
        ready, reason, message = msgspec.structs.replace(present, type=READY), "", ""
        if bad:
            reason, message = "ArtifactsMissing", f"{words}: install the plugin again"
        elif verdict is not None and verdict.told:
            reason, message = "Untrusted", verdict.message
            if verdict.refused:
                ready = Condition(type=READY, status="False", reason="Untrusted", message=verdict.message)
        # Without a policy nobody asks, and no condition says what nobody asked.
        conditions = tuple(condition for condition in plugin.status.conditions if condition.type != TRUSTED or _is_asked(verdict))
        for condition in (present, *_describe_trust(verdict), ready):
            conditions = set_condition(conditions, condition, at)
        return msgspec.structs.replace(
            plugin.status,
            phase="Ready" if ready.status == "True" else "Failed",
            reason=reason,
            message=message,
            artifacts=tuple(found),
            vms=users,
            trust=verdict,
            conditions=conditions,
            observed_generation=plugin.meta.generation,
        )

    async def _remove(self, plugin: Plugin, users: int) -> Outcome:
        if users:
            status = msgspec.structs.replace(
                plugin.status, phase="Deleting", reason="InUse", message="it goes once nothing needs it", vms=users
            )
            await self._write(plugin, status)
            return After(USERS_GONE_POLL_S)
        others = {
            digest
            for stored in self._cache.list(Plugin.kind)
            if stored.key != key_of(plugin)
            for digest in wanted_artifacts(from_stored(Plugin, stored.data, stored.revision).manifest).values()
        }
        vms, _ = await list_resources(self._store, VM, None)
        others |= {digest for vm in vms for digest in own_artifacts(vm.spec)}
        for digest in set(wanted_artifacts(plugin.manifest).values()) - others:
            await self._artifacts.remove(digest)
        note = event_operation(self._cache, plugin, Note("Normal", "Deleted", "it is gone"), format_time(self._clock.now()))
        operations: list[Operation] = [Delete(key_of(plugin), plugin.revision), note]
        await self._store.transact(operations)
        log.info("plugin_removed", name=plugin.name)
        return Done()

    async def _write(self, plugin: Plugin, status: PluginStatus, *notes: Note) -> None:
        if status == plugin.status:
            return
        operations: list[Operation] = [update_of(msgspec.structs.replace(plugin, status=status))]
        operations += [event_operation(self._cache, plugin, note, format_time(self._clock.now())) for note in notes]
        try:
            await self._store.transact(operations)
        except (AlreadyExists, NotFound):
            # The cache had not seen that this event came, or that it was swept; the status matters more than its count.
            await self._store.transact(operations[:1])


def _is_asked(verdict: Verdict | None) -> bool:
    return verdict is not None and verdict.policy != "off"


def _describe_trust(verdict: Verdict | None) -> tuple[Condition, ...]:
    if verdict is None or not _is_asked(verdict):
        return ()
    status: Truth = "True" if verdict.trusted else "False"
    return (Condition(type=TRUSTED, status=status, reason=verdict.reason, message=verdict.message),)


def _tell(plugin: Plugin, verdict: Verdict | None) -> tuple[Note, ...]:
    """What is to be told of a verdict: once, when it changes."""
    before = plugin.status.trust
    if verdict is not None and verdict.told and verdict != before:
        hint = f" ({verdict.hint})" if verdict.hint else ""
        return (Note("Warning", "Untrusted", f"{verdict.message}{hint}"),)
    if verdict is not None and verdict.trusted and before is not None and before.told:
        return (Note("Normal", "Trusted", verdict.message),)
    return ()
