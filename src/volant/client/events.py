"""Events through the API."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from volant.client.connection import Connection
from volant.client.stream import read_server_events
from volant.core.event import Event
from volant.core.resource import read_wire

PATH = "/api/v1/events"


class Events:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(
        self, *, about_kind: str | None = None, about_name: str | None = None, limit: int | None = None
    ) -> tuple[list[Event], str]:
        """Events, oldest first, and the id to follow from so that none is missed."""
        query = {"about_kind": about_kind, "about_name": about_name, "limit": limit}
        answer = self._connection.request("GET", PATH, query=query)
        return [read_wire(Event, item) for item in answer.json()["items"]], answer.headers.get("Volant-Revision", "")

    def follow(
        self, since: str = "", *, about_kind: str | None = None, about_name: str | None = None
    ) -> Iterator[tuple[str, Event]]:
        """``(id, event)`` after ``since``, or from now on. Ends when volantd stops; Compacted when ``since`` is too old."""
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": since} if since else {})}
        query = {"about_kind": about_kind, "about_name": about_name}
        with self._connection.stream(PATH, query=query, headers=headers) as stream:
            for event in read_server_events(stream):
                if event is not None:
                    yield event.id, read_wire(Event, msgspec.json.decode(event.data))
