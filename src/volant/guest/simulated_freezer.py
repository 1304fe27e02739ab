"""Whether a simulated guest's disks stand still."""

from __future__ import annotations

from volant.core.clock import Clock


class SimulatedFreezer:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until_s: float | None = None

    @property
    def is_frozen(self) -> bool:
        return self.left_s > 0

    @property
    def left_s(self) -> float:
        """Seconds until they are thawed by themselves."""
        return max(0.0, (self._until_s or 0.0) - self._clock.monotonic())

    def freeze(self, seconds: float) -> None:
        self._until_s = self._clock.monotonic() + seconds

    def thaw(self) -> bool:
        """Whether they were frozen."""
        was_frozen, self._until_s = self.is_frozen, None
        return was_frozen
