"""What happened, in order: as a digest always, as text when somebody wants to read it."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable

TAIL = 60


class Trace:
    def __init__(self, now: Callable[[], float], *, echo: Callable[[str], None] | None = None) -> None:
        self._now = now
        self._echo = echo
        self._digest = hashlib.blake2b(digest_size=16)
        self.tail: deque[str] = deque(maxlen=TAIL)
        self.length = 0

    def add(self, text: str) -> None:
        line = f"{self._now():12.6f} {text}"
        self._digest.update(line.encode() + b"\n")
        self.tail.append(line)
        self.length += 1
        if self._echo is not None:
            self._echo(line)

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()
