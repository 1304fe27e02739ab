# Made of volant/client/pools.py by volant.client.generate: change that, and make this anew.
"""Pools through the API."""

from __future__ import annotations

from typing import Any

from volant.client.aio.connection import Connection
from volant.client.aio.plugins import PATH as PLUGINS
from volant.client.waiting import if_match
from volant.core.plugin import Plugin
from volant.core.resource import read_wire

PATH = "/api/v1/pools"


class Pools:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def list(self) -> list[dict[str, Any]]:
        """``plugin``, ``wanted``, ``parked``, ``reserved_mb`` and ``message`` of each."""
        found: list[dict[str, Any]] = (await self._connection.get_json(PATH))["items"]
        return found

    async def set(self, plugin: str, size: int | None, *, generation: int | None = None) -> Plugin:
        """Keep ``size`` clones of ``plugin`` ready to be taken; None is what its manifest says."""
        path = f"{PLUGINS}/{plugin}/pool"
        answer = await self._connection.request("PUT", path, document={"size": size}, headers=if_match(generation))
        return read_wire(Plugin, answer.json())
