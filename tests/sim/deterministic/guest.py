"""A guest whose workload does as its environment says: ``BAD=never`` is never healthy, ``BAD=crash`` ends soon after it began."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from volant.guest.simulated import Due, SimulatedGuest

CRASH_S = 0.5


class Guest(SimulatedGuest):
    on_end: Callable[[], None] = staticmethod(lambda: None)
    """Told when its workload ends by itself, with status 0."""

    def crash_workload(self, exit_: Mapping[str, int] | None = None, *, why: str = "") -> None:
        super().crash_workload(exit_, why=why)
        if exit_ == {"code": 0}:
            self.on_end()

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
