"""One log line a request: who, what, how it ended, how long it took. Never a body."""

from __future__ import annotations

import time

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from volant.api.protocol import PEER

log = structlog.get_logger("volant.api")

_QUIET = frozenset({"/healthz"})


def log_requests(app: ASGIApp) -> ASGIApp:
    """``app`` with a line after each request; a WebSocket's says 101, or the status that refused it."""

    async def logged(scope: Scope, receive: Receive, send: Send) -> None:
        status = 101 if scope["type"] == ScopeType.WEBSOCKET else 0
        began = time.perf_counter()

        async def watch_status(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
            await send(message)

        try:
            await app(scope, receive, watch_status)
        finally:
            peer = scope.get("state", {}).get(PEER)
            say = log.debug if scope["path"] in _QUIET else log.info
            say(
                "request",
                method=scope.get("method", "WEBSOCKET"),
                path=scope["path"],
                status=status,
                duration_ms=round((time.perf_counter() - began) * 1000, 1),
                uid=None if peer is None else peer.uid,
                pid=None if peer is None else peer.pid,
            )

    return logged
