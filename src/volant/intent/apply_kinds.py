"""How each kind is applied: by its own intents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from volant.core.changes import EFFECTS
from volant.core.deployment import Deployment
from volant.core.errors import InvalidInput, NotFound
from volant.core.job import MUTABLE, CronJob, Job, JobSpec
from volant.core.manifest import convert_manifest
from volant.core.network import Network, NetworkSpec
from volant.core.node import Node
from volant.core.plugin import Plugin, name_by_content
from volant.core.plugin_versions import is_default, split_reference
from volant.core.quota import Quota
from volant.core.resource import Wanted
from volant.core.vm import VM, is_parked
from volant.intent.apply import AnyResource, Applier, How, read_wanted
from volant.intent.configuration import ConfigurationIntent
from volant.intent.deployments import DeploymentIntent
from volant.intent.nodes import NodeIntent
from volant.intent.plugins import PluginIntent
from volant.intent.vms import VMIntent
from volant.store.contract import Store
from volant.store.records import find_resource

if TYPE_CHECKING:
    from volant.intent import Intents

PROJECT = "default"


class PlainApplier:
    """A kind that is kept as it is written."""

    cls: type[AnyResource]
    project = PROJECT

    def __init__(self, store: Store) -> None:
        self._store = store

    def complete(self, fields: dict[str, Any]) -> dict[str, Any]:
        return fields

    def read(self, name: str, document: dict[str, Any]) -> Wanted[Any]:
        return read_wanted(self.cls, name, document)

    async def find(self, name: str) -> AnyResource | None:
        return await find_resource(self._store, self.cls, self.project, name)

    def effect(self, field: str) -> str:
        return "live"


class VMApplier(PlainApplier):
    cls: type[AnyResource] = VM

    def __init__(self, store: Store, vms: VMIntent, configuration: ConfigurationIntent) -> None:
        super().__init__(store)
        self._vms = vms
        self._configuration = configuration

    async def find(self, name: str) -> AnyResource | None:
        vm = await find_resource(self._store, VM, self.project, name)
        return None if vm is None or is_parked(vm) else vm

    async def create(self, wanted: Wanted[Any], how: How) -> AnyResource:
        return await self._vms.create(wanted, author=how.author, dry_run=how.dry_run)

    async def replace(self, current: AnyResource, wanted: Wanted[Any], how: How) -> AnyResource:
        return await self._configuration.replace(
            current.name, wanted, expected_generation=current.meta.generation, author=how.author, dry_run=how.dry_run
        )

    def effect(self, field: str) -> str:
        return "live" if field == "power" else EFFECTS.get(field, "live")


class Intent(Protocol):
    """What most kinds' intents have in common."""

    async def create(self, wanted: Wanted[Any], *, dry_run: bool = False) -> AnyResource: ...

    async def replace(
        self, name: str, wanted: Wanted[Any], *, expected_generation: int | None = None, dry_run: bool = False
    ) -> AnyResource: ...


class IntentApplier(PlainApplier):
    """``effects`` by field, where a change is not ``live``."""

    def __init__(self, store: Store, cls: type[AnyResource], intent: Intent, effects: dict[str, str] | None = None) -> None:
        super().__init__(store)
        self.cls = cls
        self._intent = intent
        self._effects = effects or {}

    async def create(self, wanted: Wanted[Any], how: How) -> AnyResource:
        return await self._intent.create(wanted, dry_run=how.dry_run)

    async def replace(self, current: AnyResource, wanted: Wanted[Any], how: How) -> AnyResource:
        return await self._intent.replace(current.name, wanted, expected_generation=current.meta.generation, dry_run=how.dry_run)

    def effect(self, field: str) -> str:
        return self._effects.get(field, "live")


class NodeApplier(PlainApplier):
    """A node registers itself: a file says of one that is there what an operator decides."""

    cls: type[AnyResource] = Node
    project = ""

    def __init__(self, store: Store, nodes: NodeIntent) -> None:
        super().__init__(store)
        self._nodes = nodes

    async def create(self, wanted: Wanted[Any], how: How) -> AnyResource:
        raise NotFound(f"there is no node named {wanted.name!r}", hint="a node is there once its volantd has run")

    async def replace(self, current: AnyResource, wanted: Wanted[Any], how: How) -> AnyResource:
        return await self._nodes.replace(current.name, wanted, expected_generation=current.meta.generation, dry_run=how.dry_run)


