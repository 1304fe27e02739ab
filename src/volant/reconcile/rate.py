"""Token buckets: how many passes a second a controller makes, in all and for one tenant."""

from __future__ import annotations

import msgspec

from volant.core.clock import Clock

MAX_IDLE_BUCKETS = 1_000


class Limits(msgspec.Struct, frozen=True):
    """Passes a second, and how many more may come at once after a quiet time.

    They are far above what work needs, and there to bound what a loop that never rests costs: turns are what keeps tenants
    from each other (FairQueue). What is being deleted is never held back.
    """

    passes_s: float = 2_000.0
    burst: float = 20_000.0
    tenant_passes_s: float = 1_000.0
    tenant_burst: float = 15_000.0


class TokenBucket:
    """``rate`` tokens a second, at most ``burst``; full in the beginning."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = max(burst, 1.0)
        self._tokens = self._burst
        self._at = now

    def wait_s(self, now: float) -> float:
        """Seconds until there is a token; 0 when there is one."""
        self._fill(now)
        # A thousandth is what adding up fractions may have lost.
        return 0.0 if self._tokens >= 0.999 else (1.0 - self._tokens) / self._rate

    def spend(self, now: float) -> None:
        self._fill(now)
        self._tokens -= 1.0

    def is_full(self, now: float) -> bool:
        self._fill(now)
        return self._tokens >= self._burst

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now


class Limiter:
    """The buckets of one controller: one for all, one a tenant."""

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self._clock = clock
        self._limits = limits
        self._all = TokenBucket(limits.passes_s, limits.burst, clock.monotonic())
        self._tenants: dict[str, TokenBucket] = {}

    def wait_s(self, tenant: str) -> float:
        """Seconds until a pass for ``tenant`` may begin; 0 when it may now."""
        now = self._clock.monotonic()
        bucket = self._tenants.get(tenant)
        return max(self._all.wait_s(now), 0.0 if bucket is None else bucket.wait_s(now))

    def may(self, tenant: str) -> bool:
        return self.wait_s(tenant) == 0.0

    def spend(self, tenant: str) -> None:
        now = self._clock.monotonic()
        self._all.spend(now)
        bucket = self._tenants.get(tenant)
        if bucket is None:
            if len(self._tenants) >= MAX_IDLE_BUCKETS:
                self._tenants = {name: one for name, one in self._tenants.items() if not one.is_full(now)}
            bucket = self._tenants[tenant] = TokenBucket(self._limits.tenant_passes_s, self._limits.tenant_burst, now)
        bucket.spend(now)
