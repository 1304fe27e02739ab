"""The templates of this node as people ask for them: what there is, make one now, remove what nothing stands on."""

from __future__ import annotations

from collections import Counter

import msgspec

from volant.core.cards import bare_cards
from volant.core.clock import Clock, format_time
from volant.core.defaults import fill_in
from volant.core.errors import NotFound, Unavailable, WrongState
from volant.core.ids import new_run_id, new_uid
from volant.core.plugin import Plugin
from volant.core.plugin_versions import split_reference
from volant.core.resource import Meta
from volant.core.snapshot import Snapshot
from volant.core.template import Template, TemplateKind
from volant.core.vm import VM, VMSpec, VMStatus
from volant.hypervisor.driver import Driver
from volant.reconcile.template_build import BUILD_SLOT, TemplateBuilder
from volant.reconcile.template_key import derive_template_key
from volant.reconcile.templates import NEEDED, TemplateKeeper
from volant.reconcile.vm_start import VMStarter
from volant.store.contract import Store
from volant.store.plugins import find_plugin

KEPT_IN_MEMORY_S = 600.0
"""The memory of a template is held this long after its last use, for the clones that may come."""


class TemplateDesk:
    """Implements door.TemplateDoor."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        driver: Driver,
        keeper: TemplateKeeper,
        builder: TemplateBuilder,
        starter: VMStarter,
    ) -> None:
        self._store = store
        self._clock = clock
        self._driver = driver
        self._keeper = keeper
        self._builder = builder
        self._starter = starter

    async def list_templates(self) -> list[Template]:
        found = await self._keeper.list_templates(await self.count_users(), self._driver.is_base_held)
        return sorted(found, key=lambda template: template.used_at, reverse=True)

    async def build_template(
        self, plugin: str, *, project: str = "default", cpu_cores: int | None, memory_mb: int | None
    ) -> Template:
        found = await find_plugin(self._store, project, plugin)
        if found is None or found.deleting:
            raise NotFound(f"there is no plugin named {plugin!r}", hint="volar plugins list shows those installed")
        if found.manifest.agent == "none":
            raise WrongState(f"the plugin {plugin!r} cannot have a template: its guest has no agent that could be told who it is")
        if not self._keeper.is_offered:
            raise Unavailable(f"the driver {self._driver.name} cannot start clones")
        kind: TemplateKind = found.manifest.start.template
        like = self._imagine(found, cpu_cores, memory_mb)
        manifest, machine, media = await self._starter.resolve(like)
        if not self._driver.capabilities_of(machine) >= NEEDED:
            raise Unavailable(f"{machine.hypervisor} cannot start clones: it shares no memory between machines")
        key = derive_template_key(machine, media, like.spec, manifest, kind, project=project)
        if self._keeper.store.find(key) is None:
            await self._keeper.make_now(key, lambda: self._builder.build(like, key, kind))
        return next(template for template in await self.list_templates() if template.key == key)

    async def prune_templates(self) -> list[Template]:
        before = await self.list_templates()
        gone = await self._keeper.evict(0, set(await self.count_users()))
        await self.release_memory()
        return [template for template in before if template.key in gone]

    async def tend(self, limit_bytes: int) -> None:
        """Keep within the limits, in memory and on the disk."""
        for key in await self._keeper.evict(limit_bytes, set(await self.count_users())):
            self._keeper.forget(key)
        await self.release_memory()

    async def release_memory(self) -> None:
        recently = self._clock.now().timestamp() - KEPT_IN_MEMORY_S
        recent = {entry.name for entry in await self._keeper.store.list_entries() if entry.used_at >= recently}
        await self._driver.release_bases(set(await self.count_users()) | recent)

    async def count_users(self) -> Counter[str]:
        """How many VMs and snapshots stand on each template, by the registry itself: nothing may be removed on a rumour."""
        users: Counter[str] = Counter()
        for kind in (VM.kind, Snapshot.kind):
            for stored in (await self._store.list(kind)).items:
                key = stored.data["status"].get("template", "")
                if key:
                    users[key] += 1
        return users

    def _imagine(self, plugin: Plugin, cpu_cores: int | None, memory_mb: int | None) -> VM:
        uid = new_uid()
        spec = fill_in(VMSpec(plugin=plugin.name, cpu_cores=cpu_cores, memory_mb=memory_mb), plugin.manifest)
        meta = Meta(
            name=f"template-{split_reference(plugin.name)[0][:50]}", uid=uid, project=plugin.meta.project, created_at=self._at()
        )
        status = VMStatus(
            slot=BUILD_SLOT,
            run_id=new_run_id(),
            addresses=bare_cards(uid, spec),
            plugin_uid=plugin.uid,
            plugin_version=plugin.spec.version,
        )
        return VM(meta=meta, spec=msgspec.structs.replace(spec, ports=()), status=status)

    def _at(self) -> str:
        return format_time(self._clock.now())
