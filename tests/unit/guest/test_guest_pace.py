"""How often silent guests are asked: as often for few, and no more often in all for many."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from volant.core.simulated_clock import SimulatedClock
from volant.guest.frame import GoAwayCode
from volant.guest.pace import PING_INTERVAL_MAX_S, PING_INTERVAL_S, PINGS_A_SECOND, PingPace
from volant.guest.session import Session

sys.path.insert(0, str(Path(__file__).parent))
from guest_world import open_pair


@pytest.mark.parametrize(
    ("count", "interval_s"), [(0, 10.0), (1, 10.0), (200, 10.0), (201, 10.05), (4_000, 200.0), (50_000, 300.0)]
)
def test_the_interval_grows_with_the_guests_and_has_an_end(count: int, interval_s: float) -> None:
    assert PingPace(lambda: count).interval_s == pytest.approx(interval_s)
    assert PING_INTERVAL_S <= interval_s <= PING_INTERVAL_MAX_S
    if interval_s < PING_INTERVAL_MAX_S:
        assert count / interval_s <= PINGS_A_SECOND


async def test_a_guest_that_hangs_is_found_at_the_pace_of_the_moment() -> None:
    clock, guests = SimulatedClock(), 2_000
    (reader, writer), (_, silent) = await open_pair()
    session = Session(reader, writer, clock, pace=PingPace(lambda: guests))
    keeping = asyncio.ensure_future(session.keep_alive())
    await clock.advance(99.0)
    assert writer.transport.get_write_buffer_size() == 0
    assert not keeping.done()
    await clock.advance(1.0 + 9.0)
    assert not keeping.done()
    await clock.advance(1.0)
    assert keeping.done(), "nobody answered the ping within 10 s"
    assert "ping" in str(keeping.exception())
    await session.end("over", GoAwayCode.NORMAL)
    silent.transport.abort()
