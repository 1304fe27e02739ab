# Made of volant/client/inspection.py by volant.client.generate: change that, and make this anew.
"""What the host has of VMs, through the API."""

from __future__ import annotations

from typing import Any

import msgspec

from volant.client.aio.connection import Connection
from volant.core.security import ProcessSecurity

PATH = "/api/v1/vms"


class Inspections:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def security(self, name: str) -> ProcessSecurity:
        """How its process is kept in, as the kernel says; WrongState when it does not run."""
        found = await self._connection.get_json(f"{PATH}/{name}/security")
        return msgspec.convert(found, ProcessSecurity)

    async def inspect(self, name: str) -> dict[str, Any]:
        """All that there is of it: ``vm``, ``machine``, ``files``, ``command``, ``security`` and more. Paths are the host's."""
        found: dict[str, Any] = await self._connection.get_json(f"{PATH}/{name}/inspect")
        return found
