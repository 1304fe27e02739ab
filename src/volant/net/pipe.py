"""Bytes carried both ways between a client and a guest, which may come later than the client and may sleep in between."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from volant.net.socket import set_reset_on_close
from volant.net.transport import ByteStream, StreamTransport

HELD_BYTES = 64 * 1024
"""From here on a client is not read from until the guest can take what it sent; what one read brought may lie on top."""


class Pipe:
    """A client's connection, then the guest's end of it too.

    What the client sends is held until there is a guest, and while ``may_pass`` says that the guest can be given nothing.
    Either end may close its half; a reset of one is a reset of the other. Whoever writes faster than the other end reads is
    read from more slowly.
    """

    def __init__(
        self, *, may_pass: Callable[[Pipe, bool], bool], on_move: Callable[[], None], on_leave: Callable[[], object]
    ) -> None:
        """``may_pass`` is told whether there are bytes to pass, or only the client's end; who says no calls ``flow`` later.

        ``on_move`` is called when bytes came; ``on_leave`` when the client went before it had a guest.
        """
        self._may_pass = may_pass
        self._on_move = on_move
        self._on_leave = on_leave
        self._client = _End(self)
        self._guest: _End | None = None
        self._held = bytearray()
        self._closing = False
        self.ended = asyncio.Event()
        """Set when neither end is connected any more."""

    @property
    def has_guest(self) -> bool:
        return self._guest is not None

    @property
    def holds_bytes(self) -> bool:
        """True while the client has said something that no guest was given."""
        return bool(self._held)

    async def attach_client(self, connection: socket.socket) -> None:
        """Take ``connection`` over and begin to read from it."""
        await asyncio.get_running_loop().connect_accepted_socket(lambda: self._client, connection)

    async def attach_guest(self, connection: socket.socket) -> None:
        """Take ``connection`` over, which is connected, and let everything flow."""
        guest = self._guest = _End(self)
        await asyncio.get_running_loop().create_connection(lambda: guest, sock=connection)
        self._on_move()
        if self._client.lost:
            guest.reset()
        else:
            self.flow()

    def attach_stream(self, stream: ByteStream) -> None:
        """As ``attach_guest``, to a guest that is reached through its channel."""
        guest = self._guest = _End(self)
        StreamTransport(stream, guest)
        self._on_move()
        if self._client.lost:
            guest.reset()
        else:
            self.flow()

    async def close(self) -> None:
        """Reset what is still connected, and return when it is gone."""
        self._closing = True
        self.reset()
        if self._client.transport is not None:
            await self.ended.wait()

    def reset(self) -> None:
        self._client.reset()
        if self._guest is not None:
            self._guest.reset()

    def flow(self) -> None:
        """Give the guest what was held, if it can be given something now."""
        guest = self._guest
        pending = guest is not None and (bool(self._held) or (self._client.got_end and not guest.finished))
        if pending and guest is not None and guest.transport is not None and self._may_pass(self, bool(self._held)):
            if self._held:
                # Emptied first: a write that finds the guest too slow asks for the balance.
                held, self._held = self._held, bytearray()
                guest.transport.write(held)
            if self._client.got_end:
                self._pass_end(guest)
        self.balance()

    def take(self, end: _End, data: bytes) -> None:
        self._on_move()
        if end is not self._client:
            assert self._client.transport is not None
            self._client.transport.write(data)
            return
        guest = self._guest
        if not self._held and guest is not None and guest.transport is not None and self._may_pass(self, True):
            guest.transport.write(data)
            return
        self._held += data
        self.flow()

    def take_end(self, end: _End) -> None:
        if end is not self._client:
            self._pass_end(self._client)
        elif self._guest is None and not self._held:
            end.reset()  # it said nothing and will say nothing, so it waits for nothing
        else:
            self.flow()

    def take_loss(self, end: _End, error: Exception | None) -> None:
        other = self._guest if end is self._client else self._client
        if other is None:
            if not self._closing:
                self._on_leave()
        elif not other.lost:
            # An orderly end still delivers what the other has not read yet.
            other.close() if error is None else other.reset()
        if self._client.lost and (self._guest is None or self._guest.lost or self._guest.transport is None):
            self.ended.set()

    def balance(self) -> None:
        """Read from each end only what the other can take."""
        guest_has_room = self._guest is None or self._guest.has_room
        self._client.read(guest_has_room and len(self._held) < HELD_BYTES)
        if self._guest is not None:
            self._guest.read(self._client.has_room)

    def _pass_end(self, end: _End) -> None:
        """Close one direction, and both connections when it was the second."""
        end.finish()
        if self._guest is not None and self._client.finished and self._guest.finished:
            self._client.close()
            self._guest.close()


class _End(asyncio.Protocol):
    """One connection of a pipe."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self.transport: asyncio.Transport | None = None
        self.has_room = True
        self.got_end = False
        self.finished = False
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._pipe.take(self, data)

    def eof_received(self) -> bool:
        self.got_end = True
        self._pipe.take_end(self)
        return True  # only half of it is closed

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._pipe.take_loss(self, exc)

    def pause_writing(self) -> None:
        self.has_room = False
        self._pipe.balance()

    def resume_writing(self) -> None:
        self.has_room = True
        self._pipe.balance()

    def read(self, wanted: bool) -> None:
        # One that has ended would tell so again, and again.
        if self.transport is None or self.got_end or self.transport.is_closing():
            return
        if wanted:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def finish(self) -> None:
        """Nothing more is written to it."""
        if self.finished or self.transport is None:
            return
        self.finished = True
        try:
            self.transport.write_eof()
        except OSError:
            self.reset()  # it went away meanwhile

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def reset(self) -> None:
        if self.transport is None or self.lost:
            return
        connection = self.transport.get_extra_info("socket")
        if connection is not None:
            set_reset_on_close(connection)
        self.transport.abort()
