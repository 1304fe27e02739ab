"""How many VMs of a host may be starting at a time. Beyond about two a core they only take each other's time: the same starts
cost more of the processor, and the first is ready when the last is."""

from __future__ import annotations

from collections.abc import Callable

from volant.core.clock import Clock
from volant.core.ids import Uid

LIMIT_S = 30.0
"""Whoever has not become ready by then is not waited for any longer."""


WAIT_S = 30.0
LOOKS_A_SECOND = 50
"""Whoever waits is told when its turn comes, and looks by itself in case it is not; however many wait, so many in a second."""


class StartGate:
    """First come, first served. ``on_turn`` is called with the uid whose turn has come."""

    def __init__(self, clock: Clock, width: int, on_turn: Callable[[Uid], None]) -> None:
        self._clock = clock
        self._width = width
        self._on_turn = on_turn
        self._inside: dict[Uid, float] = {}
        self._waiting: dict[Uid, None] = {}

    def enter(self, uid: Uid) -> bool:
        """Whether ``uid`` may start now; if not it is in line."""
        expired = self._expire()
        if uid in self._inside:
            return True
        if len(self._inside) < self._width and next(iter(self._waiting), uid) == uid:
            self._waiting.pop(uid, None)
            self._inside[uid] = self._clock.monotonic() + LIMIT_S
            # Several may have left before the first in line came: there is room for more than it.
            self._call_next()
            return True
        self._waiting.setdefault(uid)
        if expired:
            self._call_next()
        return False

    @property
    def retry_s(self) -> float:
        """After how many seconds somebody who waits is to look by itself."""
        return max(WAIT_S, len(self._waiting) / LOOKS_A_SECOND)

    def leave(self, uid: Uid) -> None:
        """It is ready, or will not be: let the next one in. Does nothing for one that neither starts nor waits."""
        self._waiting.pop(uid, None)
        if self._inside.pop(uid, None) is not None:
            self._call_next()

    def _call_next(self) -> None:
        following = next(iter(self._waiting), None)
        if following is not None and len(self._inside) < self._width:
            self._on_turn(following)

    def _expire(self) -> bool:
        """Whether somebody was inside for too long."""
        now = self._clock.monotonic()
        late = [uid for uid, until in self._inside.items() if until <= now]
        for uid in late:
            del self._inside[uid]
        return bool(late)
