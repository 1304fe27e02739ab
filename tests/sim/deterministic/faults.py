"""What goes wrong, and when. Each seed has some kinds of faults, at rates of its own, so that between them they try every mix."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from volant.core.errors import DiskFull, HostError, Unavailable

from .trace import Trace

RATES = {
    "kill": (0.0, 0.0005, 0.003),
    "store_fails": (0.0, 0.005, 0.03),
    "store_slow": (0.0, 0.02, 0.2),
    "watch_drops": (0.0, 0.002, 0.02),
    "watch_lags": (0.0, 0.02, 0.2),
    "watch_repeats": (0.0, 0.01, 0.1),
    "host_fails": (0.0, 0.01, 0.06),
    "host_slow": (0.0, 0.02, 0.2),
    "thread_slow": (0.0, 0.02, 0.2),
    "thread_fails": (0.0, 0.02, 0.1),
    "event_lost": (0.0, 0.01, 0.1),
}
"""The chance per call: each seed has one of these for each."""

LONGEST_DELAY_S = 5.0

Failure = Callable[[str], Exception]


def fail_store(point: str) -> Exception:
    return Unavailable(f"injected: the keeper cannot be reached at {point}")


def fail_disk(point: str) -> Exception:
    return DiskFull(f"injected: no space left at {point}")


def fail_host(point: str) -> Exception:
    return HostError(f"injected: the host refuses at {point}")


def is_injected(text: str) -> bool:
    return "injected" in text


class Faults:
    """``kill`` ends the program that is running now at its next chance."""

    def __init__(self, source: random.Random, trace: Trace, kill: Callable[[str], None]) -> None:
        self._source = source
        self._trace = trace
        self._kill = kill
        self.on = False
        self.counts: dict[str, int] = {}
        self.rates = {kind: source.choice(rates) for kind, rates in RATES.items()}

    def strike(self, kind: str, point: str) -> bool:
        """Whether this fault happens here."""
        rate = self.rates[kind]
        if not self.on or not rate or self._source.random() >= rate:
            return False
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self._trace.add(f"fault {kind} at {point}")
        return True

    def delay_s(self, kind: str, point: str) -> float:
        """Seconds to wait here: mostly none, sometimes few, rarely many."""
        if not self.strike(kind, point):
            return 0.0
        return LONGEST_DELAY_S * self._source.random() ** 4

    def maybe_kill(self, point: str) -> None:
        if self.strike("kill", point):
            self._kill(point)

    async def before(self, point: str, *, slow: str, fails: str = "", failures: tuple[Failure, ...] = ()) -> None:
        """Pass what may happen before a call: death, a delay, a failure in its place."""
        await self._pass(point, slow)
        if failures and self.strike(fails, point):
            raise self._source.choice(failures)(point)

    async def after(self, point: str, *, slow: str) -> None:
        """What may happen after it, before its answer is heard."""
        await self._pass(f"{point} done", slow)

    async def _pass(self, point: str, slow: str) -> None:
        self.maybe_kill(point)
        delay_s = self.delay_s(slow, point)
        # One turn at least, for a death to come true.
        await asyncio.sleep(delay_s)
