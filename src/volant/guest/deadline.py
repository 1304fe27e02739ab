"""Deadlines on the injected clock."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from volant.core.clock import Clock

T = TypeVar("T")


async def race(work: Coroutine[Any, Any, T], alarm: Coroutine[Any, Any, None]) -> T:
    """What ``work`` returns or raises when it ends first; the other is cancelled and awaited.

    Raises:
        TimeoutError: ``alarm`` ended first.
    """
    working = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(alarm)
    try:
        await asyncio.wait((working, waiting), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        waiting.result()
        raise TimeoutError
    finally:
        working.cancel()
        waiting.cancel()
        await asyncio.gather(working, waiting, return_exceptions=True)


async def within(clock: Clock, timeout_s: float, work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` returns. Raises TimeoutError after ``timeout_s`` seconds of ``clock``."""
    return await race(work, clock.sleep(timeout_s))
