"""TCP connections inside a simulated guest: each goes to the handler that ``guest.ports`` has for its port."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

from volant.core.errors import GuestUnreachable
from volant.guest.message import encode_message
from volant.guest.simulated import SimulatedGuest
from volant.guest.simulated_types import Refusal
from volant.guest.stream import Stream


async def run_connection(guest: SimulatedGuest, stream: Stream, opening: dict[str, Any], first: bytes) -> None:
    """Answer a connect stream from its opening to its end. Raises Refusal when nobody listens there."""
    host, port = opening.get("host", "127.0.0.1"), opening.get("port")
    if type(port) is not int or not 1 <= port <= 65_535 or not isinstance(host, str):
        raise Refusal("malformed", "port")
    handler = guest.ports.get(port)
    if handler is None:
        raise Refusal("refused", f"nobody listens at {host} port {port}")
    ours, theirs = socket.socketpair()
    inner = await asyncio.open_unix_connection(sock=theirs)
    outer = await asyncio.open_unix_connection(sock=ours)
    handling = asyncio.ensure_future(handler(*inner))
    try:
        await stream.write(encode_message({"ok": {}}))
        inward = asyncio.ensure_future(_pass_in(stream, outer[1], first))
        try:
            await _pass_out(outer[0], stream)
            await inward
        finally:
            inward.cancel()
            await asyncio.gather(inward, return_exceptions=True)
    finally:
        handling.cancel()
        await asyncio.gather(handling, return_exceptions=True)
        for _, writer in (inner, outer):
            writer.transport.abort()


async def _pass_in(stream: Stream, writer: asyncio.StreamWriter, first: bytes) -> None:
    data = first or await stream.read()
    with contextlib.suppress(OSError):
        while data:
            writer.write(data)
            await writer.drain()
            data = await stream.read()
        writer.write_eof()


async def _pass_out(reader: asyncio.StreamReader, stream: Stream) -> None:
    try:
        while data := await reader.read(16_384):
            await stream.write(data)
    except OSError as error:
        raise GuestUnreachable("the connection was reset") from error
    stream.finish()
