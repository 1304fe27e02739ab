"""A guest whose workload does as its environment says: ``BAD=never`` is never healthy, ``BAD=crash`` ends soon after it began."""

from __future__ import annotations

from volant.guest.simulated import Due, SimulatedGuest

CRASH_S = 0.5


class Guest(SimulatedGuest):
    def _schedule(self, delay_s: float, action: Due) -> None:
        bad = self._bad()
        if action == "healthy" and bad == "never":
            return
        if action == "healthy" and bad == "crash":
            delay_s, action = CRASH_S, "dead"
        super()._schedule(delay_s, action)

    def _bad(self) -> str:
        env = self.workload.env if self.workload is not None else {}
        return env.get("BAD", "")
