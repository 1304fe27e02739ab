"""What a workload tells of itself: one HTTP request to a port inside its guest, whose answer may be anything."""

from __future__ import annotations

import asyncio

import h11

from volant.core.errors import GuestUnreachable, InvalidInput
from volant.core.prometheus_text import MAX_TEXT_BYTES
from volant.node.door import PortStream

MAX_HEAD_BYTES = 16 * 1024
MAX_REASON = 120


async def get_text(stream: PortStream, path: str, port: int, *, limit_s: float) -> bytes:
    """The body of the answer to ``GET path``.

    Raises:
        InvalidInput: it is no answer, none with status 200, or longer than MAX_TEXT_BYTES.
        GuestUnreachable: nothing came within ``limit_s``, or not all of it.
    """
    try:
        async with asyncio.timeout(limit_s):
            return await _get(stream, path, port)
    except TimeoutError:
        raise GuestUnreachable(f"it did not answer within {limit_s:g} s") from None
    except h11.RemoteProtocolError as error:
        raise InvalidInput(f"its answer is no HTTP: {str(error)[:MAX_REASON]}") from None
    except h11.LocalProtocolError as error:
        raise InvalidInput(f"{path!r} is no path: {str(error)[:MAX_REASON]}") from None


async def _get(stream: PortStream, path: str, port: int) -> bytes:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
    headers = [
        ("Host", f"127.0.0.1:{port}"),
        ("Accept", "text/plain;version=0.0.4"),
        ("User-Agent", "volant"),
        ("Connection", "close"),
    ]
    request = connection.send(h11.Request(method="GET", target=path, headers=headers))
    end = connection.send(h11.EndOfMessage())
    assert request is not None and end is not None
    await stream.write(request + end)
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.read())
        elif isinstance(event, h11.Response):
            if event.status_code != 200:
                raise InvalidInput(f"it answers with status {event.status_code}")
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_TEXT_BYTES:
                raise InvalidInput(f"it tells more than {MAX_TEXT_BYTES} bytes")
        elif isinstance(event, h11.EndOfMessage):
            return bytes(body)
        elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
            raise InvalidInput("its answer ended before it was whole")
