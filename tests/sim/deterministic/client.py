"""Requests to the API of a volantd in this process: what HTTP would carry, without sockets."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import msgspec
from litestar import Litestar

from volant.api.protocol import PEER
from volant.auth.peer import Peer

from .incarnation import ASKED_BY, Incarnation


class Gone(Exception):
    """volantd went away before it answered: whether the request was done is not known."""


class Answer(msgspec.Struct, frozen=True):
    status: int
    body: Any
    """The JSON document; None when there is none."""


async def ask(
    app: Litestar,
    incarnation: Incarnation,
    method: str,
    path: str,
    body: Any = None,
    *,
    query: str = "",
    media_type: str = "application/json",
) -> Answer:
    """Raises Gone."""
    loop = asyncio.get_running_loop()
    if incarnation.is_gone:
        raise Gone
    content = b"" if body is None else msgspec.json.encode(body)
    headers = [(b"host", b"localhost"), (b"accept", b"application/json"), (b"content-length", str(len(content)).encode())]
    if body is not None:
        headers.append((b"content-type", media_type.encode()))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": headers,
        "client": None,
        "server": None,
        "state": {PEER: Peer(uid=os.geteuid(), gid=os.getegid(), pid=1)},
    }
    sent: list[dict[str, Any]] = []
    told = [{"type": "http.request", "body": content, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if told:
            return told.pop()
        await loop.create_future()
        raise AssertionError("nobody hangs up")

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    context = incarnation.context.copy()
    context.run(ASKED_BY.set, "insists" if _insists(path, query) else "user")
    answering = loop.create_task(app(scope, receive, send), context=context)  # type: ignore[arg-type]  # a scope is a dict
    death = loop.create_task(incarnation.died.wait())
    try:
        await asyncio.wait((answering, death), return_when=asyncio.FIRST_COMPLETED)
    finally:
        death.cancel()
    if not answering.done():
        raise Gone
    answering.result()
    status = next(message["status"] for message in sent if message["type"] == "http.response.start")
    content = b"".join(message.get("body", b"") for message in sent if message["type"] == "http.response.body")
    return Answer(status, msgspec.json.decode(content) if content else None)


def _insists(path: str, query: str) -> bool:
    return "disrupt=true" in query or (path.endswith("/drain") and "force=true" in query)
