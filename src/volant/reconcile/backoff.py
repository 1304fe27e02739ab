"""Capped exponential backoff with jitter."""

from __future__ import annotations

import random

import msgspec


class Backoff(msgspec.Struct, frozen=True):
    """``first_s`` after one failure, ``factor`` times more after each further one, never above ``cap_s``."""

    first_s: float = 0.2
    factor: float = 2.0
    cap_s: float = 30.0
    jitter: float = 0.2

    def delay(self, failures: int, random_source: random.Random) -> float:
        """Seconds to wait after ``failures`` failures in a row, spread by ± ``jitter``."""
        plain = min(self.cap_s, self.first_s * self.factor ** min(max(failures - 1, 0), 63))
        return plain * (1 + self.jitter * (2 * random_source.random() - 1))
