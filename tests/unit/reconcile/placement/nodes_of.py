"""Nodes, wishes and candidates, made short."""

from __future__ import annotations

from typing import Any

from volant.core.condition import Condition
from volant.core.ids import Uid
from volant.core.node import NODE_READY, Node, NodeDevice, NodeRoom, NodeSpec, NodeStatus, whole_room
from volant.core.placement import Placement
from volant.core.resource import Meta
from volant.reconcile.placement.candidate import Candidate, Wish

READY = (Condition(type=NODE_READY, status="True"),)


def make_node(name: str, *, cores: int = 4, memory: int = 4608, labels: dict[str, str] | None = None, **spec: Any) -> Node:
    """With no overcommit 4 cores and 4096 MiB can be given out."""
    given = {"cpu_overcommit": 1.0, "memory_overcommit": 1.0, **spec}
    devices = given.pop("devices", ())
    return Node(
        meta=Meta(name=name, uid=Uid(name.ljust(32, "0")), project="", labels=labels or {}),
        spec=NodeSpec(**given),
        status=NodeStatus(
            cpu_cores=cores, memory_mb=memory, architecture="x86_64", conditions=READY, heard_at="t", devices=devices
        ),
    )


def candidate(node: Node, *, cores: float = 0, memory: int = 0, **more: Any) -> Candidate:
    given = NodeRoom(cpu_cores=cores, memory_mb=memory)
    free: tuple[NodeDevice, ...] = more.pop("devices", node.status.devices)
    return Candidate(node=node, whole=whole_room(node), given=given, devices=free, **more)


def wish(cores: int = 1, memory: int = 512, placement: Placement | None = None, **more: Any) -> Wish:
    placement = placement or Placement()
    more.setdefault("matches_itself", (False,) * len(placement.affinity))
    return Wish(cpu_cores=cores, memory_mb=memory, placement=placement, **more)
