# Made of volant/client/quotas.py by volant.client.generate: change that, and make this anew.
"""Quotas through the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from volant.client.aio.connection import Connection
from volant.client.waiting import if_match
from volant.core.quota import Quota
from volant.core.resource import read_wire

PATH = "/api/v1/quotas"
MERGE_PATCH = "application/merge-patch+json"


class Quotas:
    """``generation`` everywhere: raise PreconditionFailed when the quota is at another."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create(self, wanted: Mapping[str, Any], *, dry_run: bool = False) -> Quota:
        """``wanted`` is the flat object, ``{"name": "lab", "vms": 10}``."""
        query = {"dry_run": "true" if dry_run else None}
        return read_wire(Quota, (await self._connection.request("POST", PATH, query=query, document=dict(wanted))).json())

    async def get(self, name: str) -> Quota:
        return read_wire(Quota, await self._connection.get_json(f"{PATH}/{name}"))

    async def list(self, labels: Mapping[str, str] | str | None = None, **filters: str | int | None) -> list[Quota]:
        """All that match. The filters are those of the API: ``q``, ``sort``, ``order``, ``limit``."""
        return [*(await self.list_page(labels, filters))[0]]

    async def list_page(
        self,
        labels: Mapping[str, str] | str | None = None,
        filters: Mapping[str, str | int | None] | None = None,
        cursor: str | None = None,
    ) -> tuple[Sequence[Quota], str | None, int]:
        """A page, the cursor of the one after (None on the last), and how many there are on all."""
        selector = labels if isinstance(labels, str) else ",".join((f"{key}={value}" for key, value in (labels or {}).items()))
        answer = await self._connection.request(
            "GET", PATH, query={"labels": selector or None, "cursor": cursor, **(filters or {})}
        )
        found = answer.json()
        total = int(answer.headers.get("Volant-Total-Count", len(found["items"])))
        return ([read_wire(Quota, item) for item in found["items"]], found.get("next"), total)

    async def replace(
        self, name: str, wanted: Mapping[str, Any], *, generation: int | None = None, dry_run: bool = False
    ) -> Quota:
        """The whole flat object, as ``get`` gives it and somebody edited it."""
        answer = await self._connection.request(
            "PUT",
            f"{PATH}/{name}",
            query={"dry_run": "true" if dry_run else None},
            document=dict(wanted),
            headers=if_match(generation),
        )
        return read_wire(Quota, answer.json())

    async def edit(self, name: str, patch: Mapping[str, Any], *, generation: int | None = None, dry_run: bool = False) -> Quota:
        """A merge patch (RFC 7396); None lifts a limit."""
        answer = await self._connection.request(
            "PATCH",
            f"{PATH}/{name}",
            query={"dry_run": "true" if dry_run else None},
            document=dict(patch),
            headers={**if_match(generation), "Content-Type": MERGE_PATCH},
        )
        return read_wire(Quota, answer.json())

    async def delete(self, name: str, *, generation: int | None = None) -> None:
        await self._connection.request("DELETE", f"{PATH}/{name}", headers=if_match(generation))
