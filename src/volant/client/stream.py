"""Reading answers that have no known end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from volant.client.connection import Stream
from volant.client.problem import read_problem
from volant.core.errors import Unavailable, VolantError

LINE_MAX_BYTES = 4 * 1024 * 1024


class ServerEvent(NamedTuple):
    """One server-sent event (HTML Living Standard, section 9.2)."""

    event: str
    id: str
    data: str


def read_server_events(stream: Stream) -> Iterator[ServerEvent | None]:
    """Events as they come; None for every heartbeat. An event named ``problem`` is raised as the error that it tells."""
    event = id_ = ""
    data: list[str] = []
    for line in _read_lines(stream):
        text = line.decode("utf-8", "replace")
        if not text:
            if data:
                if event == "problem":
                    raise _told(msgspec.json.decode("\n".join(data)))
                yield ServerEvent(event or "message", id_, "\n".join(data))
            event, data = "", []
            continue
        name, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if not name:
            yield None
        elif name == "data":
            data.append(value)
        elif name == "event":
            event = value
        elif name == "id":
            id_ = value


def read_json_lines(stream: Stream) -> Iterator[dict[str, Any]]:
    """One object a line. A line that is a problem document is raised."""
    for line in _read_lines(stream):
        if not line:
            continue
        found = msgspec.json.decode(line)
        if "code" in found and "detail" in found:
            raise _told(found)
        yield found


def _read_lines(stream: Stream) -> Iterator[bytes]:
    while line := stream.read_line(LINE_MAX_BYTES):
        if not line.endswith(b"\n"):
            raise Unavailable("volantd ended the answer in the middle of a line")
        yield line.rstrip(b"\r\n")


def _told(problem: dict[str, Any]) -> VolantError:
    status = problem.get("status")
    return read_problem(status if isinstance(status, int) else 500, problem)
