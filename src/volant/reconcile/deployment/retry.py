"""Replicas that could not be made: each is tried again, ever later, until somebody changes the deployment."""

from __future__ import annotations

import msgspec

from volant.core.clock import Clock
from volant.core.errors import AlreadyExists, VolantError
from volant.core.ids import Uid

FIRST_S = 1.0
CAP_S = 60.0
_ALL = -1


class _Row(msgspec.Struct):
    failures: int
    not_before: float
    message: str


class Retries:
    """What is forgotten with this volantd is only that it has to wait."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rows: dict[Uid, dict[int, _Row]] = {}
        self._generations: dict[Uid, int] = {}

    def begin(self, uid: Uid, generation: int) -> None:
        """Forget everything of a deployment that was changed."""
        if self._generations.get(uid) != generation:
            self._generations[uid] = generation
            self._rows.pop(uid, None)

    def forget(self, uid: Uid) -> None:
        self._rows.pop(uid, None)
        self._generations.pop(uid, None)

    def left_s(self, uid: Uid, index: int) -> float:
        """Seconds until ``index`` may be tried."""
        rows = self._rows.get(uid, {})
        now = self._clock.monotonic()
        return max((rows[key].not_before - now for key in (_ALL, index) if key in rows), default=0.0)

    def note(self, uid: Uid, done: list[int], failed: dict[int, VolantError]) -> None:
        rows = self._rows.setdefault(uid, {})
        for index in done:
            rows.pop(index, None)
        if done and not failed:
            rows.pop(_ALL, None)
        # A name that somebody else has is one replica's trouble; a quota, a plugin or a full network is everyone's.
        by_row = {index if isinstance(error, AlreadyExists) else _ALL: error for index, error in failed.items()}
        for key, error in by_row.items():
            failures = rows[key].failures + 1 if key in rows else 1
            wait_s = min(CAP_S, FIRST_S * 2 ** min(failures - 1, 16))
            hint = f" ({error.hint})" if error.hint else ""
            rows[key] = _Row(failures, self._clock.monotonic() + wait_s, f"{error}{hint}")

    def trouble(self, uid: Uid) -> str:
        """Why replicas could not be made, in one line."""
        rows = self._rows.get(uid, {})
        return "; ".join(rows[key].message for key in sorted(rows)[:3])

    def drop(self, uid: Uid, missing: set[int]) -> None:
        """Forget what is not to be made any more."""
        rows = self._rows.get(uid, {})
        for index in [key for key in rows if key != _ALL and key not in missing]:
            del rows[index]
        if not missing:
            rows.pop(_ALL, None)
