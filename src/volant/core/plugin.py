"""The plugin: an installed manifest with its artifacts."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec

from volant.core.condition import Conditions
from volant.core.ids import Digest
from volant.core.manifest import MAX_POOL, Manifest, convert_manifest
from volant.core.resource import Resource, Spec, Status
from volant.core.trust import SignedManifest, Verdict

ARTIFACTS_PRESENT = "ArtifactsPresent"
READY = "Ready"
FINALIZER = "volant/users"
"""Held while a VM is made from it."""


class PluginSpec(Spec, frozen=True, kw_only=True):
    version: str
    enabled: bool = True
    pool: Annotated[int, msgspec.Meta(ge=0, le=MAX_POOL)] | None = None
    """How many clones are kept ready to be taken; ``None`` is what the manifest says."""
    manifest: dict[str, Any]
    """The manifest as installed: ``Plugin.manifest`` gives it typed."""
    signed: SignedManifest | None = None
    """What its publisher signed; ``manifest`` is that but for the places of files."""
    previous: tuple[str, ...] = ()
    """The versions that were the default before this one, newest first."""


class ArtifactStatus(msgspec.Struct, frozen=True, kw_only=True):
    role: Annotated[str, msgspec.Meta(pattern=r"^(kernel|boot_initramfs|rootfs|initramfs|disk:.{1,64})$")]
    """Of a disk ``disk:`` and its name."""
    digest: Digest
    size_bytes: int
    state: Literal["present", "missing", "damaged"] = "present"


class PoolStatus(msgspec.Struct, frozen=True, kw_only=True):
    """``parked`` of ``wanted`` clones can be taken now; ``message`` says why there are fewer."""

    wanted: int = 0
    parked: int = 0
    message: str = ""


class PluginStatus(Status, frozen=True, kw_only=True):
    phase: Literal["Pending", "Ready", "Failed", "Deleting"] = "Pending"
    reason: str = ""
    message: str = ""
    artifacts: tuple[ArtifactStatus, ...] = ()
    vms: int = 0
    pool: PoolStatus = PoolStatus()
    trust: Verdict | None = None
    """What this host's trust policy made of its signature; None while nobody asks for one and it has none."""
    conditions: Conditions = ()
    observed_generation: int = 0


class Plugin(Resource[PluginSpec, PluginStatus], frozen=True, kw_only=True):
    kind: ClassVar[str] = "Plugin"
    plural: ClassVar[str] = "plugins"
    spec_type: ClassVar[type[Spec]] = PluginSpec
    status_type: ClassVar[type[Status]] = PluginStatus

    @property
    def manifest(self) -> Manifest:
        return convert_manifest(self.spec.manifest)

    @property
    def wanted_pool(self) -> int:
        return self.manifest.start.pool if self.spec.pool is None else self.spec.pool


def name_by_content(manifest: Manifest) -> dict[str, Any]:
    """The manifest with each file named by content alone: where somebody's copy lay is nobody's business here."""
    data: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(manifest))
    for part in (data.get("rootfs"), data.get("initramfs"), *(data.get("boot") or {}).values()):
        if isinstance(part, dict):
            part["url"] = f"artifact:{part.get('checksum', '')}"
    for disk in data.get("disks", ()):
        disk["source"] = f"artifact:{disk.get('checksum', '')}"
    return data


def wanted_artifacts(manifest: Manifest) -> dict[str, Digest]:
    """Digest by role of every file that the manifest names with a checksum."""
    found: dict[str, Digest] = {}
    if manifest.boot is not None:
        found["kernel"] = Digest(manifest.boot.kernel.checksum)
        if manifest.boot.initramfs is not None:
            found["boot_initramfs"] = Digest(manifest.boot.initramfs.checksum)
    if manifest.rootfs is not None:
        found["rootfs"] = Digest(manifest.rootfs.checksum)
    if manifest.initramfs is not None:
        found["initramfs"] = Digest(manifest.initramfs.checksum)
    return found | {f"disk:{disk.name}": Digest(disk.checksum) for disk in manifest.disks}
