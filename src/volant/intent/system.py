"""What may be asked of the whole."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from volant.core.errors import NotFound, WrongState
from volant.core.node import Node
from volant.core.plugin import Plugin
from volant.core.plugin_versions import is_default
from volant.core.vm import VM, is_parked
from volant.intent.nodes import NodeIntent
from volant.intent.plugins import PluginIntent
from volant.intent.vms import VMIntent
from volant.store.cache import Cache
from volant.store.contract import Store, Stored
from volant.store.records import list_resources

BY_STATE = "state"
"""The cache's index of VMs by what the summary counts, those of a pool left out."""

_READY = "is ready"


def index_state(stored: Stored) -> Iterator[str]:
    if stored.key.kind == VM.kind and stored.data["spec"]["power"] != "parked":
        yield stored.data["status"]["phase"]
        if stored.data["status"]["ready"]:
            yield _READY


class SystemIntent:
    """A ``cache`` has the index BY_STATE."""

    def __init__(self, store: Store, vms: VMIntent, plugins: PluginIntent, nodes: NodeIntent, cache: Cache | None = None) -> None:
        self._store = store
        self._cache = cache
        self._nodes = nodes
        self._plugins = plugins
        self._vms = vms

    async def drain(self) -> int:
        """Have nothing new placed on any node, ask every VM to stop and give up every pool; return how many VMs were not
        asked before."""
        nodes, _ = await list_resources(self._store, Node, "")
        for node in nodes:
            with contextlib.suppress(NotFound):
                await self._nodes.cordon(node.name)
        plugins, _ = await list_resources(self._store, Plugin, None)
        for plugin in plugins:
            if plugin.wanted_pool:
                with contextlib.suppress(NotFound, WrongState):
                    await self._plugins.set_pool(plugin.name, 0, project=plugin.meta.project)
        vms, _ = await list_resources(self._store, VM, None)
        asked = 0
        for vm in vms:
            if vm.deleting or vm.spec.power == "stopped" or is_parked(vm):
                continue
            try:
                await self._vms.stop(vm.name, project=vm.meta.project, disrupt=True)
            except (NotFound, WrongState):
                continue  # it was deleted in the meantime, which ends it as well
            asked += 1
        return asked

    async def summary(self) -> dict[str, Any]:
        counts = await self._count_states()
        ready = counts.pop(_READY, 0)
        plugins = await self._store.list(Plugin.kind)
        return {
            "vms": sum(counts.values()),
            "vms_by_phase": dict(sorted(counts.items())),
            "vms_ready": ready,
            "plugins": sum(is_default(stored.key.name) for stored in plugins.items),
        }

    async def _count_states(self) -> dict[str, int]:
        if self._cache is not None and await self._cache.catch_up():
            return self._cache.counts(BY_STATE)
        listing = await self._store.list(VM.kind)
        return dict(Counter(value for stored in listing.items for value in index_state(stored)))
