"""What may be asked of plugins."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from volant.core.clock import Clock, format_time
from volant.core.errors import AlreadyExists, InUse, InvalidInput, NotFound, StaleRevision, TimedOut, WrongState
from volant.core.ids import Digest, new_uid
from volant.core.manifest import MAX_POOL, Manifest, convert_manifest
from volant.core.plugin import FINALIZER, Plugin, PluginSpec, PluginStatus, wanted_artifacts
from volant.core.resource import Meta
from volant.core.snapshot import Snapshot
from volant.core.vm import VM, is_parked
from volant.intent.follow import follow_resource
from volant.store.contract import Store
from volant.store.records import create_of, find_resource, key_of, list_resources, update_of

ArtifactSize = Callable[[Digest], Awaitable[int | None]]
"""The size in bytes of a stored artifact, None when it is not there."""

_FIELD_OF_ROLE = {"kernel": "boot.kernel", "boot_initramfs": "boot.initramfs", "rootfs": "rootfs", "initramfs": "initramfs"}


class PluginIntent:
    def __init__(self, store: Store, clock: Clock, artifact_size: ArtifactSize) -> None:
        self._store = store
        self._clock = clock
        self._artifact_size = artifact_size

    async def install(self, manifest: object, *, project: str = "default") -> tuple[Plugin, bool]:
        """Write a plugin down; the second answer is False when the very same one was installed already.

        Raises:
            InvalidInput: the manifest breaks a rule, names no checksum, or names a file that was not uploaded.
            AlreadyExists: a plugin of that name is installed and is not the same.
        """
        checked = convert_manifest(manifest)
        _check_bootable(checked)
        await self._check_artifacts(checked)
        assert isinstance(manifest, dict)
        spec = PluginSpec(version=checked.version, enabled=checked.enabled, manifest=_without_places(checked))
        now = format_time(self._clock.now())
        plugin = Plugin(
            meta=Meta(
                name=checked.name,
                uid=new_uid(),
                project=project,
                labels=checked.labels,
                created_at=now,
                finalizers=(FINALIZER,),
            ),
            spec=spec,
            status=PluginStatus(),
        )
        try:
            revision = await self._store.transact([create_of(plugin)])
        except AlreadyExists:
            existing = await find_resource(self._store, Plugin, project, checked.name)
            if existing is not None and not existing.deleting and existing.spec == spec:
                return existing, False
            raise AlreadyExists(
                f"a plugin named {checked.name!r} is installed already"
                + (f" (version {existing.spec.version})" if existing is not None else ""),
                hint=f"volar plugins remove {checked.name}, then install this one",
            ) from None
        return msgspec.structs.replace(plugin, revision=revision), True

    async def get(self, name: str, *, project: str = "default") -> Plugin:
        plugin = await find_resource(self._store, Plugin, project, name)
        if plugin is None:
            raise NotFound(f"there is no plugin named {name!r}", hint="volar plugins list shows those installed")
        return plugin

    async def list(self, *, project: str = "default", labels: dict[str, str] | None = None) -> tuple[list[Plugin], int]:
        return await list_resources(self._store, Plugin, project, labels)

    async def remove(self, name: str, *, project: str = "default") -> Plugin:
        """Mark it; its artifacts go with it unless another plugin needs them. Raises InUse while VMs or snapshots need it."""
        while True:
            plugin = await self.get(name, project=project)
            if plugin.deleting:
                return plugin
            # A VM created after this look and before the mark keeps the plugin: its reconciler waits for the last user.
            await self._refuse_in_use(plugin)
            meta = msgspec.structs.replace(plugin.meta, deleting_at=format_time(self._clock.now()))
            try:
                revision = await self._store.transact([update_of(msgspec.structs.replace(plugin, meta=meta))])
            except StaleRevision:
                continue
            return msgspec.structs.replace(plugin, meta=meta, revision=revision)

    async def set_pool(
        self, name: str, size: int | None, *, project: str = "default", expected_generation: int | None = None
    ) -> Plugin:
        """Keep ``size`` clones of it ready to be taken; ``None`` is what its manifest says."""
        if size is not None and not 0 <= size <= MAX_POOL:
            raise InvalidInput(f"a pool has 0 to {MAX_POOL} clones", field="pool")
        while True:
            plugin = await self.get(name, project=project)
            if plugin.deleting:
                raise WrongState(f"the plugin {name!r} is being removed")
            if expected_generation is not None and plugin.meta.generation != expected_generation:
                raise StaleRevision(f"the plugin {name!r} is at generation {plugin.meta.generation}, not {expected_generation}")
            if plugin.spec.pool == size:
                return plugin
            meta = msgspec.structs.replace(plugin.meta, generation=plugin.meta.generation + 1)
            changed = msgspec.structs.replace(plugin, meta=meta, spec=msgspec.structs.replace(plugin.spec, pool=size))
            try:
                revision = await self._store.transact([update_of(changed)])
            except StaleRevision:
                continue
            return msgspec.structs.replace(changed, revision=revision)

    async def wait(self, plugin: Plugin, *, timeout_s: float) -> Plugin | None:
        """Follow ``plugin`` until its artifacts were checked, or until it is gone when it is being removed."""
        try:
            async with asyncio.timeout(timeout_s):
                async for current in follow_resource(self._store, Plugin, key_of(plugin), plugin.uid):
                    if current is None or (not plugin.deleting and current.status.phase in ("Ready", "Failed")):
                        return current
        except TimeoutError:
            raise TimedOut(f"plugin {plugin.name!r} was not settled after {timeout_s:g} s") from None
        return None

    async def _refuse_in_use(self, plugin: Plugin) -> None:
        vms, _ = await list_resources(self._store, VM, plugin.meta.project)
        users = [vm.name for vm in vms if vm.spec.plugin == plugin.name and not is_parked(vm)]
        if users:
            raise InUse(f"the plugin {plugin.name!r} is used by {_name_some(users)}", hint="delete those VMs first")
        snapshots, _ = await list_resources(self._store, Snapshot, plugin.meta.project)
        # What was saved stands on its root file system.
        kept = [snapshot.name for snapshot in snapshots if snapshot.status.plugin == plugin.name]
        if kept:
            hint = "delete those first: volar snapshots delete NAME"
            raise InUse(f"the plugin {plugin.name!r} is needed by the snapshots {_name_some(kept)}", hint=hint)

    async def _check_artifacts(self, manifest: Manifest) -> None:
        for role, digest in wanted_artifacts(manifest).items():
            field = _FIELD_OF_ROLE[role]
            if not digest:
                raise InvalidInput(
                    f"{field} has no checksum", field=f"{field}.checksum", hint="every file is named by its sha256"
                )
            if await self._artifact_size(digest) is None:
                raise InvalidInput(
                    f"the file of {field} ({digest}) was not uploaded",
                    field=field,
                    hint="volar plugins install uploads the files beside the manifest; PUT /api/v1/artifacts/DIGEST does one",
                )


def _check_bootable(manifest: Manifest) -> None:
    if manifest.boot is None:
        raise InvalidInput("the manifest names no kernel", field="boot.kernel", hint="build it with: fledge build")
    if manifest.rootfs is not None and manifest.boot.initramfs is None:
        raise InvalidInput("a root file system needs the initramfs that mounts it", field="boot.initramfs")
    if manifest.rootfs is not None and manifest.rootfs.format != "raw":
        raise InvalidInput("a root file system is a raw image", field="rootfs.format")
    if manifest.network.mode != "bridged":
        raise InvalidInput(f"network mode {manifest.network.mode!r} is not offered by this version", field="network.mode")
    for field, used in (("disks", manifest.disks), ("devices.pci_passthrough", manifest.devices.pci_passthrough)):
        if used:
            raise InvalidInput(f"{field} is not offered by this version", field=field)


def _without_places(manifest: Manifest) -> dict[str, Any]:
    """The manifest with each file named by content alone: where somebody's copy lay is nobody's business here."""
    data: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(manifest))
    for part in (data.get("rootfs"), data.get("initramfs"), *(data.get("boot") or {}).values()):
        if part:
            part["url"] = f"artifact:{part['checksum']}"
    return data


def _name_some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