class DeploymentApplier(PlainApplier):
    cls: type[AnyResource] = Deployment

    def __init__(self, store: Store, deployments: DeploymentIntent) -> None:
        super().__init__(store)
        self._deployments = deployments

    async def create(self, wanted: Wanted[Any], how: How) -> AnyResource:
        return await self._deployments.create(wanted, author=how.author, dry_run=how.dry_run)

    async def replace(self, current: AnyResource, wanted: Wanted[Any], how: How) -> AnyResource:
        return await self._deployments.replace(
            current.name, wanted, expected_generation=current.meta.generation, author=how.author, dry_run=how.dry_run
        )

    def effect(self, field: str) -> str:
        return "rollout" if field in ("vm", "vm_labels") else "live"


class PluginApplier(PlainApplier):
    """A manifest of another version is installed beside those that are there, and the plugin's name means it from then on."""

    cls: type[AnyResource] = Plugin

    def __init__(self, store: Store, plugins: PluginIntent) -> None:
        super().__init__(store)
        self._plugins = plugins

    def complete(self, fields: dict[str, Any]) -> dict[str, Any]:
        if fields.get("manifest") is None:
            return fields
        return {**fields, "manifest": name_by_content(convert_manifest(fields["manifest"]))}

    def read(self, name: str, document: dict[str, Any]) -> Wanted[Any]:
        manifest = document.get("manifest")
        if not isinstance(manifest, dict):
            raise InvalidInput(
                f"there is no plugin {name!r}, and a new one needs a manifest",
                field="manifest",
                hint="fledge build writes one; volar plugins list shows those installed",
            )
        if manifest["name"] != split_reference(name)[0]:
            raise InvalidInput(f"its manifest is of {manifest['name']!r}, not {name!r}", field="name")
        if not is_default(name) and name != f"{manifest['name']}@{manifest['version']}":
            raise InvalidInput(f"its manifest is of version {manifest['version']}, not that of {name!r}", field="name")
        enabled = document.get("enabled", manifest.get("enabled", True))
        return read_wanted(Plugin, name, {**document, "enabled": enabled, "version": manifest["version"]})

    async def create(self, wanted: Wanted[Any], how: How) -> AnyResource:
        plugin, _ = await self._plugins.install(wanted.spec.manifest, wanted.spec.signed, dry_run=how.dry_run)
        return await self._set(plugin, wanted, how)

    async def replace(self, current: AnyResource, wanted: Wanted[Any], how: How) -> AnyResource:
        plugin: Plugin = current  # type: ignore[assignment]  # what find gave
        signed = None if wanted.spec.signed == plugin.spec.signed else wanted.spec.signed
        if signed is not None or wanted.spec.manifest != plugin.spec.manifest:
            plugin, _ = await self._plugins.install(wanted.spec.manifest, signed, dry_run=how.dry_run)
            if not how.dry_run and not is_default(plugin.name) and is_default(current.name):
                # What was installed already does not become the default by being installed again.
                plugin = await self._plugins.versions.set_default(current.name, plugin.spec.version)
        return await self._set(plugin, wanted, how)

    def effect(self, field: str) -> str:
        return "new VMs" if field == "manifest" else "live"

    async def _set(self, plugin: Plugin, wanted: Wanted[Any], how: How) -> Plugin:
        enabled, pool = wanted.spec.enabled, wanted.spec.pool
        if how.dry_run:
            return msgspec.structs.replace(plugin, spec=msgspec.structs.replace(plugin.spec, enabled=enabled, pool=pool))
        if plugin.spec.enabled != enabled:
            reference = f"{split_reference(plugin.name)[0]}@{plugin.spec.version}"
            plugin = next(iter(await self._plugins.versions.set_enabled(reference, enabled)))
        if plugin.spec.pool != pool:
            plugin = await self._plugins.set_pool(plugin.name, pool)
        return plugin


def appliers_of(store: Store, intents: Intents) -> dict[str, Applier]:
    """By kind, in the order in which one needs another."""
    appliers: tuple[Applier, ...] = (
        NodeApplier(store, intents.nodes),
        IntentApplier(store, Quota, intents.quotas),
        IntentApplier(store, Network, intents.networks, dict.fromkeys(NetworkSpec.__struct_fields__, "immutable")),
        PluginApplier(store, intents.plugins),
        VMApplier(store, intents.vms, intents.configuration),
        IntentApplier(store, Job, intents.jobs, dict.fromkeys(set(JobSpec.__struct_fields__) - MUTABLE, "immutable")),
        IntentApplier(store, CronJob, intents.cron_jobs, {"job": "next job"}),
        DeploymentApplier(store, intents.deployments),
    )
    return {applier.cls.kind: applier for applier in appliers}
