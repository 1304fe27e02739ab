"""Reading answers that have no known end. The twin of volant.client.stream."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from volant.client.aio.connection import Connection, Query, Stream
from volant.client.connection import ConnectionLost, Patience
from volant.client.stream import LINE_MAX_BYTES, SILENCE_S, EventReader, ServerEvent, read_json_line
from volant.core.errors import Unavailable


async def read_server_events(stream: Stream) -> AsyncIterator[ServerEvent | None]:
    """As its twin."""
    reader = EventReader()
    async for line in _read_lines(stream):
        for event in reader.take(line):
            yield event


async def follow_server_events(
    connection: Connection,
    path: str,
    query: Query | None = None,
    *,
    since: str = "",
    timeout_s: float | None = None,
) -> AsyncIterator[ServerEvent]:
    """As its twin."""
    last = since
    patience = Patience(connection.reconnect_s)
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
        left = None if deadline is None else max(0.001, deadline - time.monotonic())
        try:
            async with connection.stream(path, query=query, headers=headers, timeout_s=left, silence_s=SILENCE_S) as stream:
                async for event in read_server_events(stream):
                    patience = Patience(connection.reconnect_s, begun=True)
                    if event is not None:
                        last = event.id or last
                        yield event
            raise ConnectionLost("volantd ended the stream", hint="did it stop? ask again when it is back")
        except Unavailable as error:
            await connection.pause(patience.after(error))


async def read_json_lines(stream: Stream) -> AsyncIterator[dict[str, Any]]:
    """One object a line. A line that is a problem document is raised."""
    async for line in _read_lines(stream):
        if line:
            yield read_json_line(line)


async def _read_lines(stream: Stream) -> AsyncIterator[bytes]:
    while line := await stream.read_line(LINE_MAX_BYTES):
        if not line.endswith(b"\n"):
            raise Unavailable("volantd ended the answer in the middle of a line")
        yield line.rstrip(b"\r\n")


__all__ = ["follow_server_events", "read_json_lines", "read_server_events"]
