"""Which node a VM is given: filters, then scores. A pure function; equal scores go by name."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from volant.reconcile.placement.candidate import Candidate, Wish, survey_places
from volant.reconcile.placement.filters import find_reason, is_usable
from volant.reconcile.placement.scores import score_node

NAMED_NODES = 8
"""So many nodes are named in a message; of more only how many have which reason."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """``node`` is empty when none can be; ``reasons`` then says why of each."""

    node: str = ""
    score: float = 0.0
    reasons: dict[str, str] = {}

    @property
    def message(self) -> str:
        """``node-a: 512 MiB short of memory; node-b: tainted gpu``."""
        if not self.reasons:
            return "there is no node"
        if len(self.reasons) <= NAMED_NODES:
            return "; ".join(f"{name}: {reason}" for name, reason in sorted(self.reasons.items()))
        counts: dict[str, int] = {}
        for reason in self.reasons.values():
            counts[reason] = counts.get(reason, 0) + 1
        told = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        more = f"; {sum(count for _, count in told[NAMED_NODES:])} others" if len(told) > NAMED_NODES else ""
        return "; ".join(f"{count} nodes: {reason}" for reason, count in told[:NAMED_NODES]) + more


def choose_node(wish: Wish, candidates: Sequence[Candidate]) -> Choice:
    """The best node for ``wish``; of a pinned one only its own is looked at."""
    survey = survey_places(wish, candidates, lambda one: is_usable(wish, one))
    reasons: dict[str, str] = {}
    best: tuple[float, str] | None = None
    for candidate in sorted(candidates, key=lambda one: one.name):
        if wish.pinned and candidate.name != wish.pinned:
            continue
        if reason := find_reason(wish, candidate, survey):
            reasons[candidate.name] = reason
            continue
        score = score_node(wish, candidate, survey)
        if best is None or score > best[0]:
            best = (score, candidate.name)
    if best is None:
        if wish.pinned and not reasons:
            reasons[wish.pinned] = "it is no longer there"
        return Choice(reasons=reasons)
    return Choice(node=best[1], score=best[0])
