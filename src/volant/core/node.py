"""The node: a host that runs VMs. volantd registers its own."""

from __future__ import annotations

from typing import ClassVar

from volant.core.resource import Resource, Spec, Status


class NodeSpec(Spec, frozen=True, kw_only=True):
    pass


class NodeStatus(Status, frozen=True, kw_only=True):
    boot_id: str = ""
    cpu_cores: int = 0
    memory_mb: int = 0
    architecture: str = ""
    """``x86_64`` or ``aarch64``."""
    cpu_features: tuple[str, ...] = ()
    """The words that /proc/cpuinfo has for what its processor can."""
    hypervisor: str = ""
    volant_version: str = ""


class Node(Resource[NodeSpec, NodeStatus], frozen=True, kw_only=True):
    kind: ClassVar[str] = "Node"
    plural: ClassVar[str] = "nodes"
    spec_type: ClassVar[type[Spec]] = NodeSpec
    status_type: ClassVar[type[Status]] = NodeStatus
