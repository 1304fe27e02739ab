"""The free slots of one node, lowest first, without looking at those that are taken."""

from __future__ import annotations

import heapq

from volant.core.node import MAX_SLOTS


class Slots:
    """Follows what is claimed. What it gives is a guess until the claim is made: its claim may be older news than its word."""

    def __init__(self, size: int = MAX_SLOTS) -> None:
        self._size = size
        self._taken: set[int] = set()
        self._guessed: set[int] = set()
        self._freed: list[int] = []
        self._next = 0

    def put(self, slot: int) -> None:
        """It is claimed."""
        self._guessed.discard(slot)
        self._taken.add(slot)

    def drop(self, slot: int) -> None:
        """It is claimed no more."""
        if slot in self._taken:
            self._taken.discard(slot)
            self._free(slot)

    def guess(self) -> int | None:
        """A slot that seems to be free, for the caller to claim; None when there is none."""
        slot = self._find()
        if slot is None and self._guessed:
            # Guesses that failed and were never told about: whoever has one claims it again in vain, which is no harm.
            stale, self._guessed = sorted(self._guessed), set()
            for one in stale:
                self._free(one)
            slot = self._find()
        if slot is not None:
            self._guessed.add(slot)
        return slot

    def give_back(self, slot: int) -> None:
        """A guess that was not claimed."""
        if slot in self._guessed:
            self._guessed.discard(slot)
            self._free(slot)

    @property
    def left(self) -> int:
        return self._size - len(self._taken)

    def _free(self, slot: int) -> None:
        if slot < self._next:
            heapq.heappush(self._freed, slot)

    def _find(self) -> int | None:
        while self._freed:
            slot = heapq.heappop(self._freed)
            if slot not in self._taken and slot not in self._guessed:
                return slot
        while self._next < self._size:
            slot = self._next
            self._next += 1
            if slot not in self._taken and slot not in self._guessed:
                return slot
        return None
