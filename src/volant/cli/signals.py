"""Signals to a command that has something to undo."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def handling_signals(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP go to ``handler``."""
    before = {number: signal.signal(number, handler) for number in list_heard()}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """They interrupt as Ctrl-C does, so that what was begun is undone."""
    with handling_signals(signal.default_int_handler):
        yield


@contextlib.contextmanager
def deferred_signals() -> Iterator[None]:
    """They interrupt at the end of the block: what it makes is known by then. Programs that it starts have their own handlers."""
    heard: list[int] = []
    with handling_signals(lambda number, _frame: heard.append(number)):
        yield
    if heard:
        raise KeyboardInterrupt


def list_heard() -> list[signal.Signals]:
    """All but those that somebody wants to be passed over, as nohup does."""
    return [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]
