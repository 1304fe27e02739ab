# Made of volant/client/snapshots.py by volant.client.generate: change that, and make this anew.
"""Snapshots through the API."""

from __future__ import annotations

from collections.abc import Mapping

from volant.client.aio.connection import ANSWER_S, Connection
from volant.client.waiting import if_match, wait_query
from volant.core.resource import read_wire
from volant.core.snapshot import Snapshot

PATH = "/api/v1/snapshots"


class Snapshots:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create(
        self,
        name: str,
        vm: str,
        *,
        memory: bool = True,
        labels: Mapping[str, str] | None = None,
        wait: bool = False,
        timeout_s: float = 60.0,
    ) -> Snapshot:
        """Take one of ``vm``, with its memory or of its disk alone.

        With ``wait`` the answer comes when it was taken or has failed: look at its status.
        """
        answer = await self._connection.request(
            "POST",
            PATH,
            query=wait_query("ready" if wait else None, timeout_s),
            document={"name": name, "vm": vm, "memory": memory, "labels": dict(labels or {})},
            timeout_s=ANSWER_S + (timeout_s if wait else 0),
        )
        return read_wire(Snapshot, answer.json())

    async def get(self, name: str) -> Snapshot:
        return read_wire(Snapshot, await self._connection.get_json(f"{PATH}/{name}"))

    async def list(self, labels: Mapping[str, str] | None = None) -> list[Snapshot]:
        selector = ",".join((f"{key}={value}" for key, value in labels.items())) if labels else None
        return [read_wire(Snapshot, item) for item in (await self._connection.get_json(PATH, {"labels": selector}))["items"]]

    async def delete(
        self, name: str, *, wait: bool = False, timeout_s: float = 60.0, generation: int | None = None
    ) -> Snapshot | None:
        """The snapshot as it is being deleted; None when it was waited for and is gone. ``generation``: raise PreconditionFailed
        when it is at another."""
        answer = await self._connection.request(
            "DELETE",
            f"{PATH}/{name}",
            query=wait_query("deleted" if wait else None, timeout_s),
            headers=if_match(generation),
            timeout_s=ANSWER_S + (timeout_s if wait else 0),
        )
        return None if answer.status == 204 else read_wire(Snapshot, answer.json())
