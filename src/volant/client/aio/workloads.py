# Made of volant/client/workloads.py by volant.client.generate: change that, and make this anew.
"""What listens inside a VM, through the API: its own operations, its plugin's actions, and anything else of it over HTTP."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from volant.client.aio.connection import Connection
from volant.client.aio.content import CallAnswer
from volant.client.problem import raise_problem

PATH = "/api/v1/vms"
FIRST_BYTE_S = 60.0
_IN_PATHS = "/%:@!$&'()*+,;=~-._"
_ANSWERED_BY = "Volant-Answered-By"
Pairs = Iterable[tuple[str, str]]


class Workloads:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def openapi(self, name: str) -> dict[str, Any]:
        """The document that the workload of the VM ``name`` gives of itself. NotFound when it gives none."""
        found: dict[str, Any] = await self._connection.get_json(f"{PATH}/{name}/openapi")
        return found

    async def operations(self, name: str) -> list[dict[str, Any]]:
        """Its operations: ``id``, ``method``, ``path``, ``target``, ``parameters`` and more."""
        found: list[dict[str, Any]] = (await self._connection.get_json(f"{PATH}/{name}/operations"))["items"]
        return found

    async def actions(self, name: str) -> list[dict[str, Any]]:
        """The actions of its plugin: ``name``, ``method``, ``path``, ``description``, ``timeout_ms``."""
        found: list[dict[str, Any]] = (await self._connection.get_json(f"{PATH}/{name}/actions"))["items"]
        return found

    def call(
        self,
        name: str,
        method: str,
        path: str,
        *,
        query: Pairs = (),
        headers: Mapping[str, str] | None = None,
        content: bytes | Iterable[bytes] | None = None,
        timeout_s: float = FIRST_BYTE_S,
    ) -> contextlib.AbstractAsyncContextManager[CallAnswer]:
        """Ask ``path`` (percent-encoded) of the workload; leaving the context ends the request there too.

        ``timeout_s``: how long it may take to begin its answer. Raises what volantd says is wrong; the workload's own errors are
        answers.
        """
        asked = urlencode(list(query))
        target = f"{PATH}/{quote(name)}/agent/v1{quote(path if path.startswith('/') else '/' + path, _IN_PATHS + '?')}"
        target += ("&" if "?" in path else "?") + asked if asked else ""
        return self._exchange(method, target, {"Volant-Timeout": f"{timeout_s:.3f}s", **(headers or {})}, content)

    def action(
        self,
        name: str,
        action: str,
        *,
        content: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        plugin: str = "",
    ) -> contextlib.AbstractAsyncContextManager[CallAnswer]:
        """Ask an action of the workload, as its manifest says; ``timeout_s`` instead of the manifest's. With ``plugin`` only if
        the VM is made from that."""
        asked = "/".join(quote(each, "") for each in (plugin, action) if each)
        target = f"{PATH}/{quote(name)}/actions/{asked}"
        return self._exchange(
            "POST", target + ("" if timeout_s is None else f"?timeout={timeout_s:.3f}s"), dict(headers or {}), content
        )

    @contextlib.asynccontextmanager
    async def _exchange(
        self, method: str, target: str, headers: Mapping[str, str], content: bytes | Iterable[bytes] | None
    ) -> AsyncIterator[CallAnswer]:
        async with self._connection.exchange(method, target, headers=headers, content=content) as response:
            if response.status >= 400 and response.headers.get(_ANSWERED_BY) is None:
                raise_problem(response.status, await response.read())
            yield CallAnswer(response)
