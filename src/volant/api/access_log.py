"""One log line a request: who, what, how it ended, how long it took. Never a body. And the request's id on its answer."""

from __future__ import annotations

import time
from typing import Any

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from volant.api.protocol import PEER
from volant.api.request_id import HEADER, REQUEST_ID, choose_request_id

log = structlog.get_logger("volant.api")

_QUIET = frozenset({"/healthz"})


def log_requests(app: ASGIApp) -> ASGIApp:
    """``app`` with a line after each request; a WebSocket's says 101, or the status that refused it. Every line that is logged
    on the way has the same ``request_id``."""

    async def logged(scope: Scope, receive: Receive, send: Send) -> None:
        status = 101 if scope["type"] == ScopeType.WEBSOCKET else 0
        began = time.perf_counter()
        state: dict[str, Any] = scope.setdefault("state", {})
        request_id = state[REQUEST_ID] = choose_request_id(scope["headers"])
        told = (HEADER, request_id.encode())

        async def watch_status(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
                message["headers"] = [*message["headers"], told]
            elif message["type"] == "websocket.accept":
                message["headers"] = [*message.get("headers", ()), told]
            await send(message)

        try:
            with bound_contextvars(request_id=request_id):
                await app(scope, receive, watch_status)
        finally:
            peer = scope.get("state", {}).get(PEER)
            say = log.debug if scope["path"] in _QUIET else log.info
            say(
                "request",
                method=scope.get("method", "WEBSOCKET"),
                path=scope["path"],
                status=status,
                request_id=request_id,
                duration_ms=round((time.perf_counter() - began) * 1000, 1),
                uid=None if peer is None else peer.uid,
                pid=None if peer is None else peer.pid,
            )

    return logged
