"""The disks of a VM beside its root: those that its plugin brings and those of its own spec, and what may be asked of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import msgspec

from volant.core.cards import card_networks
from volant.core.errors import InvalidInput
from volant.core.ids import Digest, check_digest
from volant.core.manifest import Manifest
from volant.core.vm import ExtraDisk, VMSpec

RESERVED = frozenset({"rootfs", "data"})
"""Serials of the root's own two."""

MICROVM_PLACES = 6
"""Of the eight virtio-mmio transports of QEMU's microvm: the agent's port and the random numbers have two."""

PLACES = {"qemu": MICROVM_PLACES, "cloud-hypervisor": 24, "simulated": 24}
"""How many disks and network cards fit into a machine, by hypervisor."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,19}")
_NAME_HINT = "1 to 20 letters, digits and . _ -, beginning with a letter or digit"


class WantedDisk(msgspec.Struct, frozen=True, kw_only=True):
    """``artifact`` is what is on it, or what it begins as when it is written to; empty for zeros of ``size_mib``. ``target`` is
    where the guest mounts it, empty for nowhere."""

    name: str
    artifact: Digest | None
    size_mib: int | None
    format: Literal["raw", "qcow2"]
    readonly: bool
    target: str

    @property
    def origin(self) -> str:
        return ":".join(str(part) for part in (self.artifact, self.size_mib) if part)


def extra_disks(spec: VMSpec, manifest: Manifest) -> Iterator[WantedDisk]:
    """The plugin's, then the VM's own."""
    for disk in manifest.disks:
        yield WantedDisk(
            name=disk.name,
            artifact=Digest(disk.checksum),
            size_mib=None,
            format=disk.format,
            readonly=disk.readonly,
            target=disk.target if disk.target.startswith("/") else "",
        )
    for own in spec.disks:
        yield own_disk(own)


def own_disk(disk: ExtraDisk) -> WantedDisk:
    artifact = Digest(disk.artifact) if disk.artifact else None
    return WantedDisk(name=disk.name, artifact=artifact, size_mib=disk.size_mb, format="raw", readonly=disk.readonly, target="")


def count_devices(spec: VMSpec, manifest: Manifest) -> int:
    """How many disks and network cards the VM has in all."""
    root = 0 if manifest.rootfs is None else 2 if spec.root == "disk" else 1
    return root + len(manifest.disks) + len(spec.disks) + len(card_networks(spec))


def check_disks(spec: VMSpec, manifest: Manifest) -> None:
    """Raises InvalidInput when a disk cannot be, or two have one name."""
    seen: set[str] = set()
    for disk in spec.disks:
        if not _NAME.fullmatch(disk.name):
            raise InvalidInput(
                f"{disk.name[:40]!r} cannot be the name of a disk",
                field="disks",
                hint=_NAME_HINT,
            )
        if disk.artifact:
            check_digest(disk.artifact, "disks")
        elif disk.size_mb is None:
            raise InvalidInput(f"the disk {disk.name!r} has neither size_mb nor artifact", field="disks")
        elif disk.readonly:
            raise InvalidInput(f"the disk {disk.name!r} is empty and would stay so", field="disks", hint="leave out readonly")
    for found in extra_disks(spec, manifest):
        if found.name in RESERVED or found.name in seen:
            raise InvalidInput(f"the disk {found.name!r} is there already", field="disks", hint="give it another name")
        seen.add(found.name)


def check_plugin_devices(manifest: Manifest) -> None:
    """Raises InvalidInput when no VM could be made of ``manifest`` because of its disks or its network mode."""
    for disk in manifest.disks:
        if not _NAME.fullmatch(disk.name):
            raise InvalidInput(f"{disk.name[:40]!r} cannot be the name of a disk", field="disks", hint=_NAME_HINT)
        if disk.target.startswith("/") and (not disk.target.strip("/") or ".." in disk.target.split("/")):
            raise InvalidInput(f"{disk.target[:80]!r} is no place for a disk", field="disks", hint="for example /srv/data")
    check_disks(VMSpec(plugin=manifest.name), manifest)
    if manifest.agent == "none" and manifest.network.mode == "vsock":
        raise InvalidInput("network mode vsock needs an agent in the guest", field="network.mode", hint="remove one of the two")
    mounted = [disk.name for disk in manifest.disks if disk.target.startswith("/")]
    if manifest.agent == "none" and mounted:
        raise InvalidInput(f"nobody in the guest would mount the disk {mounted[0]!r}", field="disks", hint="leave out its target")


def check_places(spec: VMSpec, manifest: Manifest, hypervisor: str) -> None:
    """Raises InvalidInput when the VM has more devices than fit into a machine of ``hypervisor``."""
    limit, wanted = PLACES.get(hypervisor, MICROVM_PLACES), count_devices(spec, manifest)
    if wanted > limit:
        raise InvalidInput(
            f"it would have {wanted} disks and network cards, and a machine of {hypervisor} has places for {limit}",
            field="disks" if spec.disks or manifest.disks else "extra_networks",
            hint="leave some out, or put several file systems on one disk",
        )


def own_artifacts(spec: VMSpec) -> set[Digest]:
    """The artifacts that a VM needs beside its plugin's."""
    found = {Digest(disk.artifact) for disk in spec.disks if disk.artifact}
    return found | {digest for digest in (spec.kernel, spec.initramfs) if digest is not None}
