"""Whose turn it is: who has least to do, and among those who waited longest."""

from __future__ import annotations

from collections.abc import Iterator

from volant.core.ids import Uid


class Rota:
    """Everybody in line by load. Every change costs the same, however many there are."""

    def __init__(self) -> None:
        self._levels: dict[int, dict[Uid, None]] = {}
        self._loads: dict[Uid, int] = {}

    def __len__(self) -> int:
        return len(self._loads)

    def __contains__(self, uid: Uid) -> bool:
        return uid in self._loads

    def __iter__(self) -> Iterator[Uid]:
        """All, whose turn it is first. It may not be changed meanwhile."""
        for load in sorted(self._levels):
            yield from self._levels[load]

    def put(self, uid: Uid, load: int) -> None:
        """Stand at the end of those with ``load``; who stands there already keeps the place."""
        if self._loads.get(uid) == load:
            return
        self.drop(uid)
        self._loads[uid] = load
        self._levels.setdefault(load, {})[uid] = None

    def drop(self, uid: Uid) -> None:
        load = self._loads.pop(uid, None)
        if load is None:
            return
        level = self._levels[load]
        del level[uid]
        if not level:
            del self._levels[load]
