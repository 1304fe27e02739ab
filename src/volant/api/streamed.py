"""Answers without a known end: sent as they come, cut when the client goes or volantd stops."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from typing import Any

import structlog
from litestar import Litestar, Request, Response
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

from volant.api.protocol import ABORT
from volant.api.stopping import cancel_all, stopping_of
from volant.core.errors import Unavailable

log = structlog.get_logger("volant.api")

CHUNK_BYTES = 64 * 1024
"""What has gathered is sent together, up to about this; a source waits once as much lies unsent."""

HEARTBEAT_S = 15.0


class Stalled(Unavailable):
    """A client stopped reading."""


class Streamed(Response[bytes]):
    """``source`` is iterated while the client reads. ``heartbeat`` is sent whenever nothing came for ``heartbeat_s``. A client
    that takes nothing for ``stall_s`` is cut; None has patience.

    A source that raises after the first byte went out ends the connection in mid-answer, so that the client cannot take
    what it has for all.
    """

    def __init__(
        self,
        app: Litestar,
        source: AsyncIterator[bytes],
        *,
        media_type: str,
        heartbeat: bytes = b"",
        heartbeat_s: float = HEARTBEAT_S,
        stall_s: float | None = None,
    ) -> None:
        super().__init__(b"", media_type=media_type)
        self._app = app
        self._source = source
        self._heartbeat = heartbeat
        self._heartbeat_s = heartbeat_s
        self._stall_s = stall_s

    def to_asgi_response(self, *args: Any, **kwargs: Any) -> ASGIResponse:
        assert self.media_type is not None
        sender = _Sender(self._source, self._heartbeat, self._heartbeat_s, self._stall_s)
        return _StreamedASGI(sender, stopping_of(self._app), str(self.media_type))


class _StreamedASGI(ASGIResponse):
    def __init__(self, sender: _Sender, stopping: asyncio.Event, media_type: str) -> None:
        super().__init__(media_type=media_type)
        self._sender = sender
        self._stopping = stopping
        self._media_type = media_type

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", self._media_type.encode()), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        sending = asyncio.create_task(self._sender.run(send))
        gone = asyncio.create_task(_wait_until_gone(receive))
        stop = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({sending, gone, stop}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        except Stalled as error:
            log.info("a client was cut", reason=error.message, path=scope["path"])
            # Closing would wait for what it does not take.
            scope.get("state", {}).get(ABORT, _do_nothing)()
            raise
        finally:
            await cancel_all(sending, gone, stop)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Sender:
    """Moves chunks from the source to the client, many at a time when they come fast."""

    def __init__(self, source: AsyncIterator[bytes], heartbeat: bytes, heartbeat_s: float, stall_s: float | None) -> None:
        self._source = source
        self._heartbeat = heartbeat
        self._heartbeat_s = heartbeat_s
        self._stall_s = stall_s
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()

    async def run(self, send: Send) -> None:
        fill = asyncio.create_task(self._fill())
        try:
            while True:
                chunk = self._take()
                if not chunk and fill.done():
                    fill.result()
                    return
                if not chunk:
                    chunk = await self._wait_for_more()
                if chunk:
                    await self._send(send, chunk)
        finally:
            await cancel_all(fill)

    async def _send(self, send: Send, chunk: bytes) -> None:
        try:
            async with asyncio.timeout(self._stall_s):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except TimeoutError:
            raise Stalled(f"it took nothing for {self._stall_s:g} s") from None

    async def _fill(self) -> None:
        try:
            async with aclosing(self._source) as source:  # type: ignore[type-var]  # every source of ours can be closed
                async for chunk in source:
                    self._waiting.append(chunk)
                    self._bytes += len(chunk)
                    self._changed.set()
                    while self._bytes >= CHUNK_BYTES:
                        self._taken.clear()
                        await self._taken.wait()
        finally:
            self._changed.set()

    async def _wait_for_more(self) -> bytes:
        """Empty when something came, the heartbeat when nothing did."""
        self._changed.clear()
        try:
            async with asyncio.timeout(self._heartbeat_s if self._heartbeat else None):
                await self._changed.wait()
        except TimeoutError:
            return self._heartbeat
        return b""

    def _take(self) -> bytes:
        chunk = b"".join(self._waiting)
        self._waiting.clear()
        self._bytes = 0
        self._taken.set()
        return chunk


class Peeked:
    """An iterator whose first item was asked for beforehand, so that what raises at once can still be a proper answer."""

    def __init__(self, source: AsyncIterator[Any], first: asyncio.Task[Any]) -> None:
        self._source = source
        self._first: asyncio.Task[Any] | None = first

    def __aiter__(self) -> Peeked:
        return self

    async def __anext__(self) -> Any:
        if self._first is None:
            return await anext(self._source)
        first, self._first = self._first, None
        try:
            item = await first
        except asyncio.CancelledError:
            await cancel_all(first)
            raise
        if item is _END:
            raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        if self._first is not None:
            await cancel_all(self._first)
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()


_END = object()


async def peek(source: AsyncIterator[Any], patience_s: float) -> Peeked:
    """``source``, begun. Raises what its first item raises within ``patience_s``; later errors come while iterating."""
    first = asyncio.create_task(_first_of(source))
    try:
        await asyncio.wait({first}, timeout=patience_s)
    except asyncio.CancelledError:
        await cancel_all(first)
        raise
    if first.done() and (error := first.exception()) is not None:
        raise error
    return Peeked(source, first)


async def _first_of(source: AsyncIterator[Any]) -> Any:
    return await anext(source, _END)


def _do_nothing() -> None:
    pass


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def accepts(request: Request[Any, Any, Any], media_type: str) -> bool:
    """True when the client asks for exactly this kind of answer (RFC 9110, section 12.5.1)."""
    return media_type in _accepted(request.headers.get("accept", "").split(","))


def _accepted(ranges: Iterable[str]) -> set[str]:
    return {one.partition(";")[0].strip().lower() for one in ranges}
