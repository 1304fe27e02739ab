"""TCP connections inside a guest, through the channel."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from volant.core.errors import GuestUnreachable, Unavailable, WrongState

sys.path.insert(0, str(Path(__file__).parent))

if TYPE_CHECKING:
    from guest_world import World


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """All that comes back, in capitals, once the other end has finished."""
    writer.write((await reader.read()).upper())
    await writer.drain()
    writer.close()


async def test_each_direction_ends_by_itself(world: World) -> None:
    world.guest.ports[80] = echo
    world.start()
    await world.configured()
    async with await world.link.open_port(80) as connection:
        await connection.write(b"x" * 200_000)
        await connection.write(b"y")
        await connection.write_eof()
        with pytest.raises(GuestUnreachable):
            await connection.write(b"late")
        got = bytearray()
        while data := await connection.read():
            got += data
        assert got == b"X" * 200_000 + b"Y"


async def test_a_port_that_nobody_listens_at_is_told_from_one_that_failed(world: World) -> None:
    world.start()
    await world.configured()
    with pytest.raises(Unavailable, match="port 81 of the guest was not reached: nobody listens") as raised:
        await world.link.open_port(81)
    assert not isinstance(raised.value, GuestUnreachable)
    assert raised.value.hint


async def test_a_writer_waits_for_a_reader_that_is_slow(world: World) -> None:
    read = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read.wait()
        await reader.read()

    world.guest.ports[80] = slow
    world.start()
    await world.configured()
    async with await world.link.open_port(80) as connection:
        writing = asyncio.ensure_future(connection.write(bytes(8_000_000)))
        await world.clock.advance(1.0)
        assert not writing.done()
        read.set()
        async with asyncio.timeout(10):
            await writing


async def test_an_agent_of_an_earlier_version_is_named(world: World) -> None:
    world.guest.capabilities = ("exec", "logs")
    world.start()
    await world.configured()
    with pytest.raises(WrongState, match=r"kestrel/\S+, is too old to open ports: build its plugin again"):
        await world.link.open_port(80)
