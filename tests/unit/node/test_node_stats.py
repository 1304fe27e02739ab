"""What is told of a VM's use, when its parts answer and when they do not."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from volant.core.clock import Clock
from volant.core.errors import GuestUnreachable, Unavailable
from volant.guest.protocol import GuestStats
from volant.hypervisor.driver import Counters, DiskCounters, MemoryUse, NetworkCounters
from volant.node.run import Run
from volant.node.stats import GUEST_TIMEOUT_S, SPAN_MAX_S, SPAN_MIN_S, Meter

MIB = 1024 * 1024


class SteppedClock:
    """Goes on when somebody sleeps, and by hand."""

    def __init__(self) -> None:
        self.at = 100.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds


class FakeRun:
    """A run whose process uses half a core, by ``clock``."""

    def __init__(self, clock: SteppedClock) -> None:
        self._clock = clock
        self.instance = self
        self.link = self
        self.agent = SimpleNamespace(connected=True)
        self.paused = False
        self.machine = SimpleNamespace(memory_mib=256)
        self.is_gone = False
        self.guest: Any = GuestStats(
            memory_total_kb=1000, memory_available_kb=400, load1=0.5, cpu_ms=70, uptime_ms=9000, processes=12,
            disk_total_kb=10, disk_available_kb=4, disk_read_bytes=5, disk_write_bytes=6, net_rx_bytes=7, net_tx_bytes=8,
        )  # fmt: skip
        self.counters: Any = Counters(
            disks={"root": DiskCounters(read_bytes=1, written_bytes=2), "data": DiskCounters(read_bytes=10, written_bytes=20)},
            networks={"vt-1": NetworkCounters(received_bytes=3, sent_bytes=4)},
            memory_mib=128,
        )
        self.asked_for_s: list[float] = []

    async def measure_memory(self) -> MemoryUse:
        if self.is_gone:
            raise Unavailable("the VM process is gone")
        cpu_s = (self._clock.at - 90) / 2
        return MemoryUse(guest_private_bytes=1, guest_shared_bytes=2, private_bytes=3, shared_bytes=4, cpu_s=cpu_s)

    async def read_counters(self) -> Any:
        return await _answer(self.counters)

    async def stats(self, *, timeout_s: float) -> Any:
        self.asked_for_s.append(timeout_s)
        return await _answer(self.guest)


async def _answer(what: Any) -> Any:
    if isinstance(what, Exception):
        raise what
    return what


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def run(clock: SteppedClock) -> FakeRun:
    return FakeRun(clock)


def read(meter: Meter, run: FakeRun) -> Any:
    return asyncio.run(meter.read(cast(Run, run)))


def make(clock: SteppedClock) -> Meter:
    return Meter(cast(Clock, clock))


def test_everything_is_told(clock: SteppedClock, run: FakeRun) -> None:
    stats = read(make(clock), run)
    assert (stats.memory_private_bytes, stats.memory_shared_bytes, stats.process_private_bytes) == (1, 2, 3)
    assert (stats.cpu_percent, stats.memory_bytes) == (50.0, 128 * MIB)
    assert (stats.disk_read_bytes, stats.disk_written_bytes) == (11, 22)
    assert (stats.network_received_bytes, stats.network_sent_bytes) == (3, 4)
    assert (stats.guest_memory_total_bytes, stats.guest_memory_available_bytes) == (1000 * 1024, 400 * 1024)
    assert (stats.guest_processes, stats.guest_disk_total_bytes, stats.guest_network_sent_bytes) == (12, 10 * 1024, 8)
    assert run.asked_for_s == [GUEST_TIMEOUT_S]


def test_who_was_looked_at_lately_is_looked_at_once(clock: SteppedClock, run: FakeRun) -> None:
    meter = make(clock)
    read(meter, run)
    assert clock.slept == [SPAN_MIN_S]
    clock.at += 10
    assert read(meter, run).cpu_percent == 50.0
    assert clock.slept == [SPAN_MIN_S]
    clock.at += 2 * SPAN_MAX_S
    read(meter, run)
    assert clock.slept == [SPAN_MIN_S, SPAN_MIN_S]


@pytest.mark.parametrize("why", ["silent", "absent", "paused"])
def test_a_guest_that_does_not_answer_leaves_the_hosts_account(clock: SteppedClock, run: FakeRun, why: str) -> None:
    if why == "silent":
        run.guest = GuestUnreachable("nothing came")
    run.agent.connected = why != "absent"
    run.paused = why == "paused"
    stats = read(make(clock), run)
    assert (stats.guest_memory_total_bytes, stats.guest_load1, stats.guest_processes) == (None, None, None)
    assert stats.disk_read_bytes == 11


def test_an_old_agent_tells_what_it_knows(clock: SteppedClock, run: FakeRun) -> None:
    run.guest = GuestStats(memory_total_kb=1000, memory_available_kb=400, load1=0.5, cpu_ms=70, uptime_ms=9000)
    stats = read(make(clock), run)
    assert stats.guest_memory_total_bytes == 1000 * 1024
    assert (stats.guest_disk_total_bytes, stats.guest_network_sent_bytes) == (None, None)


def test_counters_that_cannot_be_read_are_none(clock: SteppedClock, run: FakeRun) -> None:
    run.counters = Unavailable("the monitor is busy")
    stats = read(make(clock), run)
    assert (stats.disk_read_bytes, stats.network_sent_bytes, stats.memory_bytes) == (None, None, 256 * MIB)
    assert stats.guest_processes == 12


def test_a_process_that_is_gone_is_told(clock: SteppedClock, run: FakeRun) -> None:
    run.is_gone = True
    with pytest.raises(Unavailable):
        read(make(clock), run)
