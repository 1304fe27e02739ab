"""A token bucket: what a guest may make the host do."""

from __future__ import annotations

from volant.core.clock import Clock


class TokenBucket:
    """``rate_per_s`` tokens a second, ``burst`` of them at once. Debt is allowed and waited off by whoever made it."""

    def __init__(self, clock: Clock, *, rate_per_s: float, burst: float) -> None:
        self._clock = clock
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._tokens = burst
        self._filled_at = clock.monotonic()

    def spend(self, tokens: float) -> float:
        """Take ``tokens`` and return the seconds to wait until the debt is paid, 0 without one."""
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate_per_s) - tokens
        self._filled_at = now
        return max(0.0, -self._tokens / self._rate_per_s)

    async def pay(self, tokens: float) -> None:
        """Spend ``tokens`` and wait until the debt is paid."""
        wait_s = self.spend(tokens)
        if wait_s > 0:
            await self._clock.sleep(wait_s)
