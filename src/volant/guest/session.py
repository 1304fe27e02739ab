"""A session: yamux over one connection (docs/guest-protocol.md, section 3). The host is its client.

Nothing that the peer does makes it hold more than 256 KiB a stream, one frame, and a bounded queue; reading takes turns
with everybody else on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from volant.core.clock import Clock
from volant.core.errors import GuestUnreachable
from volant.guest.breach import Breach, SessionOver
from volant.guest.bucket import TokenBucket
from volant.guest.frame import (
    MAX_STREAMS,
    WINDOW_BYTES,
    Flag,
    Frame,
    FrameDecoder,
    FrameType,
    GoAwayCode,
    encode_go_away,
    encode_ping,
    encode_window_update,
)
from volant.guest.pace import PingPace
from volant.guest.stream import Stream
from volant.guest.turns import Kind, Turns

PING_TIMEOUT_S = 10.0
TURN_BYTES = 16_384
"""Bytes that are taken from the connection in one turn of the event loop."""

MAX_UNSENT_BYTES = 1_048_576
"""A peer that reads nothing while it makes us answer is given up beyond this."""

MOST_STREAMS = 1_024
"""A guest that says it takes more is not believed."""

FRAMES_PER_S = 16_384
FRAMES_BURST = 8_192


class ByteSource(Protocol):
    async def read(self, max_bytes: int, /) -> bytes: ...


class Session:
    """One side of a session. ``accept`` makes it the guest's: it is called with every stream that the peer opens."""

    def __init__(
        self,
        reader: ByteSource,
        writer: asyncio.StreamWriter,
        clock: Clock,
        *,
        accept: Callable[[Stream], None] | None = None,
        max_streams: int = MAX_STREAMS,
        pace: PingPace | None = None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._accept = accept
        self._pace = pace or PingPace()
        self._decoder = FrameDecoder()
        self._frames = TokenBucket(clock, rate_per_s=FRAMES_PER_S, burst=FRAMES_BURST)
        self._streams: dict[int, Stream] = {}
        self._max_streams = max_streams
        self._turns = Turns(clock, max_streams - 1)
        self._kinds: dict[int, Kind] = {}
        self._next_id = 1
        # A sender keeps to the window it had even on a stream we have dropped: this is what may still arrive of those.
        self._stray_allowance = WINDOW_BYTES
        self._heard_at = clock.monotonic()
        self._ping_value = 0
        self._pong = asyncio.Event()
        self._sending = asyncio.Lock()
        self._over: str | None = None

    @property
    def over(self) -> str | None:
        """Why the session has ended, None while it has not."""
        return self._over

    def allow_streams(self, count: int) -> None:
        """The peer takes ``count`` streams at once; no more than 1,024 are opened whatever it says."""
        self._max_streams = min(count, MOST_STREAMS)
        self._turns.widen(self._max_streams - 1)

    async def open_in_turn(self, kind: Kind, doing: str) -> Stream:
        """As ``open_stream``, once there is a place for a stream of that kind. Raises what Turns.take raises."""
        await self._turns.take(kind, doing)
        try:
            stream = self.open_stream()
        except BaseException:
            self._turns.settle(kind)
            self._turns.give(kind)
            raise
        self._kinds[stream.id] = kind
        return stream

    def settle(self, kind: Kind) -> None:
        """The peer answered the opening of a stream that was opened in its turn, or never will."""
        self._turns.settle(kind)

    def open_stream(self) -> Stream:
        """A new stream; the peer hears of it with the first write. Raises GuestUnreachable when the session has ended."""
        if self._over is not None:
            raise GuestUnreachable(self._over)
        stream = Stream(self, self._next_id, opening=True)
        self._streams[stream.id] = stream
        self._next_id += 2
        return stream

    async def receive(self, first: bytes = b"") -> None:
        """Task body: take in what the peer sends, ``first`` having been read already. Never returns.

        Raises:
            SessionOver: the connection closed or the peer went away. Breach: it broke the protocol.
        """
        data = first
        while True:
            if data:
                count = 0
                for frame in self._decoder.feed(data):
                    self._take_frame(frame)
                    count += 1
                self._heard_at = self._clock.monotonic()
                await self._frames.pay(count)
                # read() does not yield while bytes wait, and a flood must not keep others from their turn.
                await asyncio.sleep(0)
            try:
                data = await self._reader.read(TURN_BYTES)
            except OSError as error:
                raise SessionOver(f"the connection to the guest's agent failed: {error}") from error
            if not data:
                raise SessionOver("the connection to the guest's agent was closed")

    async def keep_alive(self) -> None:
        """Task body: ping when nothing has been heard for as long as the pace says. Raises SessionOver when no answer comes
        within 10 s."""
        while True:
            idle_s = self._clock.monotonic() - self._heard_at
            interval_s = self._pace.interval_s
            if idle_s < interval_s:
                await self._clock.sleep(interval_s - idle_s)
                continue
            self._ping_value = (self._ping_value + 1) & 0xFFFFFFFF
            self._pong.clear()
            self.send_now(encode_ping(self._ping_value, Flag.SYN))
            # Nothing waits for the answer itself: with ten thousand guests two tasks a ping were what volantd did all day.
            await self._clock.sleep(PING_TIMEOUT_S)
            if not self._pong.is_set():
                raise SessionOver(f"the guest's agent did not answer a ping within {PING_TIMEOUT_S:g} s")

    def drop(self, reason: str, code: GoAwayCode | None) -> None:
        """End the session and leave the connection: Go Away with ``code`` if there is one, every stream fails with ``reason``."""
        if self._over is None:
            if code is not None:
                self.send_now(encode_go_away(code))
            self._over = reason
        for stream in list(self._streams.values()):
            stream.fail(reason)
        self._streams.clear()
        self._kinds.clear()
        self._turns.end(self._over)

    async def end(self, reason: str, code: GoAwayCode | None) -> None:
        """Drop the session and close the connection."""
        self.drop(reason, code)
        self._writer.transport.abort()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def send_now(self, frame: bytes) -> None:
        if self._over is None and not self._writer.is_closing():
            self._writer.write(frame)

    @contextlib.asynccontextmanager
    async def room(self) -> AsyncIterator[None]:
        async with self._sending:
            try:
                await self._writer.drain()
            except OSError as error:
                raise GuestUnreachable(f"the connection to the guest's agent failed: {error}") from error
            if self._over is not None:
                raise GuestUnreachable(self._over)
            yield

    def forget(self, stream_id: int, unread_window: int) -> None:
        if self._streams.pop(stream_id, None) is not None:
            self._stray_allowance += unread_window
            kind = self._kinds.pop(stream_id, None)
            if kind is not None:
                self._turns.give(kind)

    def _take_frame(self, frame: Frame) -> None:
        if frame.type in (FrameType.DATA, FrameType.WINDOW_UPDATE):
            self._take_stream_frame(frame)
        elif frame.type == FrameType.PING:
            if frame.flags & Flag.SYN:
                self._answer(encode_ping(frame.value, Flag.ACK))
            elif frame.flags & Flag.ACK and frame.value == self._ping_value:
                self._pong.set()
        else:
            raise SessionOver(f"the guest's agent ended the session with code {frame.value}")

    def _take_stream_frame(self, frame: Frame) -> None:
        if frame.flags & Flag.SYN:
            self._take_syn(frame.stream_id)
        stream = self._streams.get(frame.stream_id)
        if stream is None:
            self._stray_allowance -= len(frame.payload)
            if self._stray_allowance < 0:
                raise Breach("the guest's agent keeps sending on streams that are not open")
            return
        if frame.flags & Flag.RST:
            stream.fail("the guest's agent reset the stream")
            self.forget(frame.stream_id, 0)
            return
        if frame.type == FrameType.DATA:
            stream.take_data(frame.payload)
        else:
            stream.take_window(frame.value)
        if frame.flags & Flag.FIN:
            stream.take_finish()

    def _take_syn(self, stream_id: int) -> None:
        if self._accept is None:
            raise Breach("the guest's agent opened a stream, which only the host does")
        if stream_id % 2 == 0 or stream_id < self._next_id:
            raise Breach(f"the peer opened stream {stream_id} out of order")
        self._next_id = stream_id + 2
        if len(self._streams) >= self._max_streams:
            self._answer(encode_window_update(stream_id, 0, Flag.RST))
            self._stray_allowance += WINDOW_BYTES
            return
        stream = Stream(self, stream_id, opening=False)
        self._streams[stream_id] = stream
        self._accept(stream)

    def _answer(self, frame: bytes) -> None:
        if self._writer.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            raise Breach("the guest's agent asks without reading the answers")
        self.send_now(frame)
