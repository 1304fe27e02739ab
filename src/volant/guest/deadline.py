"""Deadlines on the injected clock."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from volant.core.clock import Clock

T = TypeVar("T")


async def first_of(*works: Coroutine[Any, Any, T]) -> T:
    """What the first of ``works`` to end returns or raises; the others are cancelled and awaited.

    A task group would do, but for its loss of a cancellation that comes in the moment in which a task of it fails.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def race(work: Coroutine[Any, Any, T], alarm: Coroutine[Any, Any, None]) -> T:
    """What ``work`` returns or raises when it ends first, or at once with the alarm. Raises TimeoutError when ``alarm`` does."""

    async def ring() -> T:
        await alarm
        raise TimeoutError

    return await first_of(work, ring())


async def within(clock: Clock, timeout_s: float, work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` returns. Raises TimeoutError after ``timeout_s`` seconds of ``clock``."""
    return await race(work, clock.sleep(timeout_s))
