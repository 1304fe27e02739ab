"""A TCP connection made inside a guest (docs/guest-protocol.md, section 4.5)."""

from __future__ import annotations

from volant.guest.stream import READ_BYTES, Stream

WRITE_BYTES = 65_536
"""Bytes that are sent at once: what one data frame takes."""


class PortConnection:
    """Bytes both ways; each direction ends by itself. Close it, or use it as a context."""

    def __init__(self, stream: Stream, first: bytes = b"") -> None:
        self._stream = stream
        self._first = first
        self._is_open = True

    async def __aenter__(self) -> PortConnection:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def read(self, limit: int = READ_BYTES) -> bytes:
        """What has come, at least a byte; empty at the guest's end of it.

        Raises:
            GuestUnreachable: the connection was reset, or the link went down.
        """
        if self._first:
            data, self._first = self._first[:limit], self._first[limit:]
            return data
        return await self._stream.read(limit)

    async def write(self, content: bytes) -> None:
        """Waits while the guest does not read. Raises GuestUnreachable, also after ``write_eof``."""
        for at in range(0, len(content), WRITE_BYTES):
            await self._stream.write(content[at : at + WRITE_BYTES])

    async def write_eof(self) -> None:
        """Nothing more is written; reading goes on. Repeatable."""
        self._stream.finish()

    def close(self) -> None:
        """Let go of both directions at once."""
        if self._is_open:
            self._is_open = False
            self._stream.reset("the connection was closed")
