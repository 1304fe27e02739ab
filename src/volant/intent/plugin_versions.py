"""Which version of a plugin its name means, and which may be used."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from volant.core.errors import AlreadyExists, Conflict, NotFound, StaleRevision, WrongState
from volant.core.ids import Digest
from volant.core.plugin import Plugin, wanted_artifacts
from volant.core.plugin_versions import check_reference, follow_up, step_back, step_forward
from volant.store.contract import Operation, Store
from volant.store.plugins import find_plugin, find_version, list_versions
from volant.store.records import create_of, delete_of, find_resource, update_of

ATTEMPTS = 16


class PluginFile(msgspec.Struct, frozen=True, kw_only=True):
    """``versions`` of the plugin have it in this role. ``state``: ``unchecked`` until it was looked at."""

    role: str
    digest: Digest
    size_bytes: int
    state: str
    versions: tuple[str, ...]


class PluginVersions:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, reference: str, *, project: str = "default") -> Plugin:
        """Raises NotFound."""
        plugin = await find_plugin(self._store, project, reference)
        if plugin is None:
            raise NotFound(
                f"there is no plugin named {reference[:200]!r}",
                hint="volar plugins list shows those installed",
            )
        return plugin

    async def list(self, name: str, *, project: str = "default") -> list[Plugin]:
        """The default first. Raises NotFound when there is none of that name."""
        found = await list_versions(self._store, project, check_reference(name)[0])
        if not found:
            await self.get(name, project=project)
        return found

    async def set_default(self, name: str, version: str, *, project: str = "default") -> Plugin:
        """Have ``name`` mean ``version`` from now on; what was made from another stays on that.

        Raises:
            NotFound: it is not installed. WrongState: it is being removed.
        """
        for _ in range(ATTEMPTS):
            head = await self._head(name, project)
            if head.spec.version == version:
                return head
            target = await self._version(name, version, project)
            try:
                return await self._swap(head, target, follow_up(head, version))
            except (StaleRevision, NotFound, AlreadyExists):
                continue
        raise Conflict(f"the versions of {name!r} change all the time", hint="try again")

    async def roll_back(self, name: str, *, project: str = "default") -> Plugin:
        """Have ``name`` mean the version again that it meant before; asked twice, the one before that.

        Raises:
            WrongState: there was none before, or it is not installed any more.
        """
        for _ in range(ATTEMPTS):
            head = await self._head(name, project)
            for i, version in enumerate(head.spec.previous):
                target = await find_version(self._store, project, name, version)
                if target is None or target.deleting:
                    continue
                try:
                    return await self._swap(head, target, head.spec.previous[i + 1 :])
                except (StaleRevision, NotFound, AlreadyExists):
                    break
            else:
                raise WrongState(
                    f"the plugin {name!r} had no other default before that is still installed",
                    hint=f"volar plugins versions {name} shows what there is; volar plugins default {name} VERSION",
                )
        raise Conflict(f"the versions of {name!r} change all the time", hint="try again")

    async def set_enabled(self, reference: str, enabled: bool, *, project: str = "default") -> Sequence[Plugin]:
        """Allow or refuse new VMs of one version, or of all where only the plugin is named. What runs stays and may restart."""
        name, version = check_reference(reference)
        for _ in range(ATTEMPTS):
            found = [await self.get(reference, project=project)] if version else await self.list(name, project=project)
            changed = [_enable(plugin, enabled) for plugin in found]
            writes = [update_of(new) for new, old in zip(changed, found, strict=True) if new is not old]
            if not writes:
                return found
            try:
                revision = await self._store.transact(writes)
            except (StaleRevision, NotFound):
                continue
            return [
                msgspec.structs.replace(new, revision=revision) if new is not old else old
                for new, old in zip(changed, found, strict=True)
            ]
        raise Conflict(f"the plugin {name!r} changes all the time", hint="try again")

    async def list_files(self, reference: str, *, project: str = "default") -> Sequence[PluginFile]:
        """Of one version, or of all where only the plugin is named. Raises NotFound."""
        name, version = check_reference(reference)
        every = await self.list(name, project=project)
        chosen = [await self.get(reference, project=project)] if version else every
        users: dict[tuple[str, Digest], list[str]] = {}
        for plugin in every:
            for role, digest in wanted_artifacts(plugin.manifest).items():
                users.setdefault((role, digest), []).append(plugin.spec.version)
        found: dict[tuple[str, Digest], PluginFile] = {}
        for plugin in chosen:
            known = {(one.role, one.digest): one for one in plugin.status.artifacts}
            for role, digest in wanted_artifacts(plugin.manifest).items():
                seen = known.get((role, digest))
                found[role, digest] = PluginFile(
                    role=role,
                    digest=digest,
                    size_bytes=seen.size_bytes if seen else 0,
                    state=seen.state if seen else "unchecked",
                    versions=tuple(users[role, digest]),
                )
        return list(found.values())

    async def _head(self, name: str, project: str) -> Plugin:
        head = await find_resource(self._store, Plugin, project, name)
        if head is None:
            raise NotFound(f"there is no plugin named {name[:80]!r}", hint="volar plugins list shows those installed")
        if head.deleting:
            raise WrongState(f"the plugin {name!r} is being removed")
        return head

    async def _version(self, name: str, version: str, project: str) -> Plugin:
        found = await find_version(self._store, project, name, version)
        if found is None:
            raise NotFound(
                f"version {version[:80]!r} of the plugin {name!r} is not installed", hint=f"volar plugins versions {name}"
            )
        if found.deleting:
            raise WrongState(f"version {version} of the plugin {name!r} is being removed")
        return found

    async def _swap(self, head: Plugin, target: Plugin, previous: tuple[str, ...]) -> Plugin:
        forward = step_forward(head, target, previous)
        operations: list[Operation] = [update_of(forward), create_of(step_back(head)), delete_of(target)]
        return msgspec.structs.replace(forward, revision=await self._store.transact(operations))


def _enable(plugin: Plugin, enabled: bool) -> Plugin:
    if plugin.spec.enabled is enabled or plugin.deleting:
        return plugin
    meta = msgspec.structs.replace(plugin.meta, generation=plugin.meta.generation + 1)
    return msgspec.structs.replace(plugin, meta=meta, spec=msgspec.structs.replace(plugin.spec, enabled=enabled))
