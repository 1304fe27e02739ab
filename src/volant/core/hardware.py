"""What a plugin asks of a host, and whether a host has it: a pure function over what its node says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec

from volant.core.node import NodeDevice, NodeStatus
from volant.core.part import Part


class Gpu(Part, frozen=True, kw_only=True):
    """``count`` devices of a vendor, by PCI ids (``10de`` or ``10de:2684``) or any."""

    device: str = ""
    count: Annotated[int, msgspec.Meta(ge=1, le=16)] = 1


class Hardware(Part, frozen=True, kw_only=True):
    """What the host must have. ``hugepages`` is the size of the pages that back the guest's memory."""

    architecture: Literal["", "x86_64", "aarch64"] = ""
    cpu_features: tuple[str, ...] = ()
    hugepages: Literal["", "2M", "1G"] = ""
    nested: bool = False
    confidential: Literal["", "sev-snp", "tdx"] = ""
    tpm: bool = False
    gpus: tuple[Gpu, ...] = ()


_FEATURE_FIELDS = ("flags", "Features")
_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}


class Lack(NamedTuple):
    """``field`` of the manifest asks for what the host does not have."""

    field: str
    reason: str


def find_lack(wanted: Hardware, node: NodeStatus) -> Lack | None:
    """What of ``wanted`` the node cannot give; None when it can give all of it.

    Architecture, processor and devices are looked at, whoever has the devices now. Nothing hands out the rest yet, so that no
    host has it to give.
    """
    if wanted.architecture and node.architecture and wanted.architecture != node.architecture:
        return Lack("hardware.architecture", f"it is made for {wanted.architecture}, and this host is {node.architecture}")
    missing = [feature for feature in wanted.cpu_features if feature.lower() not in node.cpu_features]
    if missing:
        return Lack("hardware.cpu_features", f"this host's processor has no {', '.join(missing)}")
    for name, is_wanted in (
        ("hugepages", wanted.hugepages),
        ("nested", wanted.nested),
        ("confidential", wanted.confidential),
        ("tpm", wanted.tpm),
        ("gpus", wanted.gpus and choose_devices(wanted.gpus, node.devices) is None),
    ):
        if is_wanted:
            return Lack(f"hardware.{name}", f"no host of this version gives its VMs {name}")
    return None


def choose_devices(gpus: Sequence[Gpu], devices: Sequence[NodeDevice]) -> tuple[NodeDevice, ...] | None:
    """Devices of ``devices`` that are what ``gpus`` asks for, by address; None when they do not suffice."""
    left = sorted(devices, key=lambda device: device.address)
    chosen: list[NodeDevice] = []
    # Whoever says most exactly what it is to be chooses first.
    for gpu in sorted(gpus, key=lambda gpu: -len(gpu.device)):
        fitting = [one for one in left if not gpu.device or f"{one.device}:".startswith(f"{gpu.device}:")][: gpu.count]
        if len(fitting) < gpu.count:
            return None
        chosen += fitting
        left = [one for one in left if one not in fitting]
    return tuple(chosen)


def read_architecture(machine: str) -> str:
    """``machine`` as uname says it, in the words of a manifest."""
    return _ARCHITECTURES.get(machine, machine)


def read_cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """The words that /proc/cpuinfo has for what the first processor can; empty where it cannot be read."""
    try:
        first = cpuinfo.read_text().split("\n\n", 1)[0]
    except OSError:
        return ()
    for line in first.splitlines():
        name, _, words = line.partition(":")
        if name.strip() in _FEATURE_FIELDS:
            return tuple(sorted(set(words.lower().split())))
    return ()
