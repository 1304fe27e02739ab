"""A connection within one process: two ends of asyncio's streams, without a file of the host's, of which ten thousand guests
would need more than a process may have."""

from __future__ import annotations

import asyncio
from typing import Any

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

HIGH_WATER_BYTES = 64 * 1024
"""Who has written more than this and is not read waits for room."""


def connect_streams() -> tuple[Streams, Streams]:
    """The two ends of a new connection. What one writes the other reads, in order, in a later turn of the event loop."""
    loop = asyncio.get_running_loop()
    ends = tuple(_End(loop) for _ in range(2))
    ends[0].join(ends[1])
    ends[1].join(ends[0])
    return ends[0].open(), ends[1].open()


class _End(asyncio.Transport):
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._reader = asyncio.StreamReader(loop=loop)
        self._protocol: asyncio.BaseProtocol = asyncio.StreamReaderProtocol(self._reader, loop=loop)
        self._peer: _End = self
        self._unsent = bytearray()
        self._is_reading = True
        self._is_closing = False
        self._is_ending = False
        """Nothing more is written: once all was taken the other end reads that there is no more."""
        self._ended = False
        self._is_held = False
        self._due = False

    def join(self, peer: _End) -> None:
        self._peer = peer

    def open(self) -> Streams:
        self._protocol.connection_made(self)
        assert isinstance(self._protocol, asyncio.StreamReaderProtocol)
        return self._reader, asyncio.StreamWriter(self, self._protocol, self._reader, self._loop)

    # What streams ask of a transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_closing(self) -> bool:
        return self._is_closing

    def is_reading(self) -> bool:
        return self._is_reading and not self._is_closing

    def pause_reading(self) -> None:
        self._is_reading = False

    def resume_reading(self) -> None:
        self._is_reading = True
        self._peer._plan()

    def get_write_buffer_size(self) -> int:
        return len(self._unsent)

    def can_write_eof(self) -> bool:
        return True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_closing or self._is_ending or not data:
            return
        if self._peer._is_closing:
            self._lose(BrokenPipeError("the other end is closed"))
            return
        self._unsent += data
        if len(self._unsent) > HIGH_WATER_BYTES and not self._is_held:
            self._is_held = True
            self._protocol.pause_writing()
        self._plan()

    def write_eof(self) -> None:
        self._is_ending = True
        self._plan()

    def close(self) -> None:
        """What was written before is still taken by the other end."""
        if self._is_closing:
            return
        self._is_closing = self._is_ending = True
        self._plan()
        if not self._unsent:
            self._loop.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self._lose(None)

    # The way of what was written

    def _lose(self, error: Exception | None) -> None:
        was_open = not self._is_closing
        had_unsent = bool(self._unsent)
        self._is_closing = self._is_ending = True
        self._unsent.clear()
        self._plan()
        if was_open or had_unsent:
            self._loop.call_soon(self._protocol.connection_lost, error)

    def _plan(self) -> None:
        if not self._due:
            self._due = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._due = False
        peer = self._peer
        if peer._is_closing:
            if self._unsent:
                self._lose(None if self._is_closing else BrokenPipeError("the other end is closed"))
            return
        if not peer._is_reading:
            return
        if self._unsent:
            data = bytes(self._unsent)
            self._unsent.clear()
            peer._reader.feed_data(data)
            if self._is_held:
                self._is_held = False
                self._protocol.resume_writing()
            if self._is_closing:
                self._loop.call_soon(self._protocol.connection_lost, None)
        if self._is_ending and not self._ended:
            self._ended = True
            peer._reader.feed_eof()
