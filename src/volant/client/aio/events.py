# Made of volant/client/events.py by volant.client.generate: change that, and make this anew.
"""Events through the API."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from volant.client.aio.connection import Connection
from volant.client.aio.stream import follow_server_events
from volant.core.event import Event
from volant.core.resource import read_wire

PATH = "/api/v1/events"


class Events:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def list(
        self, *, about_kind: str | None = None, about_name: str | None = None, limit: int | None = None
    ) -> tuple[list[Event], str]:
        """Events, oldest first, and the id to follow from so that none is missed."""
        query = {"about_kind": about_kind, "about_name": about_name, "limit": limit}
        answer = await self._connection.request("GET", PATH, query=query)
        return ([read_wire(Event, item) for item in answer.json()["items"]], answer.headers.get("Volant-Revision", ""))

    async def follow(
        self, since: str = "", *, about_kind: str | None = None, about_name: str | None = None
    ) -> AsyncIterator[tuple[str, Event]]:
        """``(id, event)`` after ``since``, or from now on; the id is empty where one cannot go on. A stream that ends is taken
        up again. Raises Compacted when ``since`` is too old, Unavailable when volantd does not come back."""
        query = {"about_kind": about_kind, "about_name": about_name}
        async for event in follow_server_events(self._connection, PATH, query, since=since):
            yield (event.id, read_wire(Event, msgspec.json.decode(event.data)))
