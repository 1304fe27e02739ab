"""HTTP to volantd on an event loop, over its UNIX socket or TCP. The twin of volant.client.connection."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import Any
from urllib.parse import quote

import h11
import msgspec

from volant.client.connection import (
    ANSWER_S,
    RECONNECT_S,
    RETRY_S,
    ConnectionLost,
    Patience,
    Query,
    format_query,
    name_request,
    open_socket,
)
from volant.client.connection import Connection as Settings
from volant.client.problem import raise_problem
from volant.core.errors import InProgress, TimedOut, Unavailable

READ_BYTES = 64 * 1024
HEAD_MAX_BYTES = 64 * 1024

Content = bytes | Iterable[bytes] | AsyncIterable[bytes]

__all__ = ["ANSWER_S", "RECONNECT_S", "RETRY_S", "Answer", "Connection", "Headers", "Query", "Response", "Stream", "format_query"]


class Headers(dict[str, str]):
    """By name, whatever its case."""

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        super().__init__((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in pairs)

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())


class Answer:
    """An answer whose head was read and was no error."""

    def __init__(self, status: int, headers: Headers, content: bytes) -> None:
        self.status = status
        self.headers = headers
        self.content = content

    def json(self) -> Any:
        return msgspec.json.decode(self.content) if self.content else None


class Response:
    """An answer whose head was read; its content comes as it is asked for."""

    def __init__(self, wire: _Wire, head: h11.Response) -> None:
        self.status = head.status_code
        self.reason = bytes(head.reason).decode("latin-1")
        self.headers = Headers(head.headers)
        self._wire = wire

    async def read1(self, limit: int = READ_BYTES) -> bytes:
        """What has come, at least a byte; empty at the end. Raises ConnectionLost when it ends too early."""
        return await self._wire.read_content(limit)

    async def read(self) -> bytes:
        content = bytearray()
        while chunk := await self.read1():
            content += chunk
        return bytes(content)


class Stream:
    """An answer that is read as it comes, within a deadline for the whole of it."""

    def __init__(self, response: Response, deadline: float | None, silence_s: float | None) -> None:
        self._response = response
        self._deadline = deadline
        self._silence_s = silence_s
        self._buffer = bytearray()

    async def read_line(self, limit: int) -> bytes:
        """With its end; empty at the end. Raises TimedOut."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0 and len(self._buffer) < limit:
            searched = len(self._buffer)
            chunk = await self._read()
            if not chunk:
                break
            self._buffer += chunk
        size = min(limit, len(self._buffer) if end < 0 else end + 1)
        line = bytes(self._buffer[:size])
        del self._buffer[:size]
        return line

    async def read_some(self, limit: int) -> bytes:
        """What has come, at least a byte; empty at the end. Raises TimedOut."""
        if not self._buffer:
            return await self._read(limit)
        chunk = bytes(self._buffer[:limit])
        del self._buffer[:limit]
        return chunk

    async def _read(self, limit: int = READ_BYTES) -> bytes:
        try:
            if self._deadline is None:
                async with asyncio.timeout(self._silence_s):
                    return await self._response.read1(limit)
            async with asyncio.timeout(self._deadline - time.monotonic()):
                return await self._response.read1(limit)
        except TimeoutError as error:
            if self._deadline is None:
                raise _silent() from error
            raise TimedOut("what was waited for did not come in time") from error


class Connection(Settings):
    """Every call opens a socket of its own, so that one Connection may serve many tasks."""

    async def request(  # type: ignore[override]  # its twin blocks
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        document: object = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = ANSWER_S,
    ) -> Answer:
        """Ask and read the whole answer; ask again as the twin does. Raises as it does."""
        sent = name_request(method, headers)
        patience = Patience(self.retry_s)
        while True:
            try:
                return await self._ask(method, path, query, document, sent, timeout_s)
            except (Unavailable, InProgress) as error:
                await self.pause(patience.after(error, method))

    async def pause(self, seconds: float) -> None:  # type: ignore[override]  # likewise
        await asyncio.sleep(seconds)

    async def get_json(self, path: str, query: Query | None = None) -> Any:
        return (await self.request("GET", path, query=query)).json()

    async def upload(  # type: ignore[override]  # likewise
        self, path: str, chunks: Content, size_bytes: int, *, timeout_s: float = ANSWER_S
    ) -> Answer:
        """PUT ``size_bytes`` of content; ``timeout_s`` is for the answer, once all was sent."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size_bytes)}
        return await self._ask("PUT", path, None, None, headers, timeout_s, chunks)

    async def send_archive(  # type: ignore[override]  # likewise
        self, path: str, chunks: Content, *, query: Query | None = None, timeout_s: float = ANSWER_S
    ) -> Answer:
        """PUT a tar archive of unknown size; ``timeout_s`` is for the answer, once all was sent."""
        return await self._ask("PUT", path, query, None, {"Content-Type": "application/x-tar"}, timeout_s, chunks)

    @contextlib.asynccontextmanager
    async def stream(  # type: ignore[override]  # likewise
        self,
        path: str,
        *,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        document: object = None,
        timeout_s: float | None = None,
        silence_s: float | None = None,
    ) -> AsyncIterator[Stream]:
        """Ask for an answer that is read as it comes. Raises as its twin does."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        async with self._open(method, path, query, document, headers) as response:
            yield Stream(response, deadline, silence_s)

    @contextlib.asynccontextmanager
    async def exchange(  # type: ignore[override]  # likewise
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str],
        content: Content | None = None,
        timeout_s: float | None = None,
    ) -> AsyncIterator[Response]:
        """Ask for ``target``, which is encoded already, and give whatever is answered, errors too, to be read as it comes.
        Raises Unavailable when there is no answer within ``timeout_s``."""
        wire = await _Wire.open(self)
        try:
            yield await wire.ask(method, target, {**headers, **self.credentials}, content, timeout_s)
        finally:
            wire.close()

    async def _ask(
        self,
        method: str,
        path: str,
        query: Query | None,
        document: object,
        headers: Mapping[str, str],
        timeout_s: float,
        chunks: Content | None = None,
    ) -> Answer:
        async with self._open(method, path, query, document, headers, chunks, timeout_s) as response:
            try:
                async with asyncio.timeout(timeout_s):
                    return Answer(response.status, response.headers, await response.read())
            except TimeoutError as error:
                raise _silent() from error

    @contextlib.asynccontextmanager
    async def _open(  # type: ignore[override]  # likewise
        self,
        method: str,
        path: str,
        query: Query | None,
        document: object,
        headers: Mapping[str, str] | None,
        chunks: Content | None = None,
        timeout_s: float | None = ANSWER_S,
    ) -> AsyncIterator[Response]:
        content: Content | None = chunks
        sent = {"Accept": "application/json", **self.credentials, **(headers or {})}
        if document is not None:
            content = msgspec.json.encode(document)
            sent.setdefault("Content-Type", "application/json")
        wire = await _Wire.open(self)
        try:
            response = await wire.ask(method, quote(path) + format_query(query), sent, content, timeout_s)
            if response.status >= 400:
                raise_problem(response.status, await response.read())
            yield response
        finally:
            wire.close()


