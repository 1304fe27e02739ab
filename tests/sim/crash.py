"""Ending a block by a Crash."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from .host import Crash


@contextlib.contextmanager
def crashing() -> Iterator[None]:
    """Lets a Crash end its block, wherever in a tree of task groups it was raised."""
    try:
        yield
    except BaseException as error:
        if not _is_crash(error):
            raise


def _is_crash(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(_is_crash(inner) for inner in error.exceptions)
    return isinstance(error, Crash)
