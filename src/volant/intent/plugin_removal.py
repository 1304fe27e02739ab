"""Taking plugins away: refused while something needs them, unless that is to go with them."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec

from volant.core.clock import Clock, format_time
from volant.core.errors import InUse, NotFound, StaleRevision, TimedOut
from volant.core.plugin import Plugin
from volant.core.plugin_versions import check_reference, is_default, is_made_from, version_of, version_of_snapshot
from volant.core.snapshot import Snapshot
from volant.core.vm import VM, is_parked
from volant.intent.follow import follow_resource
from volant.intent.plugin_versions import PluginVersions
from volant.intent.snapshots import SnapshotIntent
from volant.intent.vms import VMIntent
from volant.store.contract import Store
from volant.store.records import key_of, list_resources, update_of


class PluginUsers(msgspec.Struct, frozen=True, kw_only=True):
    """What needs a plugin, by name; a pool's clones are nobody's and go by themselves."""

    vms: tuple[str, ...]
    snapshots: tuple[str, ...]


class PluginRemoval:
    def __init__(self, store: Store, clock: Clock, versions: PluginVersions) -> None:
        self._store = store
        self._clock = clock
        self._versions = versions
        self._vms = VMIntent(store, clock)
        self._snapshots = SnapshotIntent(store, clock, self._vms)

    async def find_users(self, reference: str, *, project: str = "default") -> PluginUsers:
        """Of one version, or of all where only the plugin is named. Raises NotFound."""
        return await self._users_of(await self._find(reference, project), project)

    async def remove(self, reference: str, *, force: bool = False, project: str = "default") -> Plugin:
        """Mark one version, or all where only the plugin is named; their artifacts go with them unless others need them.

        With ``force`` the VMs and snapshots that need them are deleted first.

        Raises:
            NotFound. InUse: VMs or snapshots need one of them, or it is the default and there are others.
        """
        while True:
            plugins = await self._find(reference, project)
            self._check_default(reference, plugins, await self._versions.list(plugins[0].name.partition("@")[0], project=project))
            left = [plugin for plugin in plugins if not plugin.deleting]
            # A VM created after this look and before the mark keeps the plugin: its reconciler waits for the last user.
            users = await self._users_of(plugins if force else left, project)
            if not force:
                _refuse_in_use(reference, users)
            now = format_time(self._clock.now())
            marked = {
                plugin.name: msgspec.structs.replace(plugin, meta=msgspec.structs.replace(plugin.meta, deleting_at=now))
                for plugin in left
            }
            if marked:
                try:
                    revision = await self._store.transact([update_of(plugin) for plugin in marked.values()])
                except StaleRevision:
                    continue
                marked = {name: msgspec.structs.replace(plugin, revision=revision) for name, plugin in marked.items()}
            if force:
                await self._delete_users(users, project)
            first = plugins[0]
            return marked.get(first.name, first)

    async def wait_gone(self, reference: str, *, timeout_s: float, project: str = "default") -> None:
        """Until all that ``reference`` named is gone. Raises TimedOut."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        plugins = await self._find(reference, project)
                    except NotFound:
                        return
                    plugin = next((one for one in plugins if one.deleting), None)
                    if plugin is None:
                        return  # another was installed under the name
                    async for current in follow_resource(self._store, Plugin, key_of(plugin), plugin.uid):
                        if current is None:
                            break
        except TimeoutError:
            raise TimedOut(f"the plugin {reference!r} is not gone after {timeout_s:g} s") from None

    async def _find(self, reference: str, project: str) -> list[Plugin]:
        name, version = check_reference(reference)
        if version:
            return [await self._versions.get(reference, project=project)]
        return await self._versions.list(name, project=project)

    def _check_default(self, reference: str, plugins: list[Plugin], installed: list[Plugin]) -> None:
        """Raises InUse for the default alone: its name would mean nothing while there are others."""
        name, version = check_reference(reference)
        others = [one.spec.version for one in installed if one.name != plugins[0].name and not one.deleting]
        if version and is_default(plugins[0].name) and others:
            raise InUse(
                f"{version} is what {name!r} means, and there are other versions",
                hint=f"volar plugins default {name} {others[0]} first, or remove all: volar plugins remove {name}",
            )

    async def _users_of(self, plugins: list[Plugin], project: str) -> PluginUsers:
        vms, _ = await list_resources(self._store, VM, project)
        # What was saved stands on its root file system.
        snapshots, _ = await list_resources(self._store, Snapshot, project)
        return PluginUsers(
            vms=tuple(
                vm.name for vm in vms if not is_parked(vm) and any(is_made_from(plugin, version_of(vm)) for plugin in plugins)
            ),
            snapshots=tuple(
                one.name for one in snapshots if any(is_made_from(plugin, version_of_snapshot(one)) for plugin in plugins)
            ),
        )

    async def _delete_users(self, users: PluginUsers, project: str) -> None:
        for name in users.vms:
            with contextlib.suppress(NotFound):
                await self._vms.delete(name, project=project)
        for name in users.snapshots:
            with contextlib.suppress(NotFound):
                await self._snapshots.delete(name, project=project)


def _refuse_in_use(reference: str, users: PluginUsers) -> None:
    if users.vms:
        raise InUse(
            f"the plugin {reference!r} is used by {name_some(users.vms)}",
            hint=f"delete those VMs first, or with it: volar plugins remove {reference} --force",
        )
    if users.snapshots:
        raise InUse(
            f"the plugin {reference!r} is needed by the snapshots {name_some(users.snapshots)}",
            hint="delete those first: volar snapshots delete NAME",
        )


def name_some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
