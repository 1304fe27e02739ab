"""One life of one program. When it is killed nothing of it runs again: no handler, no ``finally``, no callback."""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from collections.abc import Callable
from typing import Any

INCARNATION: contextvars.ContextVar[Incarnation | None] = contextvars.ContextVar("incarnation", default=None)
"""Whose code runs. Tasks and callbacks inherit it from who made them; None is the world outside."""

ASKED_BY: contextvars.ContextVar[str] = contextvars.ContextVar("asked_by", default="")
"""Who had the idea of what runs: a ``user``, one who ``insists`` whatever budgets say, or by default a controller."""

LAST_WORDS = 20
"""How often a coroutine may wait in its handlers while it is closed."""


class Incarnation:
    def __init__(self, number: int) -> None:
        self.number = number
        self.is_dead = False
        self.is_over = False
        """It ended by itself, in order."""
        self.tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self.on_death: list[Callable[[], None]] = []
        """What the kernel does for it: closes its files and connections."""
        self.died = asyncio.Event()
        self.ready = asyncio.Event()
        self.stopping = asyncio.Event()
        self.context = contextvars.copy_context()
        self.context.run(INCARNATION.set, self)

    @property
    def is_gone(self) -> bool:
        return self.is_dead or self.is_over

    def lose_at_death(self, close: Callable[[], None]) -> None:
        """Have ``close`` called when it ends; now, when it has."""
        if self.is_gone:
            close()
        else:
            self.on_death.append(close)

    def end(self) -> None:
        """It ended in order; its files are closed all the same."""
        self.is_over = True
        for close in self.on_death:
            close()
        self.died.set()

    def die(self) -> list[asyncio.Task[Any]]:
        """Mark it dead; return the tasks that it leaves, which must be kept: collected, they would run their ``finally``."""
        self.is_dead = True
        left = [task for task in self.tasks if not task.done()]
        for close in self.on_death:
            close()
        self.died.set()
        return left


def bury(tasks: list[asyncio.Task[Any]]) -> None:
    """Let go of what killed programs left, when nothing that their last words do can matter any more."""
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # they are pending for good
        for _ in range(LAST_WORDS):
            try:
                task.get_coro().close()  # type: ignore[union-attr]  # ours are coroutines
            except BaseException:  # noqa: BLE001  # a handler of a world that is over, which waits once more
                continue
            break
