"""What is decided about: the VM that wants a place, and the nodes that it may have one on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from volant.core.hardware import Hardware
from volant.core.node import Node, NodeDevice, NodeRoom
from volant.core.placement import NODE, Placement


class Term(msgspec.Struct, frozen=True, kw_only=True):
    """One wish about other VMs: how many of those that it is about each node has now."""

    topology: str
    counts: Mapping[str, int]
    """By node; one that is not named has none."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What a VM asks of a node. ``affinity`` and ``spread`` stand in the order of its placement's."""

    cpu_cores: int
    memory_mb: int
    placement: Placement = Placement()
    hardware: Hardware = Hardware()
    affinity: tuple[Term, ...] = ()
    spread: tuple[Term, ...] = ()
    kin: Mapping[str, int] = {}
    """By node, how many VMs of the same deployment or job it has."""
    pinned: str = ""
    """The node that holds what the VM is made of already: only whether there is room is asked."""
    matches_itself: tuple[bool, ...] = ()
    """Whether the VM is itself among those that each affinity is about: the first of such VMs may be anywhere."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A node and what is given out of it."""

    node: Node
    ready: bool = True
    whole: NodeRoom
    given: NodeRoom = NodeRoom()
    has_slot: bool = True
    devices: tuple[NodeDevice, ...] = ()
    """Those that nobody has."""

    @property
    def name(self) -> str:
        return self.node.name


def place_of(node: Node, topology: str) -> str | None:
    """The place of ``topology`` that the node is in; None when it is in none."""
    return node.name if topology == NODE else node.meta.labels.get(topology)


class Survey(msgspec.Struct, frozen=True):
    """What is the same for every candidate: how many VMs each place has, a count for each term of the wish."""

    affinity: tuple[Mapping[str, int], ...]
    spread: tuple[Mapping[str, int], ...]
    least: tuple[int, ...]
    """Of each term of spread: how many the place with the fewest has, of those that the VM could be in at all."""


def survey_places(wish: Wish, candidates: Sequence[Candidate], is_usable: Callable[[Candidate], bool]) -> Survey:
    """``is_usable`` says which nodes' places VMs are spread over."""
    usable = [one for one in candidates if is_usable(one)] if wish.spread else []
    spread = tuple(_count_places(term, candidates) for term in wish.spread)
    least = []
    for term, counts in zip(wish.spread, spread, strict=True):
        places = {place for one in usable if (place := place_of(one.node, term.topology)) is not None}
        least.append(min((counts.get(place, 0) for place in places), default=0))
    return Survey(tuple(_count_places(term, candidates) for term in wish.affinity), spread, tuple(least))


def _count_places(term: Term, candidates: Sequence[Candidate]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in candidates:
        count = term.counts.get(one.name, 0)
        place = place_of(one.node, term.topology) if count else None
        if place is not None:
            counts[place] = counts.get(place, 0) + count
    return counts
