from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from volant.core.errors import DiskFull
from volant.core.log import LogRecord
from volant.guest.collector import LogCollector

if TYPE_CHECKING:
    from guest_world import World


class Shelf:
    """A sink in memory, that can be full."""

    def __init__(self) -> None:
        self.records: list[LogRecord] = []
        self.is_full = False

    async def last_seq(self) -> int:
        return self.records[-1].seq if self.records else 0

    async def append(self, records: Sequence[LogRecord]) -> None:
        if self.is_full:
            raise DiskFull("no space left")
        self.records.extend(records)


async def test_every_line_once_over_cuts_and_a_new_collector(world: World) -> None:
    shelf = Shelf()
    world.start()
    collecting = world.spawn(LogCollector(world.link, shelf).run())
    await world.configured()
    for number in range(300):
        world.guest.log(f"line {number}")
        if number % 60 == 59:
            await world.cut()
            await world.connected()
        if number == 150:
            collecting.cancel()
            await asyncio.gather(collecting, return_exceptions=True)
            collecting = world.spawn(LogCollector(world.link, shelf).run())
    await world.clock.advance(5.0)
    assert [record.seq for record in shelf.records] == list(range(1, 303))
    assert shelf.records[-1].data == b"line 299"


async def test_a_guest_that_writes_faster_is_read_no_faster_and_the_gap_shows(world: World) -> None:
    shelf = Shelf()
    world.start()
    world.spawn(LogCollector(world.link, shelf, bytes_per_s=100_000, burst_bytes=200_000).run())
    await world.configured()
    await world.clock.advance(1.0)
    for _ in range(40):
        for _ in range(200):
            world.guest.log(b"x" * 1000)
        await world.clock.advance(1.0)
    taken = sum(24 + len(record.data) for record in shelf.records)
    assert taken < 41 * 100_000 + 200_000 + 2 * 65_536
    seqs = [record.seq for record in shelf.records]
    assert seqs == sorted(set(seqs))
    assert seqs[-1] > len(seqs)


async def test_a_full_disk_is_waited_out(world: World) -> None:
    shelf = Shelf()
    shelf.is_full = True
    world.start()
    collector = LogCollector(world.link, shelf)
    world.spawn(collector.run())
    await world.configured()
    await world.clock.advance(3.0)
    assert collector.problem == "no space left"
    shelf.is_full = False
    await world.clock.advance(3.0)
    assert collector.problem == ""
    assert shelf.records


async def test_a_flood_of_lines_leaves_the_link_answering(world: World) -> None:
    shelf = Shelf()
    world.start()
    world.spawn(LogCollector(world.link, shelf).run())
    await world.configured()
    world.guest.misbehaviour = "flood_logs"
    await world.clock.advance(2.0)
    assert (await world.link.stats()).uptime_ms > 0
    assert world.link.state.connected
