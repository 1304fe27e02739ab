"""A connection within one process does as a socket would: order, ends, and no room for who is not read."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

import pytest

from volant.hypervisor.simulated_wire import HIGH_WATER_BYTES, Streams, connect_streams


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Streams, Streams]]:
    made = connect_streams()
    yield made
    for _, writer in made:
        writer.transport.abort()


async def test_bytes_arrive_in_order_both_ways_and_then_the_end() -> None:
    files = len(os.listdir("/proc/self/fd"))
    (reader, writer), (their_reader, their_writer) = connect_streams()
    for number in range(5):
        writer.write(bytes([number]) * 3)
        await writer.drain()
    their_writer.write(b"back")
    assert await their_reader.readexactly(15) == b"".join(bytes([number]) * 3 for number in range(5))
    writer.write(b"last")
    writer.close()
    await writer.wait_closed()
    assert await their_reader.read() == b"last"
    assert await reader.read(4) == b"back"
    assert len(os.listdir("/proc/self/fd")) == files
    their_writer.close()


async def test_who_is_not_read_waits_and_goes_on_when_the_other_reads_again(ends: tuple[Streams, Streams]) -> None:
    (_, writer), (their_reader, their_writer) = ends
    their_writer.transport.pause_reading()  # type: ignore[attr-defined]  # as the agent does
    writer.write(b"x" * (HIGH_WATER_BYTES + 1))
    draining = asyncio.ensure_future(writer.drain())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not draining.done()
    assert writer.transport.get_write_buffer_size() == HIGH_WATER_BYTES + 1
    their_writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert len(await their_reader.readexactly(HIGH_WATER_BYTES + 1)) == HIGH_WATER_BYTES + 1
    await draining
    assert writer.transport.get_write_buffer_size() == 0


async def test_a_reader_that_falls_behind_holds_the_writer_back(ends: tuple[Streams, Streams]) -> None:
    (_, writer), (their_reader, _) = ends

    async def pour() -> None:
        for _ in range(100):
            writer.write(b"x" * 16_384)
            await writer.drain()

    pouring = asyncio.ensure_future(pour())
    for _ in range(300):
        await asyncio.sleep(0)
    assert not pouring.done(), "it would be 1.6 MB in memory"
    assert len(await their_reader.readexactly(100 * 16_384)) == 100 * 16_384
    await pouring


async def test_an_abort_ends_both_and_drops_what_was_not_taken(ends: tuple[Streams, Streams]) -> None:
    (reader, writer), (their_reader, their_writer) = ends
    writer.write(b"never taken")
    writer.transport.abort()
    assert await their_reader.read() == b""
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    assert await reader.read() == b""
    their_writer.write(b"to nobody")
    with pytest.raises(ConnectionError):
        await their_writer.drain()
        await their_writer.drain()
    assert their_writer.is_closing()


@pytest.mark.parametrize("finish", ["close", "abort"])
async def test_who_writes_to_an_end_that_closed_is_told(ends: tuple[Streams, Streams], finish: str) -> None:
    (_, writer), (_, their_writer) = ends
    getattr(their_writer.transport, finish)()
    await asyncio.sleep(0)
    writer.write(b"x")
    with pytest.raises(ConnectionError):
        for _ in range(3):
            await writer.drain()
    assert writer.is_closing()
