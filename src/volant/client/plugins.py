"""Plugins through the API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from volant.client.connection import ANSWER_S, Connection
from volant.client.stream import read_json_lines
from volant.client.waiting import wait_query
from volant.core.errors import Unavailable
from volant.core.plugin import Plugin
from volant.core.plugin_source import FetchProgress
from volant.core.resource import read_wire
from volant.core.trust import SignedManifest

PATH = "/api/v1/plugins"
SILENCE_S = 60.0
"""An answer in lines shows a sign of life every 15 s."""


class Plugins:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def install(
        self, manifest: Mapping[str, Any], signed: SignedManifest | None = None, *, wait: bool = False, timeout_s: float = 60.0
    ) -> tuple[Plugin, bool]:
        """The plugin, and whether it is new; the files that it names must have been uploaded.

        ``signed`` is what its publisher signed, the same manifest but for the urls of files.
        """
        document = dict(manifest)
        if signed is not None:
            document = {"manifest": document, "signed_manifest": signed.manifest, "signature": signed.signature}
        answer = self._connection.request(
            "POST",
            PATH,
            query=wait_query("ready" if wait else None, timeout_s),
            document=document,
            timeout_s=ANSWER_S + (timeout_s if wait else 0),
        )
        return read_wire(Plugin, answer.json()), answer.status == 201

    def install_from(
        self,
        source: str,
        checksum: str = "",
        *,
        on_progress: Callable[[FetchProgress], None] = lambda _: None,
        timeout_s: float = 60.0,
    ) -> tuple[Plugin, bool]:
        """The plugin that volantd fetched from ``source``, settled within ``timeout_s`` of its arrival, and whether it is new.

        The source is ``oci://…``, or ``https://…`` with the manifest's ``checksum``. Who goes away ends it: nothing is installed.
        """
        document = {"source": source, **({"checksum": checksum} if checksum else {})}
        stream = self._connection.stream(
            PATH,
            method="POST",
            query=wait_query("ready", timeout_s),
            headers={"Accept": "application/x-ndjson"},
            document=document,
            silence_s=SILENCE_S,
        )
        with stream as answer:
            for line in read_json_lines(answer):
                if "plugin" in line:
                    return read_wire(Plugin, line["plugin"]), bool(line["created"])
                on_progress(FetchProgress(**line))
        raise Unavailable("volantd stopped before the plugin was installed", hint="ask again when it is back")

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
