"""Plugins through the API."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
        self,
        manifest: Mapping[str, Any],
        signed: SignedManifest | None = None,
        *,
        as_default: bool = True,
        replace: bool = False,
        wait: bool = False,
        timeout_s: float = 60.0,
    ) -> tuple[Plugin, bool]:
        """The plugin, and whether it is new; the files that it names must have been uploaded.

        ``signed`` is what its publisher signed, the same manifest but for the urls of files. The plugin's name means this
        version from now on unless ``as_default`` is false; with ``replace`` it takes the place of another content of the same
        version, when nothing was made from that.
        """
        document = dict(manifest)
        if signed is not None:
            document = {"manifest": document, "signed_manifest": signed.manifest, "signature": signed.signature}
        answer = self._connection.request(
            "POST",
            PATH,
            query={**wait_query("ready" if wait else None, timeout_s), **_how(as_default, replace)},
            document=document,
            timeout_s=ANSWER_S + (timeout_s if wait else 0),
        )
        return read_wire(Plugin, answer.json()), answer.status == 201

    def install_from(
        self,
        source: str,
        checksum: str = "",
        *,
        name: str = "",
        version: str = "",
        as_default: bool = True,
        replace: bool = False,
        on_progress: Callable[[FetchProgress], None] = lambda _: None,
        timeout_s: float = 60.0,
    ) -> tuple[Plugin, bool]:
        """The plugin that volantd fetched from ``source``, settled within ``timeout_s`` of its arrival, and whether it is new.

        The source is ``oci://…``, or ``https://…`` with the manifest's ``checksum``. With ``name``, and ``version``, anything
        else that lies there is refused. Who goes away ends it: nothing is installed.
        """
        told = {"checksum": checksum, "name": name, "version": version}
        document = {"source": source, **{field: value for field, value in told.items() if value}}
        stream = self._connection.stream(
            PATH,
            method="POST",
            query={**wait_query("ready", timeout_s), **_how(as_default, replace)},
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
        """Each as its default version."""
        return [read_wire(Plugin, item) for item in self._connection.get_json(PATH)["items"]]

    def versions(self, name: str) -> Sequence[Plugin]:
        """Every version of the plugin ``name``, the default first."""
        return [read_wire(Plugin, item) for item in self._connection.get_json(f"{PATH}/{name}/versions")["items"]]

    def artifacts(self, name: str) -> Sequence[dict[str, Any]]:
        """The files of one version, or of all where only the plugin is named."""
        found: Sequence[dict[str, Any]] = self._connection.get_json(f"{PATH}/{name}/artifacts")["items"]
        return found

    def users(self, name: str) -> dict[str, Sequence[str]]:
        """What needs one version, or any where only the plugin is named: names of ``vms``, ``snapshots``, ``deployments``,
        ``jobs`` and ``cron_jobs``."""
        found: dict[str, Sequence[str]] = self._connection.get_json(f"{PATH}/{name}/users")
        return found

    def set_default(self, name: str, version: str) -> Plugin:
        """Have ``name`` mean ``version``; what was made from another stays on that."""
        answer = self._connection.request("PUT", f"{PATH}/{name}/default", document={"version": version})
        return read_wire(Plugin, answer.json())

    def roll_back(self, name: str) -> Plugin:
        """Have ``name`` mean the version again that it meant before."""
        return read_wire(Plugin, self._connection.request("POST", f"{PATH}/{name}/rollback").json())

    def set_enabled(self, name: str, enabled: bool) -> Sequence[Plugin]:
        """Allow or refuse new VMs of one version, or of all where only the plugin is named."""
        answer = self._connection.request("POST", f"{PATH}/{name}/enabled", document={"enabled": enabled})
        return [read_wire(Plugin, item) for item in answer.json()["items"]]

    def remove(self, name: str, *, force: bool = False, wait: bool = False, timeout_s: float = 60.0) -> Plugin | None:
        """The plugin as it is being removed; None when it was waited for and is gone. With ``force`` what
        needs it is deleted first."""
        answer = self._connection.request(
            "DELETE",
            f"{PATH}/{name}",
            query={**wait_query("deleted" if wait else None, timeout_s), **({"force": True} if force else {})},
            timeout_s=ANSWER_S + (timeout_s if wait else 0),
        )
        return None if answer.status == 204 else read_wire(Plugin, answer.json())


def _how(as_default: bool, replace: bool) -> dict[str, bool]:
    """Only what is not so by itself: an older volantd knows neither."""
    return {**({} if as_default else {"default": False}), **({"replace": True} if replace else {})}
