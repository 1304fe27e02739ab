"""Server-sent events (HTML Living Standard, section 9.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from volant.api.problem import describe_error
from volant.core.errors import VolantError

MEDIA_TYPE = "text/event-stream"
HEARTBEAT = b": still here\n\n"


def format_event(data: object, *, event: str = "", id_: str = "") -> bytes:
    """One event whose data is ``data`` as JSON, on one line."""
    head = (f"id: {id_}\n" if id_ else "") + (f"event: {event}\n" if event else "")
    return head.encode() + b"data: " + msgspec.json.encode(data) + b"\n\n"


async def end_with_problem(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """``events``; an error that comes up after the answer began is told as a last event named ``problem``."""
    try:
        async for event in events:
            yield event
    except VolantError as error:
        yield format_event(describe_error(error), event="problem")
