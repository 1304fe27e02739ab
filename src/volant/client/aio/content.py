"""Content that is read as it comes: a VM's files as a tar archive, and what its workload answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType

from volant.client.aio.connection import Connection, Response
from volant.client.files import READ_BYTES, SILENCE_S, TAIL_BYTES, raise_told
from volant.core.errors import Unavailable
from volant.core.tar import read_incidents


class Archive:
    """A tar archive as it comes. Iterate once for its bytes; then ``skipped`` and ``torn`` say what is not in it as it was."""

    def __init__(self, connection: Connection, path: str, source: str) -> None:
        self.skipped = self.torn = 0
        self._opened = connection.stream(
            path, query={"path": source}, headers={"Accept": "application/x-tar"}, silence_s=SILENCE_S
        )

    async def __aenter__(self) -> Archive:
        self._stream = await self._opened.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._opened.__aexit__(kind, error, trace)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Raises what volantd says went wrong, Unavailable when the archive ends without a word."""
        tail = bytearray()
        try:
            while chunk := await self._stream.read_some(READ_BYTES):
                tail += chunk
                del tail[:-TAIL_BYTES]
                yield chunk
        except Unavailable as error:
            raise_told(bytes(tail))
            raise Unavailable("the copy was cut off", hint="is volantd still running?") from error
        self.skipped, self.torn = read_incidents(bytes(tail))


class CallAnswer:
    """A workload's answer: ``status``, ``reason``, ``headers``, and its content as it comes."""

    def __init__(self, response: Response) -> None:
        self.status = response.status
        self.reason = response.reason
        self.headers = response.headers
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Raises Unavailable when it is cut."""
        try:
            while chunk := await self._response.read1():
                yield chunk
        except Unavailable as error:
            raise Unavailable("the workload's answer was cut", hint="did it crash? volar vms logs NAME") from error

    async def read(self) -> bytes:
        return b"".join([chunk async for chunk in self])
