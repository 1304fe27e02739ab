"""Whether a host has what a plugin asks of it: a pure function over what its node says."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from volant.core.manifest import Hardware
from volant.core.node import NodeStatus

_FEATURE_FIELDS = ("flags", "Features")
_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}


class Lack(NamedTuple):
    """``field`` of the manifest asks for what the host does not have."""

    field: str
    reason: str


def find_lack(wanted: Hardware, node: NodeStatus) -> Lack | None:
    """What of ``wanted`` the node cannot give; None when it can give all of it.

    Only architecture and processor are looked at. Nothing hands out the rest yet, so that no host has it to give.
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
        ("gpus", wanted.gpus),
    ):
        if is_wanted:
            return Lack(f"hardware.{name}", f"no host of this version gives its VMs {name}")
    return None


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
