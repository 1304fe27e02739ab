"""Two sessions, host's and guest's, over a socket pair."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from volant.core.errors import GuestUnreachable, Unavailable
from volant.core.simulated_clock import SimulatedClock
from volant.guest.breach import Breach, SessionOver
from volant.guest.frame import MAX_STREAMS, WINDOW_BYTES, Flag, GoAwayCode, encode_data, encode_ping, encode_window_update
from volant.guest.session import Session
from volant.guest.stream import Stream
from volant.guest.turns import MAX_ASKED, MAX_WAITING

sys.path.insert(0, str(Path(__file__).parent))
from guest_world import open_pair


class Pair:
    """The host's session and the guest's, both receiving."""

    def __init__(self) -> None:
        self.clock = SimulatedClock()
        self.accepted: asyncio.Queue[Stream] = asyncio.Queue()
        self.tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        (reader, self.host_writer), (guest_reader, self.guest_writer) = await open_pair()
        self.host = Session(reader, self.host_writer, self.clock)
        self.guest = Session(guest_reader, self.guest_writer, self.clock, accept=self.accepted.put_nowait)
        self.host_task = asyncio.ensure_future(self.host.receive())
        self.guest_task = asyncio.ensure_future(self.guest.receive())

    async def open(self, first: bytes = b"hello") -> tuple[Stream, Stream]:
        ours = self.host.open_stream()
        await ours.write(first)
        theirs = await self.accepted.get()
        assert await theirs.read() == first
        return ours, theirs

    async def end(self) -> None:
        for task in (self.host_task, self.guest_task):
            task.cancel()
        await asyncio.gather(self.host_task, self.guest_task, return_exceptions=True)
        await self.host.end("over", GoAwayCode.NORMAL)
        await self.guest.end("over", GoAwayCode.NORMAL)

    async def settle(self) -> None:
        await self.clock.advance(0)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    made = Pair()
    await made.begin()
    yield made
    await made.end()


async def read_all(stream: Stream) -> bytes:
    content = b""
    while data := await stream.read():
        content += data
    return content


async def test_bytes_go_both_ways_and_each_direction_ends_by_itself(pair: Pair) -> None:
    ours, theirs = await pair.open()
    ours.finish()
    assert await theirs.read() == b""
    await theirs.write(b"answer")
    theirs.finish()
    assert await read_all(ours) == b"answer"
    with pytest.raises(GuestUnreachable, match="closed"):
        await ours.write(b"more")


async def test_a_stream_that_nobody_reads_stalls_itself_and_no_other(pair: Pair) -> None:
    ours, theirs = await pair.open()
    sent = 0

    async def flood() -> None:
        nonlocal sent
        while True:
            await theirs.write(b"x" * 16_384)
            sent += 16_384

    flooding = asyncio.ensure_future(flood())
    await pair.settle()
    assert sent == WINDOW_BYTES
    other, its_end = await pair.open(b"other")
    await its_end.write(b"alive")
    assert await other.read() == b"alive"
    read = 0
    while read < WINDOW_BYTES:
        read += len(await ours.read())
    await pair.settle()
    assert sent >= 2 * WINDOW_BYTES - 16_384
    flooding.cancel()
    await asyncio.gather(flooding, return_exceptions=True)


@pytest.mark.parametrize("seed", range(8))
async def test_random_interleavings_deliver_every_stream_whole_and_in_order(pair: Pair, seed: int) -> None:
    dice = random.Random(seed)

    async def speak(stream: Stream, content: bytes) -> None:
        at = 0
        while at < len(content):
            size = dice.randint(1, 100_000)
            await stream.write(content[at : at + size])
            at += size
            for _ in range(dice.randint(0, 3)):
                await asyncio.sleep(0)
        stream.finish()

    async def hear(stream: Stream) -> bytes:
        content = b""
        while data := await stream.read(dice.randint(1, 70_000)):
            content += data
            for _ in range(dice.randint(0, 3)):
                await asyncio.sleep(0)
        return content

    streams = [await pair.open(f"{number}".encode()) for number in range(6)]
    contents = [(dice.randbytes(dice.randint(0, 600_000)), dice.randbytes(dice.randint(0, 600_000))) for _ in streams]
    async with asyncio.TaskGroup() as tasks:
        heard = []
        for (ours, theirs), (down, up) in zip(streams, contents, strict=True):
            tasks.create_task(speak(ours, down))
            tasks.create_task(speak(theirs, up))
            heard.append((tasks.create_task(hear(theirs)), tasks.create_task(hear(ours))))
    assert [(down.result(), up.result()) for down, up in heard] == contents


async def test_a_write_that_is_cancelled_before_its_turn_sends_nothing(pair: Pair) -> None:
    ours, theirs = await pair.open()
    await ours.write(b"a" * 131_072)
    await ours.write(b"a" * (131_072 - 100))
    waiting = asyncio.ensure_future(ours.write(b"b" * 1000))
    await pair.settle()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await ours.write(b"c" * 50)
    ours.finish()
    content = await read_all(theirs)
    assert b"b" not in content
    assert content.endswith(b"c" * 50)


async def test_a_reset_lets_everybody_go_and_late_bytes_are_passed_over(pair: Pair) -> None:
    for _ in range(3 * MAX_STREAMS):
        ours, theirs = await pair.open()
        await theirs.write(b"late" * 30_000)
        reading = asyncio.ensure_future(read_all(theirs))
        ours.reset()
        with pytest.raises(GuestUnreachable, match="reset"):
            await reading
    assert not pair.host_task.done()


async def test_an_opener_waits_for_its_turn_and_gets_it(pair: Pair) -> None:
    pair.host.allow_streams(2)
    first = await pair.host.open_in_turn("exec", "it was not run")
    second = asyncio.ensure_future(pair.host.open_in_turn("exec", "it was not run"))
    await pair.settle()
    assert not second.done()
    first.reset()
    assert (await second).id == 3


async def test_an_opener_whose_turn_does_not_come_is_told_to_try_again(pair: Pair) -> None:
    pair.host.allow_streams(2)
    await pair.host.open_in_turn("exec", "it was not run")
    waiting = asyncio.ensure_future(pair.host.open_in_turn("exec", "it was not run"))
    await pair.clock.advance(10.0)
    with pytest.raises(Unavailable, match=r"it was not run: none of 1 streams came free in time") as raised:
        await waiting
    assert raised.value.hint


async def test_an_opener_that_waits_when_the_session_ends_is_told_why(pair: Pair) -> None:
    pair.host.allow_streams(2)
    await pair.host.open_in_turn("exec", "it was not run")
    waiting = asyncio.ensure_future(pair.host.open_in_turn("logs", "it was not read"))
    await pair.settle()
    pair.host.drop("the VM stopped", None)
    with pytest.raises(GuestUnreachable, match="it was not read: the VM stopped"):
        await waiting


async def test_one_kind_of_streams_leaves_room_for_the_others(pair: Pair) -> None:
    pair.host.allow_streams(64)

    async def open_exec() -> Stream:
        stream = await pair.host.open_in_turn("exec", "it was not run")
        pair.host.settle("exec")
        return stream

    execs = [asyncio.ensure_future(open_exec()) for _ in range(200)]
    await pair.settle()
    opened = [one for one in execs if one.done()]
    assert 40 < len(opened) < 63
    for kind in ("connect", "files", "logs", "attach"):
        assert (await pair.host.open_in_turn(kind, "it was not opened")).id  # type: ignore[arg-type]  # a literal in a loop
    for one in execs:
        one.cancel()
    await asyncio.gather(*execs, return_exceptions=True)
    before = len(opened)
    for one in opened:
        one.result().reset()
    again = [await open_exec() for _ in range(before)]
    assert len(again) == before, "who went while it waited holds no place"


async def test_the_guest_is_asked_for_so_many_at_a_time_and_who_waits_goes_on_as_long_as_others_do(pair: Pair) -> None:
    pair.host.allow_streams(512)
    opening = [asyncio.ensure_future(pair.host.open_in_turn("exec", "it was not run")) for _ in range(MAX_ASKED + 3)]
    await pair.settle()
    assert sum(one.done() for one in opening) == MAX_ASKED
    for count in range(1, 4):
        await pair.clock.advance(9.0)
        pair.host.settle("exec")
        await pair.settle()
        assert sum(one.done() for one in opening) == MAX_ASKED + count
    assert all(one.exception() is None for one in opening)


async def test_no_more_wait_than_a_bound(pair: Pair) -> None:
    pair.host.allow_streams(2)
    waiting = [asyncio.ensure_future(pair.host.open_in_turn("exec", "it was not run")) for _ in range(MAX_WAITING + 1)]
    await pair.settle()
    with pytest.raises(Unavailable, match="others wait"):
        await pair.host.open_in_turn("exec", "it was not run")
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_the_end_fails_what_waits(pair: Pair) -> None:
    ours, _ = await pair.open()
    reading = asyncio.ensure_future(ours.read())
    await pair.settle()
    await pair.host.end("the VM stopped", GoAwayCode.NORMAL)
    with pytest.raises(GuestUnreachable, match="the VM stopped"):
        await reading
    with pytest.raises(GuestUnreachable, match="the VM stopped"):
        pair.host.open_stream()
    with pytest.raises(SessionOver, match="code 0"):
        await pair.guest_task


async def test_a_ping_is_answered_and_one_without_answer_ends_the_session(pair: Pair) -> None:
    keeping = asyncio.ensure_future(pair.host.keep_alive())
    await pair.clock.advance(100.0)
    assert not keeping.done()
    pair.guest_task.cancel()
    await pair.clock.advance(20.0)
    with pytest.raises(SessionOver, match="ping"):
        await keeping


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (encode_data(1, b"x" * 65_536) * 4 + encode_data(1, b"x"), "window it was given"),
        (encode_data(1, b"", Flag.FIN) + encode_data(1, b"x"), "finished"),
        (encode_window_update(1, 0xFFFFFFFF), "enlarged"),
        (encode_data(3, b"x" * 65_536) * 5, "not open"),
        (encode_data(2, b"", Flag.SYN), "opened a stream"),
    ],
)
async def test_breaches_end_the_session(pair: Pair, frames: bytes, reason: str) -> None:
    await pair.open()
    pair.guest_writer.write(frames)
    await pair.settle()
    with pytest.raises(Breach, match=reason):
        await pair.host_task


async def test_a_peer_that_asks_and_does_not_listen_is_given_up(pair: Pair) -> None:
    pair.guest_task.cancel()
    with pytest.raises(SessionOver, match=r"without reading|closed|failed"):
        while not pair.host_task.done():
            pair.guest_writer.write(encode_ping(1, Flag.SYN) * 1000)
            await pair.clock.advance(1.0)
        await pair.host_task
    assert pair.host_writer.transport.get_write_buffer_size() < 3 * 1_048_576


async def test_more_frames_than_a_guest_may_make_us_read_wait(pair: Pair) -> None:
    await pair.open()
    pair.guest_writer.write(encode_window_update(1, 0) * 100_000)
    await pair.settle()
    assert pair.guest_writer.transport.get_write_buffer_size() > 0
    await pair.clock.advance(10.0)
    assert pair.guest_writer.transport.get_write_buffer_size() == 0
    assert not pair.host_task.done()
