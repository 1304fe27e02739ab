"""What was so lately: a controller may act on it still."""

from __future__ import annotations

from typing import Generic, TypeVar

from volant.core.clock import Clock

T = TypeVar("T")


class Remembered(Generic[T]):
    def __init__(self, clock: Clock, memory_s: float) -> None:
        self._clock = clock
        self._memory_s = memory_s
        self._noted: dict[str, list[tuple[float, T]]] = {}

    def note(self, key: str, value: T) -> None:
        noted = self._noted.setdefault(key, [])
        if not noted or noted[-1][1] != value:
            noted.append((self._clock.monotonic(), value))
        self._forget(noted)

    def of(self, key: str) -> list[T]:
        """Every value that held at some moment of what is remembered."""
        noted = self._noted.get(key, [])
        self._forget(noted)
        return [value for _, value in noted]

    def _forget(self, noted: list[tuple[float, T]]) -> None:
        # The one that held at the beginning of what is remembered holds, too.
        while len(noted) > 1 and noted[1][0] < self._clock.monotonic() - self._memory_s:
            noted.pop(0)
