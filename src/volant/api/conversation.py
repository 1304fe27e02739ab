"""What every WebSocket of this API has in common: who may open one, its first message, and its last."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from litestar import WebSocket
from litestar.exceptions import HTTPException

from volant.api.operation import Query
from volant.api.problem import Problem, describe_error, describe_unexpected
from volant.core.errors import Forbidden, InvalidInput, Malformed, VolantError
from volant.core.resource import split_validation_error

Socket = WebSocket[Any, Any, Any]
T = TypeVar("T")

FIRST_MESSAGE_S = 10.0
SEND_S = 3600.0
"""A client that reads nothing for this long is given up."""


class HungUp(Exception):
    """The client closed, or volantd cuts it."""


async def converse(socket: Socket, what: str, talk: Callable[[], Awaitable[msgspec.Struct | None]]) -> None:
    """Accept, ``talk``, and end with what it returns as text, or with a problem. Without either the end is a plain close."""
    await socket.accept()
    try:
        check_origin(socket)
        answer: msgspec.Struct | Problem | None = await talk()
    except VolantError as error:
        answer = describe_error(error)
    except HungUp:
        return
    except Exception as error:  # noqa: BLE001  # the edge: whatever it was, the client hears a problem and the log the rest
        answer = describe_unexpected(error, what)
    try:
        async with asyncio.timeout(FIRST_MESSAGE_S):
            if answer is not None:
                await socket.send_text(msgspec.json.encode(answer).decode())
            await socket.close()
    except (OSError, TimeoutError, HTTPException):
        return  # it went in the meantime, and nobody is left to tell


def check_origin(socket: Socket) -> None:
    """Raise Forbidden for a page of another place: browsers let any page open a WebSocket, and only say which it is."""
    origin = socket.headers.get("origin")
    if origin is None:
        return
    host = socket.headers.get("host", "")
    if not host or urlsplit(origin).netloc.lower() != host.lower():
        raise Forbidden("a web page of another place may not connect", hint="clients that are no browser send no Origin")


async def read_first(socket: Socket, cls: type[T]) -> T:
    """The client's first message, which is text. Raises HungUp, Malformed and InvalidInput."""
    try:
        async with asyncio.timeout(FIRST_MESSAGE_S):
            message: Any = await socket.receive()
    except TimeoutError as error:
        raise Malformed(f"no request came within {FIRST_MESSAGE_S:g} s") from error
    if message["type"] != "websocket.receive":
        raise HungUp
    text = message.get("text")
    if text is None:
        raise Malformed(f"the first message is an {cls.__name__} as text")
    try:
        return msgspec.json.decode(text, type=cls)
    except msgspec.ValidationError as error:
        said, field = split_validation_error(error)
        raise InvalidInput(said, field=field) from error
    except msgspec.DecodeError as error:
        raise Malformed(f"the request is not JSON: {error}") from error


async def read_bytes(socket: Socket) -> bytes:
    """The next message. Raises HungUp, and Malformed for text."""
    message: Any = await socket.receive()
    if message["type"] != "websocket.receive":
        raise HungUp
    content = message.get("bytes")
    if content is None:
        raise Malformed("messages are binary here")
    return bytes(content)


async def send_bytes(socket: Socket, content: bytes) -> None:
    """Raises HungUp when the client has gone, or reads nothing for an hour."""
    try:
        async with asyncio.timeout(SEND_S):
            await socket.send_bytes(content)
    except (OSError, TimeoutError) as error:
        raise HungUp from error


async def send_text(socket: Socket, told: msgspec.Struct) -> None:
    """Raises HungUp."""
    try:
        async with asyncio.timeout(FIRST_MESSAGE_S):
            await socket.send_text(msgspec.json.encode(told).decode())
    except (OSError, TimeoutError) as error:
        raise HungUp from error


async def both(listening: Awaitable[None], sending: Awaitable[None]) -> None:
    """Run both until ``sending`` ends; ``listening`` ends it earlier only by raising. No task outlives the call."""
    tasks = [asyncio.ensure_future(listening), asyncio.ensure_future(sending)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[1].done():
            tasks[0].result()
        await tasks[1]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def read_socket_query(socket: Socket, known: tuple[Query, ...]) -> dict[str, Any]:
    """As operation.read_query. Raises InvalidInput."""
    readers = {query.name: query for query in known}
    values: dict[str, Any] = dict.fromkeys(readers)
    for name, text in socket.query_params.multi_items():
        if name not in readers:
            hint = "known here: " + (", ".join(sorted(readers)) or "none")
            raise InvalidInput(f"there is no query parameter {name[:40]!r} here", field=name[:40], hint=hint)
        if values[name] is not None:
            raise InvalidInput(f"the query parameter {name!r} is given twice", field=name)
        values[name] = readers[name].read(str(text), name)
    return values
