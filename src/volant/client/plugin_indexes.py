"""Plugin indexes through the API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from volant.client.connection import Connection
from volant.core.errors import NotFound

PATH = "/api/v1/plugin-indexes"
LOOKUP = "/api/v1/plugin-index"
READ_S = 300.0
"""volantd may have to read the index from far away."""


class PluginIndexes:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self) -> Sequence[dict[str, Any]]:
        found: Sequence[dict[str, Any]] = self._connection.get_json(PATH)["items"]
        return found

    def add(self, name: str, source: str, *, key: str = "", content: str = "", signature: str = "") -> dict[str, Any]:
        """An index at ``https://…``, or the ``content`` of a file with its ``signature``, and the file's url."""
        told = {"name": name, "source": source, "key": key, "content": content, "signature": signature}
        document = {field: value for field, value in told.items() if value}
        added: dict[str, Any] = self._connection.request("POST", PATH, document=document, timeout_s=READ_S).json()
        return added

    def update(self, name: str) -> dict[str, Any]:
        """Have volantd read it anew."""
        updated: dict[str, Any] = self._connection.request("POST", f"{PATH}/{name}/update", timeout_s=READ_S).json()
        return updated

    def remove(self, name: str) -> None:
        self._connection.request("DELETE", f"{PATH}/{name}")

    def search(self, text: str = "") -> Sequence[dict[str, Any]]:
        found: Sequence[dict[str, Any]] = self._connection.get_json(f"{LOOKUP}/search", {"q": text or None})["items"]
        return found

    def resolve(self, name: str, version: str = "") -> dict[str, Any] | None:
        """Where an index says that a plugin is; None when none knows it."""
        try:
            found: dict[str, Any] = self._connection.get_json(f"{LOOKUP}/plugins/{name}", {"version": version or None})
        except NotFound:
            return None
        return found
