"""One resolved machine: everything a driver is told, kept in the VM's directory as ``machine.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from volant.core.ids import Digest, RunId, Uid
from volant.core.limits import Limits

FIRST_HOST_UID = 700_000
"""The host user of slot 0. Each VM process runs as FIRST_HOST_UID + slot, and so does its group."""

AGENT_PORT = "volant.agent"
"""The name of the virtio-serial port that kestrel answers on."""

Accelerator = Literal["kvm", "tcg", "none"]


class BlockDevice(msgspec.Struct, frozen=True, kw_only=True):
    """``serial`` is what the guest finds it by (at most 20 bytes); ``bus`` its stable place; ``content`` the digest of what
    is on it and never changes, empty for a disk that is written to."""

    serial: str
    bus: int
    readonly: bool
    content: str = ""
    format: Literal["raw", "qcow2"] = "raw"
    origin: str = ""
    """What a disk that is written to began as, which decides its size: a digest, a number of MiB; empty for the root's layer."""


class NetworkDevice(msgspec.Struct, frozen=True, kw_only=True):
    """``device_mac`` is what the guest's device still has when it was restored from another machine's; empty otherwise."""

    mac: str
    tap: str
    bus: int
    device_mac: str = ""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """``machine_type`` and ``hypervisor_version`` are recorded as resolved, so that a later snapshot can be matched."""

    uid: Uid
    run_id: RunId
    name: str
    slot: int
    hypervisor: str
    hypervisor_version: str = ""
    hypervisor_build: str = ""
    """The package that the hypervisor came in: what decides whether it reads what it once saved."""
    machine_type: str = ""
    accelerator: Accelerator = "tcg"
    cpu_model: str = ""
    cpu_cores: int
    memory_mib: int
    kernel: Digest
    initramfs: Digest
    kernel_cmdline: str
    disks: tuple[BlockDevice, ...] = ()
    networks: tuple[NetworkDevice, ...] = ()
    channel: Literal["virtio-serial", "vsock"] = "virtio-serial"
    """How its agent is reached. ``resolve`` says it, as the next."""
    balloon: int = -1
    """The place of the balloon that takes memory back from the guest; -1 when it has none."""
    limits: Limits = Limits()
    """What its control group held it to when it was launched; what holds now the group itself says."""
    has_agent: bool = True
    """False when nobody in the guest answers at the agent port."""
    base: str = ""
    """The key of the template that its memory is a copy-on-write copy of; empty when its memory is all its own."""

    @property
    def host_uid(self) -> int:
        return FIRST_HOST_UID + self.slot


class Files(msgspec.Struct, frozen=True, kw_only=True):
    """Open descriptors for a launch; they stay the caller's and are closed by the caller after launch returns or raises."""

    kernel: int
    initramfs: int
    disks: dict[str, int]
    """By serial."""
    taps: dict[str, int]
    """By tap name."""


class Unit(msgspec.Struct, frozen=True):
    """A VM's two directories: ``state`` survives a reboot (machine.json, console.log, process.json, exit.json, lock),
    ``sockets`` does not (qmp.sock, agent.sock, console.sock). Both are 0700 and root's."""

    uid: Uid
    state: Path
    sockets: Path
