"""Plugins by what names them: a reference somebody wrote, or the version that a VM was made from."""

from __future__ import annotations

from volant.core.deployment import DeploymentRevision
from volant.core.disks import own_artifacts
from volant.core.ids import Digest
from volant.core.plugin import Plugin, wanted_artifacts
from volant.core.plugin_versions import is_default, name_version, split_reference, version_of
from volant.core.vm import VM
from volant.store.cache import Cache
from volant.store.contract import Key, Store
from volant.store.records import find_resource, list_resources, read_resource

_LOOKS = 3


async def find_plugin(store: Store, project: str, reference: str) -> Plugin | None:
    """The plugin that ``nginx`` or ``nginx@1.2.0`` means."""
    name, version = split_reference(reference)
    return await find_version(store, project, name, version)


async def find_version(store: Store, project: str, name: str, version: str) -> Plugin | None:
    """The default for an empty ``version``."""
    # It may become the default, or cease to be it, between two looks.
    for _ in range(_LOOKS):
        head = await find_resource(store, Plugin, project, name)
        if not version or (head is not None and head.spec.version == version):
            return head
        found = await find_resource(store, Plugin, project, name_version(name, version))
        if found is not None:
            return found
    return None


async def find_plugin_of(store: Store, vm: VM) -> Plugin | None:
    """The version that ``vm`` was made from, whatever is the default by now."""
    name, version = version_of(vm)
    return await find_version(store, vm.meta.project, name, version)


class PluginShelf:
    """The plugins that VMs were made from, each read once for every change of it. A version is what it is whoever asks, so that
    ``cache`` may say it; what it has not is asked of the store."""

    def __init__(self, store: Store, cache: Cache) -> None:
        self._store = store
        self._cache = cache
        self._read: dict[Key, Plugin] = {}

    async def find_of(self, vm: VM) -> Plugin | None:
        """As find_plugin_of."""
        name, version = version_of(vm)
        if version and self._cache.holds(Plugin.kind):
            for reference in (name, name_version(name, version)):
                plugin = self._take(Key(Plugin.kind, vm.meta.project, reference))
                if plugin is not None and plugin.spec.version == version:
                    return plugin
        return await find_plugin_of(self._store, vm)

    def _take(self, key: Key) -> Plugin | None:
        stored = self._cache.get(key)
        if stored is None:
            self._read.pop(key, None)
            return None
        plugin = self._read.get(key)
        if plugin is None or plugin.revision != stored.revision:
            plugin = self._read[key] = read_resource(Plugin, stored)
        return plugin


async def list_versions(store: Store, project: str, name: str) -> list[Plugin]:
    """Every version of the plugin ``name``, the default first, then the newest installed first."""
    plugins, _ = await list_resources(store, Plugin, project)
    found = [plugin for plugin in plugins if split_reference(plugin.name)[0] == name]
    found.sort(key=lambda plugin: plugin.meta.created_at, reverse=True)
    return sorted(found, key=lambda plugin: not is_default(plugin.name))


async def list_needed(store: Store) -> dict[Digest, set[str]]:
    """Every file that is needed, and by what: ``nginx@1.2.0`` of a plugin, ``VM web`` or ``deployment shop`` of those with files
    of their own."""
    needed: dict[Digest, set[str]] = {}
    plugins, _ = await list_resources(store, Plugin, None)
    for plugin in plugins:
        for digest in wanted_artifacts(plugin.manifest).values():
            needed.setdefault(digest, set()).add(name_version(split_reference(plugin.name)[0], plugin.spec.version))
    vms, _ = await list_resources(store, VM, None)
    for vm in vms:
        for digest in own_artifacts(vm.spec):
            needed.setdefault(digest, set()).add(f"VM {vm.name}")
    revisions, _ = await list_resources(store, DeploymentRevision, None)
    for revision in revisions:
        for digest in own_artifacts(revision.spec.vm):
            needed.setdefault(digest, set()).add(f"deployment {revision.spec.deployment}")
    return needed
