# Made of volant/client/templates.py by volant.client.generate: change that, and make this anew.
"""Templates through the API."""

from __future__ import annotations

from typing import Any

import msgspec

from volant.client.aio.connection import Connection
from volant.core.template import Template

PATH = "/api/v1/templates"
BUILD_S = 930.0
"Longer than volantd tries."
PRUNE_S = 120.0


class Templates:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def build(self, plugin: str, *, cpu_cores: int | None = None, memory_mb: int | None = None) -> Template:
        """The template that VMs of ``plugin`` start from, made when it is not there; that may take minutes."""
        document = {"plugin": plugin, "cpu_cores": cpu_cores, "memory_mb": memory_mb}
        answer = await self._connection.request("POST", PATH, document=document, timeout_s=BUILD_S)
        return msgspec.convert(answer.json(), Template)

    async def prune(self) -> list[Template]:
        """Remove those that nothing stands on; what went."""
        return _read_all((await self._connection.request("POST", f"{PATH}/prune", timeout_s=PRUNE_S)).json())

    async def list(self) -> list[Template]:
        """Those used last first."""
        return _read_all(await self._connection.get_json(PATH))


def _read_all(found: Any) -> list[Template]:
    return msgspec.convert(found["items"], list[Template])
