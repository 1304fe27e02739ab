"""What may be asked of plugins."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from volant.core.clock import Clock, format_time
from volant.core.errors import (
    AlreadyExists,
    InUse,
    InvalidInput,
    NotFound,
    StaleRevision,
    TimedOut,
    Unavailable,
    Untrusted,
    WrongState,
)
from volant.core.ids import Digest, new_uid
from volant.core.manifest import MAX_POOL, Manifest, convert_manifest, read_manifest
from volant.core.plugin import FINALIZER, Plugin, PluginSpec, PluginStatus, name_by_content, wanted_artifacts
from volant.core.plugin_source import SOURCE_LABEL, PluginFetcher, Report
from volant.core.resource import Meta
from volant.core.snapshot import Snapshot
from volant.core.trust import Judge, SignedManifest
from volant.core.vm import VM, is_parked
from volant.intent.follow import follow_resource
from volant.store.contract import Store
from volant.store.records import create_of, find_resource, key_of, list_resources, update_of

ArtifactSize = Callable[[Digest], Awaitable[int | None]]
"""The size in bytes of a stored artifact, None when it is not there."""

_FIELD_OF_ROLE = {"kernel": "boot.kernel", "boot_initramfs": "boot.initramfs", "rootfs": "rootfs", "initramfs": "initramfs"}


class PluginIntent:
    """``fetcher`` brings plugins that lie elsewhere; without one only uploads are taken."""

    def __init__(
        self, store: Store, clock: Clock, artifact_size: ArtifactSize, trust: Judge, fetcher: PluginFetcher | None = None
    ) -> None:
        self._store = store
        self._clock = clock
        self._artifact_size = artifact_size
        self._trust = trust
        self._fetcher = fetcher

    async def install_from(
        self, source: str, checksum: str = "", *, report: Report = lambda _: None, project: str = "default"
    ) -> tuple[Plugin, bool]:
        """Fetch the plugin at ``source`` and install it as ``install`` does; its label ``volant.source`` says where it was.

        What can be refused is refused before anything large is fetched.

        Raises:
            Unavailable: nobody here fetches. Others: as ``install``, ``PluginFetcher.open`` and ``OpenPlugin.fetch``.
        """
        if self._fetcher is None:
            raise Unavailable("this volantd fetches nothing", hint="fledge pull, then: volar plugins install DIR")
        async with self._fetcher.open(source, checksum) as opened:
            found = opened.found
            checked, spec = _read_plugin(found.manifest, found.signed)
            await self._check_trust(checked.name, spec)
            existing = await find_resource(self._store, Plugin, project, checked.name)
            if existing is not None and not _is_there(existing, spec):
                raise _refuse_other(checked.name, existing)
            await opened.fetch(report)
        return await self.install(found.manifest, found.signed, source=found.source, project=project)

    async def install(
        self, manifest: object, signed: SignedManifest | None = None, *, source: str = "", project: str = "default"
    ) -> tuple[Plugin, bool]:
        """Write a plugin down; the second answer is False when the very same one was installed already.

        ``signed`` is what its publisher signed, the same as ``manifest`` but for the places of files. One that comes later
        than the plugin itself is kept from then on.

        Raises:
            InvalidInput: the manifest breaks a rule, names no checksum, names a file that was not uploaded, or is not the
                signed one. Untrusted: this host's trust policy does not let it in.
            AlreadyExists: a plugin of that name is installed and is not the same.
        """
        checked, spec = _read_plugin(manifest, signed)
        await self._check_artifacts(checked)
        await self._check_trust(checked.name, spec)
        now = format_time(self._clock.now())
        plugin = Plugin(
            meta=Meta(
                name=checked.name,
                uid=new_uid(),
                project=project,
                labels=_label(checked, source),
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
            if existing is not None and _is_there(existing, spec):
                return await self._keep_signature(existing, signed), False
            raise _refuse_other(checked.name, existing) from None
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

    async def _keep_signature(self, plugin: Plugin, signed: SignedManifest | None) -> Plugin:
        """``plugin`` with ``signed``, unless that is none: a signature is not lost because somebody installs without it."""
        while signed is not None and plugin.spec.signed != signed:
            meta = msgspec.structs.replace(plugin.meta, generation=plugin.meta.generation + 1)
            changed = msgspec.structs.replace(plugin, meta=meta, spec=msgspec.structs.replace(plugin.spec, signed=signed))
            try:
                return msgspec.structs.replace(changed, revision=await self._store.transact([update_of(changed)]))
            except StaleRevision:
                found = await self.get(plugin.name, project=plugin.meta.project)
                if found.uid != plugin.uid:
                    raise
                plugin = found
        return plugin

    async def _check_trust(self, name: str, spec: PluginSpec) -> None:
        if self._trust.policy == "off" and spec.signed is None:
            return
        verdict = await self._trust.judge(spec.manifest, spec.signed)
        if verdict.reason == "Unreadable":
            raise InvalidInput(verdict.message, field="signature")
        if verdict.refused:
            raise Untrusted(f"the plugin {name!r} is not trusted here: {verdict.message}", hint=verdict.hint or None)

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


def _read_plugin(manifest: object, signed: SignedManifest | None) -> tuple[Manifest, PluginSpec]:
    """The manifest as it counts, and what is written down of it. Raises InvalidInput."""
    checked = convert_manifest(manifest)
    if signed is not None:
        checked = _read_signed(signed, checked)
    _check_bootable(checked)
    named = name_by_content(checked)
    return checked, PluginSpec(version=checked.version, enabled=checked.enabled, manifest=named, signed=signed)


def _label(manifest: Manifest, source: str) -> dict[str, str]:
    """The manifest's labels, but where the plugin came from says nobody but who brought it."""
    labels = {key: value for key, value in manifest.labels.items() if key != SOURCE_LABEL}
    return {**labels, SOURCE_LABEL: source} if source else labels


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


def _read_signed(signed: SignedManifest, sent: Manifest) -> Manifest:
    """The manifest in the bytes that were signed. Raises InvalidInput when they are another one than was ``sent``."""
    manifest = read_manifest(signed.manifest.encode())
    if name_by_content(manifest) != name_by_content(sent):
        raise InvalidInput(
            "the signed manifest is another one than the manifest beside it",
            field="signed_manifest",
            hint="they may differ in the urls of files alone; each file has its checksum when it is signed",
        )
    return manifest


def _is_there(existing: Plugin, spec: PluginSpec) -> bool:
    """True when ``existing`` is what ``spec`` describes, whoever signed it."""
    same = msgspec.structs.replace(existing.spec, signed=None) == msgspec.structs.replace(spec, signed=None)
    return same and not existing.deleting


def _refuse_other(name: str, existing: Plugin | None) -> AlreadyExists:
    which = "" if existing is None else f" (version {existing.spec.version})"
    return AlreadyExists(
        f"a plugin named {name!r} is installed already{which}", hint=f"volar plugins remove {name}, then install this one"
    )


def _name_some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
