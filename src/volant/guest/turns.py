"""Whose turn it is to open a stream: a session carries only so many, and no kind of them may shut out the others."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from typing import Literal

from volant.core.clock import Clock
from volant.core.errors import GuestUnreachable, Unavailable
from volant.guest.deadline import within

Kind = Literal["exec", "attach", "connect", "files", "logs"]

KINDS: tuple[Kind, ...] = ("exec", "attach", "connect", "files", "logs")
TURN_S = 10.0
"""How long an opener waits while nobody's turn comes."""

LONGEST_S = 60.0
"""How long it waits at most."""

MAX_ASKED = 32
"""Openings of one kind that the guest has not answered yet: more would only wait there, and that is not seen from here."""

MAX_WAITING = 1_024
"""Openers that wait at once; one more is turned away at once."""

_FLOOR_SHARE = 16
"""Each kind can always have a 16th of the places, whatever the others hold."""


class Turns:
    """``total`` places are shared by all kinds, first come first served within a kind."""

    def __init__(self, clock: Clock, total: int) -> None:
        self._clock = clock
        self._total = total
        self._held: Counter[Kind] = Counter()
        self._asked: Counter[Kind] = Counter()
        self._granted = 0
        self._waiting: dict[Kind, deque[asyncio.Future[None]]] = {}
        """By kind, for those that anybody has waited for: of thousands of guests few are ever asked for so much."""
        self._over: str | None = None

    def widen(self, total: int) -> None:
        """The guest said how many places there are."""
        self._total = total
        self._wake()

    async def take(self, kind: Kind, doing: str) -> None:
        """Hold a place from now on until ``give``; ``settle`` says that the guest has answered.

        Raises:
            Unavailable: nobody's turn came within 10 s, or not this one within 60 s, or very many wait already.
            GuestUnreachable: the session ended.
        """
        if self._over is not None:
            raise GuestUnreachable(f"{doing}: {self._over}")
        if not self._waiting.get(kind) and self._is_free_for(kind):
            self._grant(kind)
            return
        queue = self._waiting.setdefault(kind, deque())
        if sum(map(len, self._waiting.values())) >= MAX_WAITING:
            raise busy(doing, f"{MAX_WAITING} others wait for their turn already")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await self._wait(turn)
        except BaseException as error:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.settle(kind)  # it was given in the moment in which we went
                self.give(kind)
            with contextlib.suppress(ValueError):
                queue.remove(turn)
            turn.cancel()
            if isinstance(error, TimeoutError):
                why = f"none of {self._total} streams came free in time"
                raise busy(doing, why) from error
            if isinstance(error, GuestUnreachable):
                raise GuestUnreachable(f"{doing}: {error.message}") from error
            raise

    def settle(self, kind: Kind) -> None:
        """The guest answered an opening, or never will."""
        self._asked[kind] -= 1
        self._wake()

    def give(self, kind: Kind) -> None:
        """A place that was held is free."""
        self._held[kind] -= 1
        self._wake()

    def end(self, reason: str) -> None:
        """The session is over: who waits is told why."""
        self._over = reason
        for queue in self._waiting.values():
            for turn in queue:
                if not turn.done():
                    turn.set_exception(GuestUnreachable(reason))
            queue.clear()

    def _is_free_for(self, kind: Kind) -> bool:
        floor = self._total // _FLOOR_SHARE
        kept = sum(max(0, floor - self._held[other]) for other in KINDS if other != kind)
        return self._asked[kind] < MAX_ASKED and self._held.total() + kept < self._total

    def _grant(self, kind: Kind) -> None:
        self._held[kind] += 1
        self._asked[kind] += 1
        self._granted += 1

    async def _wait(self, turn: asyncio.Future[None]) -> None:
        begun_s = self._clock.monotonic()
        while True:
            seen = self._granted
            try:
                return await within(self._clock, TURN_S, _await(turn))
            except TimeoutError:
                if self._granted == seen or self._clock.monotonic() - begun_s >= LONGEST_S:
                    raise

    def _wake(self) -> None:
        for kind in KINDS:
            queue = self._waiting.get(kind)
            while queue and self._is_free_for(kind):
                turn = queue.popleft()
                if not turn.done():
                    self._grant(kind)
                    turn.set_result(None)


def busy(doing: str, why: str) -> Unavailable:
    return Unavailable(f"{doing}: {why}", hint="end an exec, an attach, a copy or a forwarded port of this VM, or try again")


async def _await(turn: asyncio.Future[None]) -> None:
    await asyncio.shield(turn)
