"""Where a VM may run, as it is asked for. What nodes say of themselves is in node.py; who chooses is the scheduler."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from volant.core.errors import InvalidInput
from volant.core.part import Part
from volant.core.selector import parse_selector

NODE = "node"
"""The topology in which every node is a place of its own; any other is a label of nodes, such as ``zone``."""


class Toleration(Part, frozen=True, kw_only=True):
    """A taint that does not keep the VM away. An empty ``value`` tolerates every value; an empty ``effect`` every effect."""

    key: str
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""


class Affinity(Part, frozen=True, kw_only=True):
    """Near to, or apart from, the VMs that ``vms`` (a label selector) selects, in places of ``topology``.

    With a ``weight`` of 0 it must be so; else it is wished for, the more the higher.
    """

    vms: str
    topology: str = NODE
    apart: bool = False
    weight: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0


class Spread(Part, frozen=True, kw_only=True):
    """The VMs of one deployment, or those that ``vms`` selects, spread over places of ``topology``: none has more than
    ``max_skew`` beyond the one with the fewest. ``require`` rather does not place; ``prefer`` only scores."""

    topology: str = NODE
    vms: str = ""
    max_skew: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    when: Literal["prefer", "require"] = "prefer"


class Placement(Part, frozen=True, kw_only=True):
    """``node`` names the one node that may be; ``nodes`` is a selector over the labels of nodes."""

    node: str = ""
    nodes: str = ""
    tolerations: tuple[Toleration, ...] = ()
    affinity: tuple[Affinity, ...] = ()
    spread: tuple[Spread, ...] = ()


def check_placement(placement: Placement) -> None:
    """Raises InvalidInput for a selector that cannot be read."""
    parse_selector(placement.nodes, "placement.nodes")
    for affinity in placement.affinity:
        if not affinity.vms:
            raise InvalidInput("an affinity says of which VMs", field="placement.affinity", hint="vms: app=web")
        parse_selector(affinity.vms, "placement.affinity")
    for spread in placement.spread:
        parse_selector(spread.vms, "placement.spread")
