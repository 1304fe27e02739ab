"""Server-sent events (HTML Living Standard, section 9.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import Request

from volant.api.problem import describe_error
from volant.core.errors import Malformed, VolantError

MEDIA_TYPE = "text/event-stream"
HEARTBEAT = b": still here\n\n"

STALL_S = 60.0
"""Who takes nothing for so long, heartbeats among it, is cut: its place in the log is all that it needs to go on."""

_REVISION_DIGITS = 18


def read_last_id(request: Request[Any, Any, Any]) -> int | None:
    """The revision that Last-Event-ID names. Raises Malformed."""
    text = request.headers.get("last-event-id")
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= _REVISION_DIGITS):
        raise Malformed("Last-Event-ID is not one that was given here", field="Last-Event-ID")
    return int(text)


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
