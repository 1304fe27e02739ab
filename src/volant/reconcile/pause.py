"""Waiting for a change, or for time to pass."""

from __future__ import annotations

import asyncio

from volant.core.clock import Clock


async def wait_change(changed: asyncio.Event, clock: Clock, seconds: float) -> None:
    """Return when ``changed`` is set, or after ``seconds``."""
    sleep = asyncio.ensure_future(clock.sleep(seconds))
    change = asyncio.ensure_future(changed.wait())
    try:
        await asyncio.wait((sleep, change), return_when=asyncio.FIRST_COMPLETED)
    finally:
        sleep.cancel()
        change.cancel()
