"""What every answer has in common and no route says: HEAD, 304, deprecation, and that GET allows HEAD."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from litestar.enums import ScopeType
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.types import ASGIApp, Message, Receive, Send

from volant.api.admission import OPERATION
from volant.api.forwarded import ANSWERED_BY
from volant.api.operation import Operation

_PARAMETER = re.compile(r"\{\w+:(str|path)\}")
_ABOUT_CONTENT = frozenset({b"content-length", b"content-type", b"content-encoding"})

Headers = list[tuple[bytes, bytes]]


def finish_answers(app: ASGIApp, handlers: Iterable[BaseRouteHandler]) -> ASGIApp:
    """``app``, asked with GET for what has no HEAD of its own; with conditional answers (RFC 9110, section 13)."""
    methods = _Methods(handlers)

    async def finished(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        is_head = scope["method"] == "HEAD" and "HEAD" not in methods.of(scope["path"])
        if is_head:
            scope["method"] = "GET"
        answer = _Answer(scope, send, methods, is_head=is_head)

        async def hear() -> Any:
            # An answer without content is over once its head is sent, also that of a stream.
            return {"type": "http.disconnect"} if answer.is_over else await receive()

        await app(scope, hear, answer.send)

    return finished


class _Answer:
    def __init__(self, scope: Any, send: Send, methods: _Methods, *, is_head: bool) -> None:
        self._scope = scope
        self._send = send
        self._methods = methods
        self._is_head = is_head
        self.is_over = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = self._finish(list(message["headers"]))
            if message["status"] == 200 and self._is_unchanged(headers):
                message["status"] = 304
                headers = [(name, value) for name, value in headers if name.lower() not in _ABOUT_CONTENT]
                await self._end(message, headers)
            elif self._is_head:
                await self._end(message, headers)
            else:
                message["headers"] = headers
                await self._send(message)
        elif not self.is_over:
            await self._send(message)

    async def _end(self, message: Any, headers: Headers) -> None:
        self.is_over = True
        message["headers"] = headers
        if self._is_head:
            self._scope["method"] = "HEAD"  # as it came
        await self._send(message)
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def _finish(self, headers: Headers) -> Headers:
        if ANSWERED_BY in headers:
            return headers
        if any(name.lower() == b"allow" for name, _ in headers):
            headers = [(name, value) for name, value in headers if name.lower() != b"allow"]
            headers.append((b"allow", self._methods.allow(self._scope["path"])))
        operation: Any = self._scope["state"].get(OPERATION)
        if isinstance(operation, Operation) and operation.deprecated is not None:
            headers += operation.deprecated.headers()
        return headers

    def _is_unchanged(self, headers: Headers) -> bool:
        if self._scope["method"] != "GET" or ANSWERED_BY in headers:
            return False
        known = next((value for name, value in self._scope["headers"] if name == b"if-none-match"), None)
        tag = next((value for name, value in headers if name.lower() == b"etag"), None)
        if known is None or tag is None:
            return False
        return known.strip() == b"*" or tag.removeprefix(b"W/") in (one.strip().removeprefix(b"W/") for one in known.split(b","))


class _Methods:
    """Which methods each address has. The router says for some only the first of their handlers'."""

    def __init__(self, handlers: Iterable[BaseRouteHandler]) -> None:
        by_path: dict[str, set[str]] = {}
        for handler in handlers:
            if isinstance(handler, HTTPRouteHandler):
                for path in handler.paths:
                    by_path.setdefault(path, set()).update(str(method) for method in handler.http_methods)
        self._known = [(_compile(path), frozenset(methods)) for path, methods in sorted(by_path.items())]

    def of(self, path: str) -> frozenset[str]:
        return next((methods for pattern, methods in self._known if pattern.fullmatch(path)), frozenset())

    def allow(self, path: str) -> bytes:
        methods = self.of(path)
        more = {"OPTIONS", "HEAD"} if "GET" in methods else {"OPTIONS"}
        return ", ".join(sorted(methods | more)).encode()


def _compile(path: str) -> re.Pattern[str]:
    return re.compile(_PARAMETER.sub(lambda found: ".+" if found[1] == "path" else "[^/]+", path), re.DOTALL)
