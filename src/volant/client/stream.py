"""Reading answers that have no known end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from volant.client.connection import Connection, ConnectionLost, Patience, Query, Stream
from volant.client.problem import read_problem
from volant.core.errors import Unavailable, VolantError

LINE_MAX_BYTES = 4 * 1024 * 1024

SILENCE_S = 60.0
"""A stream of events shows a sign of life every 15 s."""


class ServerEvent(NamedTuple):
    """One server-sent event (HTML Living Standard, section 9.2). ``id`` is its own: empty where one cannot go on after it."""

    event: str
    id: str
    data: str


class EventReader:
    """Makes events of lines without their ends."""

    def __init__(self) -> None:
        self._event = self._id = ""
        self._data: list[str] = []

    def take(self, line: bytes) -> Iterator[ServerEvent | None]:
        """An event when it is whole, None for a heartbeat, mostly nothing. An event named ``problem`` is raised."""
        text = line.decode("utf-8", "replace")
        if not text:
            data, event, id_ = "\n".join(self._data), self._event, self._id
            self._event, self._id, self._data = "", "", []
            if not data:
                return
            if event == "problem":
                raise _told(msgspec.json.decode(data))
            yield ServerEvent(event or "message", id_, data)
            return
        name, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if not name:
            yield None
        elif name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id":
            self._id = value


def read_server_events(stream: Stream) -> Iterator[ServerEvent | None]:
    """Events as they come; None for every heartbeat. An event named ``problem`` is raised as the error that it tells."""
    reader = EventReader()
    for line in _read_lines(stream):
        yield from reader.take(line)


def follow_server_events(
    connection: Connection,
    path: str,
    query: Query | None = None,
    *,
    since: str = "",
    timeout_s: float | None = None,
) -> Iterator[ServerEvent]:
    """Events for ever, after the one of the id ``since``. When the stream ends it is taken up where it was.

    Raises:
        TimedOut: longer than ``timeout_s``. Unavailable: volantd did not come back within ``connection.reconnect_s``.
        Compacted: it no longer knows what came after the last event.
    """
    last = since
    patience = Patience(connection.reconnect_s)
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
        left = None if deadline is None else max(0.001, deadline - time.monotonic())
        try:
            with connection.stream(path, query=query, headers=headers, timeout_s=left, silence_s=SILENCE_S) as stream:
                for event in read_server_events(stream):
                    patience = Patience(connection.reconnect_s, begun=True)
                    if event is not None:
                        last = event.id or last
                        yield event
            raise ConnectionLost("volantd ended the stream", hint="did it stop? ask again when it is back")
        except Unavailable as error:
            connection.pause(patience.after(error))


def read_json_lines(stream: Stream) -> Iterator[dict[str, Any]]:
    """One object a line. A line that is a problem document is raised."""
    for line in _read_lines(stream):
        if line:
            yield read_json_line(line)


def read_json_line(line: bytes) -> dict[str, Any]:
    """Raises what a problem document tells."""
    found: dict[str, Any] = msgspec.json.decode(line)
    if "code" in found and "detail" in found:
        raise _told(found)
    return found


def _read_lines(stream: Stream) -> Iterator[bytes]:
    while line := stream.read_line(LINE_MAX_BYTES):
        if not line.endswith(b"\n"):
            raise Unavailable("volantd ended the answer in the middle of a line")
        yield line.rstrip(b"\r\n")


def _told(problem: dict[str, Any]) -> VolantError:
    status = problem.get("status")
    return read_problem(status if isinstance(status, int) else 500, problem)
