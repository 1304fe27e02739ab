"""The keepers that the suite is run against. Another keeper is one more entry in KEEPERS."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from volant.store.contract import Store
from volant.store.sqlite import open_store


class TurnedClock:
    """A wall clock that only moves when it is turned."""

    def __init__(self) -> None:
        self._now = datetime(2030, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._now.timestamp()

    async def sleep(self, seconds: float) -> None:
        self.turn(seconds)

    def turn(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


class Keeper:
    """One keeper under test. ``open`` opens the same data every time."""

    def __init__(self, open_again: Callable[[TurnedClock], AbstractAsyncContextManager[Store]]) -> None:
        self.clock = TurnedClock()
        self._open = open_again

    def open(self) -> AbstractAsyncContextManager[Store]:
        return self._open(self.clock)


def sqlite(directory: Path) -> Keeper:
    return Keeper(lambda clock: open_store(directory / "volant.db", clock))


KEEPERS = {"sqlite": sqlite}
