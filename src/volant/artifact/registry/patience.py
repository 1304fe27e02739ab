"""How often something is tried again, and how long is waited between."""

from __future__ import annotations

from collections.abc import Callable
from email.utils import parsedate_to_datetime

from volant.core.clock import Clock
from volant.core.errors import Unavailable

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 20.0
RETRY_AFTER_CAP_S = 60.0
"""Longer than this a registry may not make anybody wait."""


class Interrupted(Unavailable):
    """What may work when it is tried again. ``retry_after_s`` is how long the other side asked to wait."""

    def __init__(self, message: str, *, retry_after_s: float | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class Patience:
    """Exponential backoff with full jitter, at least as long as the other side asked for (up to a cap).

    ``random`` gives numbers from 0 to 1.
    """

    def __init__(self, attempts: int, clock: Clock, random: Callable[[], float]) -> None:
        self._attempts = attempts
        self._clock = clock
        self._random = random
        self._failures = 0

    async def wait(self, error: Interrupted) -> None:
        """Wait before the next attempt; raises ``error`` when that was the last."""
        self._failures += 1
        if self._failures >= self._attempts:
            raise error
        backoff_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (self._failures - 1)) * self._random()
        await self._clock.sleep(max(backoff_s, min(error.retry_after_s or 0.0, RETRY_AFTER_CAP_S)))

    def renew(self) -> None:
        """There was progress: the count begins anew."""
        self._failures = 0


def read_retry_after(value: str | None, clock: Clock) -> float | None:
    """Seconds to wait, of a ``Retry-After`` header (RFC 9110, section 10.2.3); None when it says nothing that can be read."""
    if value is None:
        return None
    if value.strip().isdecimal() and len(value) < 12:
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - clock.now()).total_seconds())
    except (ValueError, TypeError):
        return None