class _Wire:
    """One connection for one exchange (RFC 9112)."""

    def __init__(self, authority: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._authority = authority
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_MAX_BYTES)
        self._left = b""

    @classmethod
    async def open(cls, connection: Connection) -> _Wire:
        """Raises Unavailable or Forbidden, saying what to do."""
        # A local connect, which ends at once; the settings of the socket and what its errors mean are the twin's.
        opened = await asyncio.to_thread(open_socket, connection.address, ANSWER_S)
        opened.setblocking(False)
        try:
            reader, writer = await asyncio.open_connection(sock=opened, limit=READ_BYTES)
        except BaseException:
            opened.close()
            raise
        return cls(connection.address.authority, reader, writer)

    def close(self) -> None:
        self._writer.transport.abort()

    async def ask(
        self, method: str, target: str, headers: Mapping[str, str], content: Content | None, timeout_s: float | None
    ) -> Response:
        """Send all of it and read the head of the answer. Raises ConnectionLost; Unavailable when it takes too long."""
        given = {name.lower(): value for name, value in headers.items()}
        if isinstance(content, bytes):
            given["content-length"] = str(len(content))
        elif content is not None and "content-length" not in given:
            given["transfer-encoding"] = "chunked"
        elif content is None and method in ("POST", "PUT", "PATCH"):
            given["content-length"] = "0"
        pairs = [(b"host", self._authority.encode()), (b"connection", b"close")]
        pairs += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in given.items()]
        await self._send(h11.Request(method=method, target=target, headers=pairs))
        # What is refused is often answered before all of it was sent: the answer says why.
        sending = asyncio.create_task(self._send_content(content))
        reading = asyncio.create_task(self._read_head())
        try:
            await asyncio.wait({sending, reading}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                with contextlib.suppress(ConnectionLost):
                    sending.result()
                async with asyncio.timeout(timeout_s):
                    await asyncio.wait({reading})
            return Response(self, reading.result())
        except TimeoutError as error:
            raise _silent() from error
        finally:
            for task in (sending, reading):
                task.cancel()
            await asyncio.gather(sending, reading, return_exceptions=True)

    async def _send_content(self, content: Content | None) -> None:
        if isinstance(content, bytes):
            await self._send(h11.Data(data=content))
        elif isinstance(content, AsyncIterable):
            async for chunk in content:
                await self._send(h11.Data(data=chunk))
        elif content is not None:
            for chunk in content:
                await self._send(h11.Data(data=chunk))
        await self._send(h11.EndOfMessage())

    async def _send(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> None:
        try:
            self._writer.write(self._http.send(event) or b"")
            await self._writer.drain()
        except OSError as error:
            raise _lost(error) from error

    async def _read_head(self) -> h11.Response:
        while True:
            event = await self._next_event()
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse):
                raise _lost(EOFError())

    async def read_content(self, limit: int) -> bytes:
        while not self._left:
            event = await self._next_event()
            if not isinstance(event, h11.Data):
                return b""
            self._left = bytes(event.data)
        chunk, self._left = self._left[:limit], self._left[limit:]
        return chunk

    async def _next_event(self) -> object:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(READ_BYTES))
        except (OSError, h11.RemoteProtocolError) as error:
            raise _lost(error) from error
        return event


def _lost(error: Exception) -> ConnectionLost:
    return ConnectionLost(f"volantd ended the connection ({type(error).__name__})", hint="did it stop? ask again when it is back")


def _silent() -> Unavailable:
    return Unavailable("volantd did not answer in time", hint="look at its log; is the machine very busy?")
