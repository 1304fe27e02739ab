# Made of volant/client/system.py by volant.client.generate: change that, and make this anew.
"""volantd as a whole, through the API."""

from __future__ import annotations

from typing import Any

from volant.client.aio.connection import Connection

CHECK_S = 120.0
"Checking a host may prove its KVM by a boot."


class System:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def health(self) -> dict[str, Any]:
        found: dict[str, Any] = await self._connection.get_json("/healthz")
        return found

    async def openapi(self) -> dict[str, Any]:
        """The OpenAPI document of this volantd."""
        found: dict[str, Any] = await self._connection.get_json("/openapi.json")
        return found

    async def checks(self) -> dict[str, Any]:
        """``{"items": [{"name", "state", "message", "fix"}]}``; the state is ok, warning or failed."""
        found: dict[str, Any] = (await self._connection.request("GET", "/api/v1/system/checks", timeout_s=CHECK_S)).json()
        return found

    async def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = await self._connection.get_json("/api/v1/system/summary")
        return found

    async def queues(self) -> list[dict[str, Any]]:
        """One for each controller: what waits, and what its passes cost."""
        found: list[dict[str, Any]] = (await self._connection.get_json("/api/v1/system/queues"))["items"]
        return found

    async def queue(self, controller: str, *, limit: int | None = None) -> dict[str, Any]:
        """``queue``, and ``keys``: at most ``limit`` of those that wait, are planned or in hand, and why. Raises NotFound."""
        found: dict[str, Any] = await self._connection.get_json(f"/api/v1/system/queues/{controller}", {"limit": limit})
        return found

    async def leader(self) -> dict[str, Any]:
        """``node``, ``since``, and ``here``: whether it is the volantd that answers."""
        found: dict[str, Any] = await self._connection.get_json("/api/v1/system/leader")
        return found

    async def rotate_token(self) -> str:
        """A new token for who connects by TCP; the old one is worth nothing any more."""
        return str((await self._connection.request("POST", "/api/v1/system/token")).json()["token"])

    async def drain(self) -> int:
        """Tell every VM of the host to stop; how many that were."""
        return int((await self._connection.request("POST", "/api/v1/system/drain")).json()["stopping"])
