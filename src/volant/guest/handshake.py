"""How the host gets hold of a guest's agent: one preamble a connection, and patience (docs/guest-protocol.md, section 2)."""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import termios
from collections.abc import Awaitable, Callable

from volant.core.clock import Clock
from volant.guest.breach import SessionOver
from volant.guest.bucket import TokenBucket
from volant.guest.deadline import race, within
from volant.guest.preamble import NONCE_BYTES, AnswerScanner, encode_preamble
from volant.guest.session import TURN_BYTES

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]

CONNECT_TIMEOUT_S = 5.0
PATIENCE_S = (0.1, 0.2, 0.5, 1.0, 2.0)
"""How long a guest that took the preamble may think about its answer: little at first, while which secret it holds is a
guess, and more with every round in which none was answered."""

UNTAKEN_LIMIT_S = 10.0
"""A connection on which the preamble was not even taken is renewed after this."""

_FIRST_LOOK_S = 0.05
_LAST_LOOK_S = 0.5
_STALE_BYTES_PER_S = 1_048_576
_STALE_BURST_BYTES = 4_194_304


class NotTaken(SessionOver):
    """The transport still holds the preamble: the guest has not opened its end, so the secret was not tried."""


class Unanswered(SessionOver):
    """The guest took the preamble and said nothing: it holds another secret, or is slow."""


async def dial(connect: Callable[[], Awaitable[Connection]], clock: Clock) -> Connection:
    """A new connection. Raises SessionOver when none is to be had within 5 s, and what ``connect`` raises of ours."""
    made: list[Connection] = []

    async def run() -> None:
        made.append(await connect())

    try:
        await within(clock, CONNECT_TIMEOUT_S, run())
    except TimeoutError as error:
        raise SessionOver("the VM's agent port does not accept a connection") from error
    except OSError as error:
        raise SessionOver(f"the VM's agent port cannot be reached: {error}") from error
    except asyncio.CancelledError:
        for _, writer in made:
            writer.close()
        raise
    return made[0]


async def greet(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    clock: Clock,
    *,
    secret: bytes,
    patience_s: float,
    first: bytes = b"",
) -> bytes:
    """Begin a session; return the first bytes after the guest's answer. ``first`` are the session's own, sent along with the
    preamble: a guest that takes that takes them too, and to wait for its answer between would cost the time of another.

    The guest has ``patience_s`` seconds from the moment the transport has passed the preamble on. Until then it lies in
    the connection's buffer and costs nobody anything: QEMU takes it when the guest opens the port.

    Raises:
        NotTaken: the guest did not open its end within 10 s.
        Unanswered: no answer came.
        SessionOver: the connection closed.
    """
    nonce = os.urandom(NONCE_BYTES)
    writer.write(encode_preamble(secret, nonce) + first)
    try:
        return await race(_find_answer(reader, nonce, clock), _lose_patience(writer, clock, patience_s))
    except TimeoutError as error:
        raise Unanswered("the guest's agent does not answer") from error
    except OSError as error:
        raise SessionOver(f"the connection to the guest's agent failed: {error}") from error


async def _find_answer(reader: asyncio.StreamReader, nonce: bytes, clock: Clock) -> bytes:
    scanner = AnswerScanner(nonce)
    stale = TokenBucket(clock, rate_per_s=_STALE_BYTES_PER_S, burst=_STALE_BURST_BYTES)
    while True:
        data = await reader.read(TURN_BYTES)
        if not data:
            raise SessionOver("the connection to the guest's agent was closed before it answered")
        rest = scanner.feed(data)
        if rest is not None:
            return rest
        await stale.pay(len(data))
        await asyncio.sleep(0)


async def _lose_patience(writer: asyncio.StreamWriter, clock: Clock, patience_s: float) -> None:
    waited_s, look_s = 0.0, _FIRST_LOOK_S
    while _count_untaken(writer) > 0:
        if waited_s >= UNTAKEN_LIMIT_S:
            raise NotTaken("the guest's agent has not opened its port")
        await clock.sleep(look_s)
        waited_s += look_s
        look_s = min(_LAST_LOOK_S, look_s * 1.5)
    await clock.sleep(patience_s)


def _count_untaken(writer: asyncio.StreamWriter) -> int:
    """Bytes that the other end of a socket has not read (SIOCOUTQ, unix(7) and tcp(7)); 0 where that is not to be known."""
    buffered = writer.transport.get_write_buffer_size()
    endpoint = writer.get_extra_info("socket")
    if buffered or endpoint is None:
        return buffered
    try:
        answer = fcntl.ioctl(endpoint.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return 0
    return int(struct.unpack("i", answer)[0])
