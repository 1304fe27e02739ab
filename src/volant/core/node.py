"""The node: a host that runs VMs. volantd registers its own."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from volant.core.condition import Conditions
from volant.core.part import Part
from volant.core.resource import Resource, Spec, Status

TaintEffect = Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]

NODE_READY = "Ready"
"""True while its volantd says so; Unknown once it has not for LOST_AFTER_S."""

BEAT_S = 10.0
LOST_AFTER_S = 40.0
"""A node that was not heard of for so long is lost: what deployments have there is made anew elsewhere."""


class Taint(Part, frozen=True, kw_only=True):
    """Keeps away VMs that do not tolerate it; with ``NoExecute`` also those that are there."""

    key: str
    value: str = ""
    effect: TaintEffect = "NoSchedule"


class NodeSpec(Spec, frozen=True, kw_only=True):
    """What an operator decides of a node."""

    unschedulable: bool = False
    """Nothing new is placed on it."""
    taints: tuple[Taint, ...] = ()
    reserved_cpu_cores: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """For the host itself."""
    reserved_memory_mb: Annotated[int, msgspec.Meta(ge=0)] = 512
    cpu_overcommit: Annotated[float, msgspec.Meta(gt=0, le=1000)] = 16.0
    """Cores that are given out for each that there is."""
    memory_overcommit: Annotated[float, msgspec.Meta(gt=0, le=100)] = 4.0
    """MiB that are given out for each that there is: clones share most of theirs."""


class NodeDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A device that can be given to one VM. ``address`` is its place on the node, ``device`` its PCI ids (``10de:2684``)."""

    address: str
    device: str


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
    devices: tuple[NodeDevice, ...] = ()
    heard_at: str = ""
    """When its volantd last said that it is there."""
    conditions: Conditions = ()


class Node(Resource[NodeSpec, NodeStatus], frozen=True, kw_only=True):
    kind: ClassVar[str] = "Node"
    plural: ClassVar[str] = "nodes"
    spec_type: ClassVar[type[Spec]] = NodeSpec
    status_type: ClassVar[type[Status]] = NodeStatus
