"""Reading what pools there are, and what their clones take."""

from __future__ import annotations

import msgspec

from volant.core.plugin import Plugin
from volant.core.vm import VM, is_parked
from volant.store.contract import Store
from volant.store.records import list_resources


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """The pool of one plugin: ``parked`` of ``wanted`` clones can be taken now."""

    plugin: str
    wanted: int
    parked: int
    reserved_mb: int
    """MiB that its clones may take of the host's memory, those in the making included."""
    message: str = ""
    """Why there are fewer than were asked for."""


class PoolIntent:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def list(self, *, project: str = "default") -> list[Pool]:
        """Those of every plugin that wants clones or still has some, by the plugin's name."""
        plugins, _ = await list_resources(self._store, Plugin, project)
        vms, _ = await list_resources(self._store, VM, project)
        clones: dict[str, list[VM]] = {}
        for vm in vms:
            if is_parked(vm):
                clones.setdefault(vm.spec.plugin, []).append(vm)
        return [
            _describe(plugin, clones.get(plugin.name, [])) for plugin in plugins if plugin.wanted_pool or plugin.name in clones
        ]


def _describe(plugin: Plugin, clones: list[VM]) -> Pool:
    return Pool(
        plugin=plugin.name,
        wanted=plugin.wanted_pool,
        parked=sum(vm.status.phase == "Parked" and not vm.deleting for vm in clones),
        reserved_mb=sum(vm.spec.memory_mb or 0 for vm in clones),
        message=plugin.status.pool.message,
    )
