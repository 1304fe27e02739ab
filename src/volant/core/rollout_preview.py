"""What a change of a deployment makes of its VMs, told before it is made."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec

from volant.core.amount import count_amount
from volant.core.deployment import Strategy, replica_index, replica_name


class ReplicaNow(msgspec.Struct, frozen=True, kw_only=True):
    """A VM that the deployment has, not one that is going. ``current``: it is of the revision that is the target now."""

    name: str
    current: bool = True


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """Names of VMs, by index, over the whole rollout. ``replaced`` go and come again under their names."""

    created: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    passing: tuple[str, ...] = ()
    """Made on the way so that enough are there, and gone at the end."""


def preview_change(
    deployment: str, names: Sequence[ReplicaNow], wanted: int, changes_replicas: bool, strategy: Strategy
) -> Preview:
    """What becomes of ``names`` when ``wanted`` are to be there; ``changes_replicas``: of another description than the target's.

    It says what a rollout without failures does: a VM that is not available may go in place of one that is named here.
    """
    by_index = {index: one for one in names if (index := replica_index(deployment, one.name)) is not None}
    is_old = {index: changes_replicas or not one.current for index, one in by_index.items()}
    if not any(is_old.values()):
        return _preview_scale(deployment, sorted(by_index), wanted)
    if strategy.type == "blue-green":
        return _preview_blue_green(deployment, is_old, wanted)
    low = range(wanted)
    # Of the passing ones so many are made as are not there already.
    surge = 0 if strategy.type == "recreate" else count_amount(strategy.max_surge, wanted, up=True)
    return Preview(
        created=_name(deployment, (index for index in low if index not in by_index)),
        replaced=_name(deployment, (index for index in low if is_old.get(index))),
        kept=_name(deployment, (index for index in low if is_old.get(index) is False)),
        removed=_name(deployment, (index for index in by_index if index >= wanted)),
        passing=_name(deployment, (index for index in range(wanted, wanted + surge) if index not in by_index)),
    )


def free_indices(taken: Collection[int], count: int) -> list[int]:
    """The lowest ``count`` indices that are not ``taken``."""
    found: list[int] = []
    index, there = 0, set(taken)
    while len(found) < count:
        if index not in there:
            found.append(index)
        index += 1
    return found


def _preview_scale(deployment: str, there: list[int], wanted: int) -> Preview:
    # The highest go first, and what lies beyond the number stays only while there are not more than that.
    kept = there[:wanted]
    created = free_indices(there, max(0, wanted - len(there)))
    return Preview(created=_name(deployment, created), removed=_name(deployment, there[wanted:]), kept=_name(deployment, kept))


def _preview_blue_green(deployment: str, is_old: dict[int, bool], wanted: int) -> Preview:
    current = sorted(index for index, old in is_old.items() if not old)
    created = free_indices(set(is_old), max(0, wanted - len(current)))
    return Preview(
        created=_name(deployment, created),
        removed=_name(deployment, [*(index for index, old in is_old.items() if old), *current[wanted:]]),
        kept=_name(deployment, current[:wanted]),
    )


def _name(deployment: str, indices: Iterable[int]) -> tuple[str, ...]:
    return tuple(replica_name(deployment, index) for index in sorted(indices))
