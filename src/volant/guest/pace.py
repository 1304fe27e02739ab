"""How often a guest that says nothing is asked whether it is there."""

from __future__ import annotations

from collections.abc import Callable

PING_INTERVAL_S = 10.0
PINGS_A_SECOND = 20.0
"""So many guests are asked in a second, however many there are."""

PING_INTERVAL_MAX_S = 300.0


class PingPace:
    """The pace of one host. ``count`` says how many guests it holds.

    The end of a guest, or of its agent, is told by the process and the connection; only one that hangs is found by asking.
    """

    def __init__(self, count: Callable[[], int] = lambda: 1) -> None:
        self._count = count

    @property
    def interval_s(self) -> float:
        return min(max(PING_INTERVAL_S, self._count() / PINGS_A_SECOND), PING_INTERVAL_MAX_S)
