"""What a controller's passes cost, and how they end."""

from __future__ import annotations

from volant.core.queue import PassBucket

BOUNDS_S = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0)


class PassMetrics:
    """Counts since the controller was built."""

    def __init__(self) -> None:
        self.passes = 0
        self.failures = 0
        self.retries = 0
        self.races = 0
        self.seconds = 0.0
        self.seconds_max = 0.0
        self._counts = [0] * (len(BOUNDS_S) + 1)

    def record(self, seconds: float) -> None:
        """A pass that took ``seconds`` is over, however it ended."""
        self.passes += 1
        self.seconds += seconds
        self.seconds_max = max(self.seconds_max, seconds)
        place = next((place for place, bound in enumerate(BOUNDS_S) if seconds <= bound), len(BOUNDS_S))
        self._counts[place] += 1

    @property
    def histogram(self) -> tuple[PassBucket, ...]:
        return tuple(PassBucket(bound, count) for bound, count in zip((*BOUNDS_S, None), self._counts, strict=True))
