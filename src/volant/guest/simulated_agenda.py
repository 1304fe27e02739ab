"""What a simulated guest does by itself when its time has come."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable
from typing import Generic, TypeVar

from volant.core.clock import Clock

Action = TypeVar("Action", bound=str)


class SimulatedAgenda(Generic[Action]):
    """Actions by the moment at which they are due; of one moment, the one that was added first comes first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: list[tuple[float, int, Action]] = []
        self._order = itertools.count()

    @property
    def next_due_s(self) -> float | None:
        """Seconds until the next one; None when there is none."""
        return max(0.0, self._due[0][0] - self._clock.monotonic()) if self._due else None

    def add(self, delay_s: float, action: Action) -> None:
        heapq.heappush(self._due, (self._clock.monotonic() + delay_s, next(self._order), action))

    def take_due(self) -> Action | None:
        """The next one whose time has come; None when none's has."""
        if not self._due or self._due[0][0] > self._clock.monotonic():
            return None
        return heapq.heappop(self._due)[2]

    def clear(self) -> None:
        self._due.clear()

    def save(self) -> list[tuple[float, Action]]:
        now_s = self._clock.monotonic()
        return [(due_s - now_s, action) for due_s, _, action in sorted(self._due)]

    def load(self, saved: Iterable[tuple[float, Action]]) -> None:
        now_s = self._clock.monotonic()
        self._due = [(now_s + delay_s, next(self._order), action) for delay_s, action in saved]
