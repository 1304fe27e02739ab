"""One stream of a session: bytes both ways, each direction within its window."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from volant.core.errors import GuestUnreachable
from volant.guest.breach import Breach
from volant.guest.frame import MAX_PAYLOAD_BYTES, WINDOW_BYTES, Flag, encode_data, encode_window_update

READ_BYTES = 65_536


class FrameSink(Protocol):
    """What a stream needs of its session."""

    def send_now(self, frame: bytes) -> None:
        """Queue a small frame without waiting."""
        ...

    def room(self) -> AbstractAsyncContextManager[None]:
        """Entered, one at a time, when the transport has room. Raises GuestUnreachable when the session is over."""
        ...

    def forget(self, stream_id: int, unread_window: int) -> None:
        """Both directions are over; ``unread_window`` bytes may still be under way from the peer."""
        ...


class Stream:
    """Reads hand back the window; without reads the peer runs dry after 262,144 bytes and nobody else notices."""

    def __init__(self, sink: FrameSink, stream_id: int, *, opening: bool) -> None:
        self.id = stream_id
        self._sink = sink
        self._first_flag = Flag.SYN if opening else Flag.ACK
        self._received = bytearray()
        self._receive_window = WINDOW_BYTES
        self._unreported = 0
        self._send_window = WINDOW_BYTES
        self._readable = asyncio.Event()
        self._writable: asyncio.Event | None = None
        """There once somebody had to wait for the window: most never do."""
        self._writing = asyncio.Lock()
        self._peer_finished = False
        self._finished = False
        self._failure: str | None = None

    async def read(self, max_bytes: int = READ_BYTES) -> bytes:
        """At least one byte, or ``b""`` after the peer's FIN.

        Raises:
            GuestUnreachable: the stream was reset or its session ended; what had arrived before was returned first.
        """
        while not self._received:
            if self._failure is not None:
                raise GuestUnreachable(self._failure)
            if self._peer_finished:
                return b""
            self._readable.clear()
            await self._readable.wait()
        with memoryview(self._received) as view:
            data = bytes(view[:max_bytes])
        del self._received[: len(data)]
        self._give_back(len(data))
        return data

    async def write(self, data: bytes) -> None:
        """Send ``data`` (at most 131,072 bytes) whole or, when cancelled before the window allows it, not at all.

        Raises:
            GuestUnreachable: the stream is over.
        """
        if len(data) > WINDOW_BYTES // 2:
            raise ValueError("a peer may keep back half of a window, so no more than the other half is sent at once")
        async with self._writing:
            while self._is_writable and self._send_window < len(data):
                self._writable = self._writable or asyncio.Event()
                self._writable.clear()
                await self._writable.wait()
            async with self._sink.room():
                if self._failure is not None:
                    raise GuestUnreachable(self._failure)
                if self._finished:
                    raise GuestUnreachable("the stream to the guest is closed")
                self._send_window -= len(data)
                for at in range(0, len(data), MAX_PAYLOAD_BYTES):
                    self._sink.send_now(encode_data(self.id, data[at : at + MAX_PAYLOAD_BYTES], self._take_flag()))

    def take_first(self, data: bytes) -> bytes:
        """The frame that opens the stream with ``data``, for who sends it along with something else. Before any ``write``."""
        self._send_window -= len(data)
        return encode_data(self.id, data, self._take_flag())

    def finish(self) -> None:
        """Send FIN: nothing more is written. Writers that wait are let go."""
        if self._finished or self._failure is not None:
            return
        self._finished = True
        self._sink.send_now(encode_data(self.id, b"", self._take_flag() | Flag.FIN))
        self._let_write()
        self._forget_when_over()

    def reset(self, reason: str = "the stream was closed") -> None:
        """Give the stream up in both directions, what was received with it."""
        if self._failure is not None or (self._finished and self._peer_finished):
            self._received.clear()
            return
        if self._first_flag != Flag.SYN:
            self._sink.send_now(encode_window_update(self.id, 0, Flag.RST))
        self._received.clear()
        self.fail(reason)
        self._sink.forget(self.id, self._receive_window)

    def fail(self, reason: str) -> None:
        """The stream is over without FIN: readers get what had arrived and then ``reason``, writers ``reason``."""
        if self._failure is None:
            self._failure = reason
        self._readable.set()
        self._let_write()

    @property
    def is_over(self) -> bool:
        """Nothing goes either way any more."""
        return self._failure is not None or (self._finished and self._peer_finished)

    def take_data(self, payload: bytes) -> None:
        """Bytes from the peer. Raises Breach when they pass the window or follow a FIN."""
        if not payload:
            return
        if self._peer_finished:
            raise Breach("the guest's agent sent data on a stream that it had finished")
        if len(payload) > self._receive_window:
            raise Breach("the guest's agent sent more than the window it was given")
        self._receive_window -= len(payload)
        self._received += payload
        self._readable.set()

    def take_window(self, delta: int) -> None:
        """Room from the peer. Raises Breach when the window would pass 262,144."""
        if self._send_window + delta > WINDOW_BYTES:
            raise Breach("the guest's agent enlarged a window")
        self._send_window += delta
        self._let_write()

    def take_finish(self) -> None:
        self._peer_finished = True
        self._readable.set()
        self._forget_when_over()

    def _give_back(self, count: int) -> None:
        self._unreported += count
        # Half a window at a time: fewer frames, and the peer never runs dry while it is read.
        if self._unreported < WINDOW_BYTES // 2 or self._peer_finished or self._failure is not None:
            return
        self._receive_window += self._unreported
        self._sink.send_now(encode_window_update(self.id, self._unreported, self._take_flag()))
        self._unreported = 0

    @property
    def _is_writable(self) -> bool:
        return self._failure is None and not self._finished

    def _let_write(self) -> None:
        if self._writable is not None:
            self._writable.set()

    def _take_flag(self) -> Flag:
        flag, self._first_flag = self._first_flag, Flag.NONE
        return flag

    def _forget_when_over(self) -> None:
        if self._finished and self._peer_finished:
            self._sink.forget(self.id, 0)
