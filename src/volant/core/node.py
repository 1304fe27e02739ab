"""The node: a host that runs VMs. volantd registers its own."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from volant.core.condition import Conditions, is_true
from volant.core.part import Part
from volant.core.resource import Resource, Spec, Status

TaintEffect = Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]

NODE_READY = "Ready"
"""True while its volantd says so; Unknown once it has not for LOST_AFTER_S."""

MAX_SLOTS = 65_536
"""VMs that one node can have, whether they run or not."""

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
    cpu_overcommit: Annotated[float, msgspec.Meta(gt=0, le=1000)] = 100.0
    """Cores that are given out for each that there is: a core is shared, and most VMs are idle most of the time."""
    memory_overcommit: Annotated[float, msgspec.Meta(gt=0, le=100)] = 4.0
    """MiB that are given out for each that there is: clones share most of theirs."""


class NodeDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A device that can be given to one VM. ``address`` is its place on the node, ``device`` its PCI ids (``10de:2684``)."""

    address: str
    device: str


class NodeRoom(msgspec.Struct, frozen=True, kw_only=True):
    """So many VMs, cores and MiB of memory."""

    vms: int = 0
    cpu_cores: float = 0.0
    memory_mb: int = 0


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
    given: NodeRoom = NodeRoom()
    """What its VMs hold. Reckoned whenever somebody reads it; what is stored says nothing."""
    free: NodeRoom = NodeRoom()
    """What can still be given out; reckoned likewise."""


class Node(Resource[NodeSpec, NodeStatus], frozen=True, kw_only=True):
    kind: ClassVar[str] = "Node"
    plural: ClassVar[str] = "nodes"
    spec_type: ClassVar[type[Spec]] = NodeSpec
    status_type: ClassVar[type[Status]] = NodeStatus


def whole_room(node: Node) -> NodeRoom:
    """What can be given out on it in all: what there is, less what is reserved, times its overcommit."""
    spec, status = node.spec, node.status
    return NodeRoom(
        vms=MAX_SLOTS,
        cpu_cores=max(0.0, status.cpu_cores - spec.reserved_cpu_cores) * spec.cpu_overcommit,
        memory_mb=int(max(0, status.memory_mb - spec.reserved_memory_mb) * spec.memory_overcommit),
    )


def tell_state(node: Node) -> str:
    """``Ready``, ``Lost``, ``Cordoned`` or ``Deleting``: the one word about a node that matters most."""
    if node.deleting:
        return "Deleting"
    if node.status.conditions and not is_true(node.status.conditions, NODE_READY):
        return "Lost"
    return "Cordoned" if node.spec.unschedulable else "Ready"
