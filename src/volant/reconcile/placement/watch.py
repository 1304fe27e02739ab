"""Since when each node was not heard of, as the leader's own monotonic clock has it: no wall clock is compared with another."""

from __future__ import annotations

from collections.abc import Mapping

STALL_FACTOR = 3
"""Who looks again after so many periods instead of one was away itself, and cannot say that others were."""


class SilenceWatch:
    """``period_s``: how often it is meant to be asked."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._heard: dict[str, tuple[str, float]] = {}
        self._looked_at: float | None = None

    def silence(self, heard_at: Mapping[str, str], now_s: float) -> dict[str, float]:
        """By node, the seconds for which its ``heard_at`` has stood still while this watch looked on."""
        stalled = self._looked_at is not None and now_s - self._looked_at > STALL_FACTOR * self._period_s
        self._looked_at = now_s
        if stalled:
            self._heard = {}
        self._heard = {
            name: before if (before := self._heard.get(name)) is not None and before[0] == moment else (moment, now_s)
            for name, moment in heard_at.items()
        }
        return {name: now_s - since for name, (_, since) in self._heard.items()}
