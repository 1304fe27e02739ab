"""A guest's port as an asyncio transport: what a pipe speaks to where there is no socket that would lead to the guest."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from volant.core.errors import VolantError

HIGH_BYTES = 64 * 1024
"""From here on whoever writes is asked to wait."""


class ByteStream(Protocol):
    """Bytes both ways; each direction ends by itself (node.door.PortStream)."""

    async def read(self, limit: int = 65536) -> bytes: ...

    async def write(self, content: bytes) -> None: ...

    async def write_eof(self) -> None: ...

    def close(self) -> None: ...


class StreamTransport(asyncio.Transport):
    """Carries ``stream`` until either end closes or resets it. Its two tasks end with it."""

    def __init__(self, stream: ByteStream, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._stream = stream
        self._protocol = protocol
        self._buffer = bytearray()
        self._wants_eof = False
        self._is_closing = False
        self._is_lost = False
        self._has_work = asyncio.Event()
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._writer_waits = False
        protocol.connection_made(self)
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._read()), loop.create_task(self._write())]

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return self._is_closing

    def is_reading(self) -> bool:
        return self._may_read.is_set()

    def pause_reading(self) -> None:
        self._may_read.clear()

    def resume_reading(self) -> None:
        self._may_read.set()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_closing or self._wants_eof:
            return
        self._buffer += data
        self._has_work.set()
        if len(self._buffer) > HIGH_BYTES and not self._writer_waits:
            self._writer_waits = True
            self._protocol.pause_writing()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._wants_eof = True
        self._has_work.set()

    def close(self) -> None:
        """Once what was written has gone."""
        if not self._is_closing:
            self._is_closing = True
            self._has_work.set()

    def abort(self) -> None:
        self._is_closing = True
        self._lose(None)

    async def _read(self) -> None:
        try:
            while not self._is_lost:
                await self._may_read.wait()
                data = await self._stream.read()
                await self._may_read.wait()  # what came while nobody wanted it is not pressed on them
                if not data:
                    self._protocol.eof_received()
                    return
                self._protocol.data_received(data)
        except VolantError as error:
            self._lose(error)

    async def _write(self) -> None:
        has_ended = False
        try:
            while True:
                await self._has_work.wait()
                self._has_work.clear()
                while self._buffer:
                    chunk, self._buffer = self._buffer, bytearray()
                    await self._stream.write(bytes(chunk))
                    if self._writer_waits and len(self._buffer) <= HIGH_BYTES:
                        self._writer_waits = False
                        self._protocol.resume_writing()
                if self._wants_eof and not has_ended:
                    has_ended = True
                    await self._stream.write_eof()
                if self._is_closing:
                    self._lose(None)
                    return
        except VolantError as error:
            self._lose(error)

    def _lose(self, error: Exception | None) -> None:
        if self._is_lost:
            return
        self._is_lost = self._is_closing = True
        self._buffer.clear()
        self._stream.close()
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()
        # As every transport does: not from within a call of the protocol's own.
        asyncio.get_running_loop().call_soon(self._protocol.connection_lost, error)
