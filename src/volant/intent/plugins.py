"""What may be asked of plugins."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from volant.core.clock import Clock, format_time
from volant.core.disks import check_plugin_devices
from volant.core.errors import (
    AlreadyExists,
    Conflict,
    Exhausted,
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
from volant.core.plugin_versions import (
    MAX_VERSIONS,
    follow_up,
    is_default,
    name_version,
    split_reference,
    step_back,
    step_forward,
)
from volant.core.resource import Meta
from volant.core.trust import Judge, SignedManifest
from volant.core.vm import VM
from volant.intent.follow import follow_resource
from volant.intent.listing import Ask, Lister, Page
from volant.intent.plugin_index import IndexReader, PluginIndexes
from volant.intent.plugin_list import PLUGINS
from volant.intent.plugin_removal import PluginRemoval, name_users
from volant.intent.plugin_versions import PluginVersions
from volant.store.cache import Cache
from volant.store.contract import Operation, Store
from volant.store.plugins import find_plugin_of, find_version, list_needed, list_versions
from volant.store.records import create_of, key_of, list_resources, update_of

ArtifactSize = Callable[[Digest], Awaitable[int | None]]
"""The size in bytes of a stored artifact, None when it is not there."""

ATTEMPTS = 16

_FIELD_OF_ROLE = {"kernel": "boot.kernel", "boot_initramfs": "boot.initramfs", "rootfs": "rootfs", "initramfs": "initramfs"}


class InstallHow(msgspec.Struct, frozen=True, kw_only=True):
    """``as_default``: the plugin's name means this version from now on. ``replace``: of the same version with another content.
    ``name`` and ``version`` are what it has to be, where they are given."""

    as_default: bool = True
    replace: bool = False
    name: str = ""
    version: str = ""


PLAINLY = InstallHow()


class PluginIntent:
    """``fetcher`` brings plugins that lie elsewhere; without one only uploads are taken."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        artifact_size: ArtifactSize,
        trust: Judge,
        fetcher: PluginFetcher | None = None,
        cache: Cache | None = None,
        reader: IndexReader | None = None,
    ) -> None:
        self.versions = PluginVersions(store)
        self.indexes = PluginIndexes(store, clock, reader)
        self.removal = PluginRemoval(store, clock, self.versions)
        self._lister = Lister(store, cache)
        self._store = store
        self._clock = clock
        self._artifact_size = artifact_size
        self._trust = trust
        self._fetcher = fetcher

    async def install_from(
        self,
        source: str,
        checksum: str = "",
        *,
        report: Report = lambda _: None,
        how: InstallHow = PLAINLY,
        project: str = "default",
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
            _check_named(how, checked)
            existing = await find_version(self._store, project, checked.name, checked.version)
            if existing is not None and not _is_there(existing, spec):
                await self._check_replaceable(existing, how, project)
            await opened.fetch(report)
        return await self.install(found.manifest, found.signed, source=found.source, how=how, project=project)

    async def install(
        self,
        manifest: object,
        signed: SignedManifest | None = None,
        *,
        source: str = "",
        how: InstallHow = PLAINLY,
        project: str = "default",
        dry_run: bool = False,
    ) -> tuple[Plugin, bool]:
        """Write a plugin down, or with ``dry_run`` only say what would be; the second answer is False when the very same one was
        there already, and stays as it is.

        Another version comes beside those that there are, as the default unless ``how`` says otherwise. ``signed`` is what its
        publisher signed, the same as ``manifest`` but for the places of files. One that comes later than the plugin itself is
        kept from then on.

        Raises:
            InvalidInput: the manifest breaks a rule, names no checksum, names a file that was not uploaded, is not the
                signed one, or is of another name or version than ``how`` wants. Untrusted: this host's trust policy does not
                let it in.
            AlreadyExists: that version is installed and is not the same. InUse: likewise, and VMs are made from it.
            Exhausted: there are too many versions of it.
        """
        checked, spec = _read_plugin(manifest, signed)
        _check_named(how, checked)
        await self._check_artifacts(checked)
        await self._check_trust(checked.name, spec)
        now = format_time(self._clock.now())
        meta = Meta(
            name=checked.name,
            uid=new_uid(),
            project=project,
            labels=_label(checked, source),
            created_at=now,
            finalizers=(FINALIZER,),
        )
        plugin = Plugin(meta=meta, spec=spec, status=PluginStatus())
        for _ in range(ATTEMPTS):
            versions = await list_versions(self._store, project, checked.name)
            existing = next((one for one in versions if one.spec.version == checked.version), None)
            if existing is not None and _is_there(existing, spec):
                return (existing if dry_run else await self._keep_signature(existing, signed)), False
            if existing is not None:
                await self._check_replaceable(existing, how, project)
            placed, operations = _place(plugin, existing, versions, how)
            if dry_run:
                return placed, True
            try:
                revision = await self._store.transact(operations)
            except (AlreadyExists, StaleRevision, NotFound):
                continue
            return msgspec.structs.replace(placed, revision=revision), True
        raise Conflict(f"the plugin {checked.name!r} changes all the time", hint="try again")

    async def get(self, name: str, *, project: str = "default") -> Plugin:
        """``name`` may name a version: ``nginx@1.2.0``. Raises NotFound."""
        return await self.versions.get(name, project=project)

    async def get_of(self, vm: VM) -> Plugin:
        """The version that ``vm`` was made from. Raises NotFound when it is gone."""
        plugin = await find_plugin_of(self._store, vm)
        if plugin is None:
            raise NotFound(f"the plugin {vm.spec.plugin!r} of VM {vm.name!r} is not installed")
        return plugin

    async def list(self, *, project: str = "default", labels: dict[str, str] | None = None) -> tuple[list[Plugin], int]:
        """The default version of each."""
        plugins, revision = await list_resources(self._store, Plugin, project, labels)
        return [plugin for plugin in plugins if is_default(plugin.name)], revision

    async def list_page(self, ask: Ask, *, project: str = "default") -> Page[Plugin]:
        """Raises InvalidInput for an order, a filter or a cursor that cannot be."""
        return await self._lister.list_page(PLUGINS, project, ask)

    async def remove(self, name: str, *, force: bool = False, project: str = "default") -> Plugin:
        """See PluginRemoval.remove."""
        return await self.removal.remove(name, force=force, project=project)

    async def wait_gone(self, name: str, *, timeout_s: float, project: str = "default") -> None:
        """See PluginRemoval.wait_gone."""
        await self.removal.wait_gone(name, timeout_s=timeout_s, project=project)

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

    async def list_needed(self) -> dict[Digest, set[str]]:
        """Every file that a plugin or a VM needs, and which do."""
        return await list_needed(self._store)

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

    async def _check_replaceable(self, existing: Plugin, how: InstallHow, project: str) -> None:
        """Raises AlreadyExists, or InUse, unless another content may take its place."""
        version = existing.spec.version
        name = split_reference(existing.name)[0]
        if existing.deleting:
            raise AlreadyExists(f"version {version} of the plugin {name!r} is being removed", hint="wait until it is gone")
        if not how.replace:
            raise AlreadyExists(
                f"a plugin named {name!r} is installed already (version {version}), and it is another one",
                hint="give this one a version of its own, or put it in the other's place: --replace",
            )
        users = await self.removal.find_users(name_version(name, version), project=project)
        if users.count:
            raise InUse(
                f"version {version} of the plugin {name!r} cannot be replaced: {name_users(users)} need it",
                hint="give this one a version of its own",
            )

    async def _check_artifacts(self, manifest: Manifest) -> None:
        for role, digest in wanted_artifacts(manifest).items():
            field = _FIELD_OF_ROLE.get(role, f"disks[{role.partition(':')[2]}]")
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
    check_plugin_devices(manifest)
    if manifest.devices.pci_passthrough:
        raise InvalidInput("devices.pci_passthrough is not offered by this version", field="devices.pci_passthrough")


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
    return existing.spec.manifest == spec.manifest and not existing.deleting


def _check_named(how: InstallHow, manifest: Manifest) -> None:
    if how.name and (manifest.name, manifest.version) != (how.name, how.version or manifest.version):
        wanted = how.name + (f" {how.version}" if how.version else "")
        raise InvalidInput(f"that is {manifest.name} {manifest.version}, not {wanted}", field="name")


def _place(plugin: Plugin, existing: Plugin | None, versions: list[Plugin], how: InstallHow) -> tuple[Plugin, list[Operation]]:
    """``plugin`` under the name that it is to have among ``versions``, and what writes that."""
    if existing is not None:
        meta = msgspec.structs.replace(plugin.meta, name=existing.name, generation=existing.meta.generation + 1)
        spec = msgspec.structs.replace(plugin.spec, pool=existing.spec.pool, previous=existing.spec.previous)
        placed = msgspec.structs.replace(plugin, meta=meta, spec=spec, revision=existing.revision)
        return placed, [update_of(placed)]
    head = next((one for one in versions if is_default(one.name)), None)
    if head is None:
        return plugin, [create_of(plugin)]
    if head.deleting:
        raise AlreadyExists(f"the plugin {plugin.name!r} is being removed", hint="wait until it is gone")
    if len(versions) >= MAX_VERSIONS:
        raise Exhausted(
            f"there are {len(versions)} versions of {plugin.name!r}, as many as there may be",
            hint=f"volar plugins remove {plugin.name}@VERSION",
        )
    if not how.as_default:
        placed = step_back(plugin)
        return placed, [create_of(placed)]
    forward = step_forward(head, plugin, follow_up(head, plugin.spec.version))
    return forward, [update_of(forward), create_of(step_back(head))]
