"""Plugins through the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from volant.client.connection import ANSWER_S, Connection
from volant.client.waiting import wait_query
from volant.core.plugin import Plugin
from volant.core.resource import read_wire

PATH = "/api/v1/plugins"


class Plugins:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def install(self, manifest: Mapping[str, Any], *, wait: bool = False, timeout_s: float = 60.0) -> tuple[Plugin, bool]:
        """The plugin, and whether it is new; the files that it names must have been uploaded."""
        answer = self._connection.request(
            "POST",
            PATH,
            query=wait_query("ready" if wait else None, timeout_s),
            document=dict(manifest),
            timeout_s=ANSWER_S + (timeout_s if wait else 0),
        )
        return read_wire(Plugin, answer.json()), answer.status == 201

    def get(self, name: str) -> Plugin:
        return read_wire(Plugin, self._connection.get_json(f"{PATH}/{name}"))

    def manifest(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._connection.get_json(f"{PATH}/{name}/manifest")
        return found

    def list(self) -> list[Plugin]:
        return [read_wire(Plugin, item) for item in self._connection.get_json(PATH)["items"]]

    def remove(self, name: str, *, wait: bool = False, timeout_s: float = 60.0) -> Plugin | None:
        """The plugin as it is being removed; None when it was waited for and is gone."""
        answer = self._connection.request(
            "DELETE",
            f"{PATH}/{name}",
            query=wait_query("deleted" if wait else None, timeout_s),
            timeout_s=ANSWER_S + (timeout_s if wait else 0),
        )
        return None if answer.status == 204 else read_wire(Plugin, answer.json())
