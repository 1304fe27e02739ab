"""volantd as a whole, through the API."""

from __future__ import annotations

from typing import Any

from volant.client.connection import Connection

CHECK_S = 120.0
"""Checking a host may prove its KVM by a boot."""


class System:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def health(self) -> dict[str, Any]:
        found: dict[str, Any] = self._connection.get_json("/healthz")
        return found

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document of this volantd."""
        found: dict[str, Any] = self._connection.get_json("/openapi.json")
        return found

    def checks(self) -> dict[str, Any]:
        """``{"items": [{"name", "state", "message", "fix"}]}``; the state is ok, warning or failed."""
        found: dict[str, Any] = self._connection.request("GET", "/api/v1/system/checks", timeout_s=CHECK_S).json()
        return found

    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = self._connection.get_json("/api/v1/system/summary")
        return found

    def rotate_token(self) -> str:
        """A new token for who connects by TCP; the old one is worth nothing any more."""
        return str(self._connection.request("POST", "/api/v1/system/token").json()["token"])

    def drain(self) -> int:
        """Tell every VM of the host to stop; how many that were."""
        return int(self._connection.request("POST", "/api/v1/system/drain").json()["stopping"])
