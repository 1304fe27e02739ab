"""The configuration of VMs through the API: whole, in part, as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from volant.client.connection import Connection
from volant.client.waiting import if_match
from volant.core.resource import read_wire
from volant.core.vm import VM

PATH = "/api/v1/vms"
JSON_PATCH = "application/json-patch+json"


class Configurations:
    """``generation`` everywhere: raise PreconditionFailed when the VM is at another. ``reason`` is kept with the version that
    a change makes. With ``dry_run`` nothing is written, and the answer is what would be."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, name: str) -> dict[str, Any]:
        """``version``, ``updated_at`` and ``config``."""
        found: dict[str, Any] = self._connection.get_json(f"{PATH}/{name}/config")
        return found

    def patch(
        self,
        name: str,
        change: Mapping[str, Any],
        *,
        generation: int | None = None,
        reason: str = "",
        dry_run: bool = False,
    ) -> VM:
        """A merge patch (RFC 7396): ``{"memory_mb": 512, "env": {"MODE": None}}``; None leaves a field to the plugin."""
        return self._write("PATCH", name, dict(change), generation, reason, dry_run)

    def patch_config(
        self, name: str, change: Mapping[str, Any], *, generation: int | None = None, reason: str = "", dry_run: bool = False
    ) -> dict[str, Any]:
        """As ``patch``; the answer is as from ``get``."""
        answer = self._connection.request(
            "PATCH",
            f"{PATH}/{name}/config",
            query={"dry_run": dry_run or None},
            document=dict(change),
            headers={**if_match(generation), **_because(reason)},
        )
        found: dict[str, Any] = answer.json()
        return found

    def patch_json(
        self,
        name: str,
        operations: Sequence[Mapping[str, Any]],
        *,
        generation: int | None = None,
        reason: str = "",
        dry_run: bool = False,
    ) -> VM:
        """A JSON patch (RFC 6902): ``[{"op": "add", "path": "/env/MODE", "value": "fast"}]``."""
        return self._write("PATCH", name, list(operations), generation, reason, dry_run, media_type=JSON_PATCH)

    def replace(
        self,
        name: str,
        wanted: Mapping[str, Any],
        *,
        generation: int | None = None,
        reason: str = "",
        dry_run: bool = False,
    ) -> VM:
        """The whole flat object, as ``VMs.get`` gives it and somebody edited it."""
        return self._write("PUT", name, dict(wanted), generation, reason, dry_run)

    def history(self, name: str, *, limit: int | None = None) -> list[dict[str, Any]]:
        """Its versions, newest first: ``version``, ``updated_at``, ``by``, ``reason``, ``changed``, ``config``."""
        found: list[dict[str, Any]] = self._connection.get_json(f"{PATH}/{name}/config/history", {"limit": limit})["items"]
        return found

    def version(self, name: str, number: int) -> dict[str, Any]:
        found: dict[str, Any] = self._connection.get_json(f"{PATH}/{name}/config/history/{number}")
        return found

    def diff(self, name: str, before: int | None = None, after: int | None = None) -> dict[str, Any]:
        """``before``, ``after`` and ``differences``, each with ``path``, ``before``, ``after`` and ``effect``."""
        found: dict[str, Any] = self._connection.get_json(f"{PATH}/{name}/config/diff", {"from": before, "to": after})
        return found

    def rollback(
        self, name: str, version: int, *, generation: int | None = None, reason: str = "", dry_run: bool = False
    ) -> dict[str, Any]:
        """Configure it as in ``version``, which is a new one. The answer is as from ``get``."""
        answer = self._connection.request(
            "POST",
            f"{PATH}/{name}/config/rollback",
            query={"dry_run": dry_run or None},
            document={"version": version},
            headers={**if_match(generation), **_because(reason)},
        )
        found: dict[str, Any] = answer.json()
        return found

    def _write(
        self,
        method: str,
        name: str,
        document: Any,
        generation: int | None,
        reason: str,
        dry_run: bool,
        media_type: str = "application/json",
    ) -> VM:
        headers = {"Content-Type": media_type, **if_match(generation), **_because(reason)}
        query = {"dry_run": dry_run or None}
        answer = self._connection.request(method, f"{PATH}/{name}", query=query, document=document, headers=headers)
        return read_wire(VM, answer.json())


def _because(reason: str) -> dict[str, str]:
    # What a header holds is sent as Latin-1 (RFC 9110, section 5.5).
    return {"Volant-Reason": reason.encode().decode("latin-1")} if reason else {}
