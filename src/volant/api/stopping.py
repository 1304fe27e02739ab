"""The word that volantd stops, and what it cuts short."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

from litestar import Litestar

from volant.core.errors import Unavailable

T = TypeVar("T")


def stopping_of(app: Litestar) -> asyncio.Event:
    """Set once when the server begins to stop."""
    return cast(asyncio.Event, app.state.stopping)


async def unless_stopping(app: Litestar, work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` returns. Raises Unavailable when the server is told to stop first."""
    task = asyncio.create_task(work)
    stop = asyncio.create_task(stopping_of(app).wait())
    try:
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Unavailable("volantd is stopping", hint="ask again when it is back; what was asked for stays asked for")
        return task.result()
    finally:
        await cancel_all(task, stop)


async def cancel_all(*tasks: asyncio.Task[Any]) -> None:
    """Cancel what still runs and see it end, so that no task outlives its caller."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
