"""Pools through the API."""

from __future__ import annotations

from typing import Any

from volant.client.connection import Connection
from volant.client.plugins import PATH as PLUGINS
from volant.client.waiting import if_match
from volant.core.plugin import Plugin
from volant.core.resource import read_wire

PATH = "/api/v1/pools"


class Pools:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self) -> list[dict[str, Any]]:
        """``plugin``, ``wanted``, ``parked``, ``reserved_mb`` and ``message`` of each."""
        found: list[dict[str, Any]] = self._connection.get_json(PATH)["items"]
        return found

    def set(self, plugin: str, size: int | None, *, generation: int | None = None) -> Plugin:
        """Keep ``size`` clones of ``plugin`` ready to be taken; None is what its manifest says."""
        path = f"{PLUGINS}/{plugin}/pool"
        answer = self._connection.request("PUT", path, document={"size": size}, headers=if_match(generation))
        return read_wire(Plugin, answer.json())
