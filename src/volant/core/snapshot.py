"""The snapshot: what one VM was at one moment, kept at somebody's request."""

from __future__ import annotations

from typing import ClassVar, Literal

from volant.core.condition import Conditions
from volant.core.manifest import NetworkMode
from volant.core.resource import Resource, Spec, Status
from volant.core.vm import ExtraDisk

FINALIZER = "volant/files"
"""Held while its files may be on a host."""


class SnapshotSpec(Spec, frozen=True, kw_only=True):
    vm: str
    """The VM that it is taken of."""
    memory: bool = True
    """With its memory, so that what starts from it goes on; without, its disk alone, with the file system frozen meanwhile."""
    transient: bool = False
    """Made for a fork: it goes with the last VM that was to start from it."""


class SnapshotStatus(Status, frozen=True, kw_only=True):
    phase: Literal["Pending", "Creating", "Ready", "Failed", "Deleting"] = "Pending"
    reason: str = ""
    message: str = ""
    node: str = ""
    vm_uid: str = ""
    plugin: str = ""
    plugin_version: str = ""
    cpu_cores: int = 0
    memory_mb: int = 0
    disk_mb: int = 0
    root: Literal["disk", "ephemeral"] = "disk"
    network_mode: NetworkMode = "bridged"
    extra_networks: tuple[str, ...] = ()
    disks: tuple[ExtraDisk, ...] = ()
    size_bytes: int = 0
    """What it takes on the host's disk."""
    template: str = ""
    """The template that its memory stands on, which stays as long as it does."""
    parent: str = ""
    """The snapshot that the VM had begun from."""
    paused_ms: int | None = None
    """For how long the VM stood still."""
    taken_at: str = ""
    conditions: Conditions = ()
    observed_generation: int = 0


class Snapshot(Resource[SnapshotSpec, SnapshotStatus], frozen=True, kw_only=True):
    kind: ClassVar[str] = "Snapshot"
    plural: ClassVar[str] = "snapshots"
    spec_type: ClassVar[type[Spec]] = SnapshotSpec
    status_type: ClassVar[type[Status]] = SnapshotStatus
