"""What listens inside a VM, through the API: its own operations, its plugin's actions, and anything else of it over HTTP."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from volant.client.connection import Connection
from volant.client.problem import raise_problem
from volant.core.errors import Unavailable

PATH = "/api/v1/vms"
FIRST_BYTE_S = 60.0
_IN_PATHS = "/%:@!$&'()*+,;=~-._"
_ANSWERED_BY = "Volant-Answered-By"

Pairs = Iterable[tuple[str, str]]


class CallAnswer:
    """A workload's answer: ``status``, ``reason``, ``headers``, and its content as it comes."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.reason = response.reason
        self.headers = response.headers
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        """Raises Unavailable when it is cut."""
        try:
            while chunk := self._response.read1(65536):
                yield chunk
            if self._response.length:
                raise http.client.IncompleteRead(b"", self._response.length)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable("the workload's answer was cut", hint="did it crash? volar vms logs NAME") from error

    def read(self) -> bytes:
        return b"".join(self)


class Workloads:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def openapi(self, name: str) -> dict[str, Any]:
        """The document that the workload of the VM ``name`` gives of itself. NotFound when it gives none."""
        found: dict[str, Any] = self._connection.get_json(f"{PATH}/{name}/openapi")
        return found

    def operations(self, name: str) -> list[dict[str, Any]]:
        """Its operations: ``id``, ``method``, ``path``, ``target``, ``parameters`` and more."""
        found: list[dict[str, Any]] = self._connection.get_json(f"{PATH}/{name}/operations")["items"]
        return found

    def actions(self, name: str) -> list[dict[str, Any]]:
        """The actions of its plugin: ``name``, ``method``, ``path``, ``description``, ``timeout_ms``."""
        found: list[dict[str, Any]] = self._connection.get_json(f"{PATH}/{name}/actions")["items"]
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
    ) -> contextlib.AbstractContextManager[CallAnswer]:
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
    ) -> contextlib.AbstractContextManager[CallAnswer]:
        """Ask an action of the workload, as its manifest says; ``timeout_s`` instead of the manifest's. With ``plugin`` only if
        the VM is made from that."""
        asked = "/".join(quote(each, "") for each in (plugin, action) if each)
        target = f"{PATH}/{quote(name)}/actions/{asked}"
        return self._exchange(
            "POST", target + ("" if timeout_s is None else f"?timeout={timeout_s:.3f}s"), dict(headers or {}), content
        )

    @contextlib.contextmanager
    def _exchange(
        self, method: str, target: str, headers: Mapping[str, str], content: bytes | Iterable[bytes] | None
    ) -> Iterator[CallAnswer]:
        with self._connection.exchange(method, target, headers=headers, content=content) as response:
            if response.status >= 400 and response.headers.get(_ANSWERED_BY) is None:
                raise_problem(response.status, response.read())
            yield CallAnswer(response)
