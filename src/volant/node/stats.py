"""What a running VM uses: by the host's account, and by the guest's own where it answers."""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

import msgspec

from volant.core.clock import Clock
from volant.core.errors import VolantError
from volant.guest.protocol import GuestStats
from volant.hypervisor.driver import Counters, MemoryUse
from volant.node.door import VMStats
from volant.node.run import Run

GUEST_TIMEOUT_S = 1.0
"""A guest that says nothing costs this, and only who asks for it."""

COUNTERS_TIMEOUT_S = 1.0
SPAN_MIN_S = 0.2
"""Processor time is told over at least this, so that it is more than noise."""

SPAN_MAX_S = 60.0
_KIB = 1024


class Meter:
    """Remembers when each run was last looked at, to tell how busy it was since."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: WeakKeyDictionary[Run, tuple[float, float]] = WeakKeyDictionary()

    async def read(self, run: Run) -> VMStats:
        """Who was not looked at within the last minute is looked at twice, SPAN_MIN_S apart.

        Raises:
            Unavailable: the VM process is gone.
        """
        before = self._seen.get(run)
        now = self._clock.monotonic()
        if before is None or now - before[0] > SPAN_MAX_S:
            first = await run.instance.measure_memory()
            before = (self._clock.monotonic(), first.cpu_s)
            now = before[0]
        async with asyncio.TaskGroup() as group:
            guest = group.create_task(_ask_guest(run))
            counters = group.create_task(_ask_counters(run))
            wait_s = SPAN_MIN_S - (now - before[0])
            if wait_s > 0:
                await self._clock.sleep(wait_s)
        use = await run.instance.measure_memory()
        at = self._clock.monotonic()
        span_s = at - before[0]
        self._seen[run] = (at, use.cpu_s)
        percent = max(0.0, use.cpu_s - before[1]) / span_s * 100 if span_s > 0 else 0.0
        return _describe(run, use, percent, guest.result(), counters.result())


async def _ask_guest(run: Run) -> GuestStats | None:
    """None when it does not answer: the host's account is whole without it."""
    if not run.agent.connected or run.paused:
        return None
    try:
        return await run.link.stats(timeout_s=GUEST_TIMEOUT_S)
    except VolantError:
        return None


async def _ask_counters(run: Run) -> Counters | None:
    try:
        async with asyncio.timeout(COUNTERS_TIMEOUT_S):
            return await run.instance.read_counters()
    except (VolantError, TimeoutError):
        return None


def _describe(run: Run, use: MemoryUse, percent: float, guest: GuestStats | None, counters: Counters | None) -> VMStats:
    stats = VMStats(
        memory_private_bytes=use.guest_private_bytes,
        memory_shared_bytes=use.guest_shared_bytes,
        process_private_bytes=use.private_bytes,
        process_shared_bytes=use.shared_bytes,
        cpu_s=use.cpu_s,
        cpu_percent=round(percent, 1),
        memory_bytes=run.instance.machine.memory_mib * _KIB * _KIB,
    )
    if counters is not None:
        disks, networks = counters.disks.values(), counters.networks.values()
        stats = msgspec.structs.replace(
            stats,
            memory_bytes=counters.memory_mib * _KIB * _KIB,
            disk_read_bytes=sum(disk.read_bytes for disk in disks),
            disk_written_bytes=sum(disk.written_bytes for disk in disks),
            network_received_bytes=sum(network.received_bytes for network in networks),
            network_sent_bytes=sum(network.sent_bytes for network in networks),
        )
    if guest is None:
        return stats
    return msgspec.structs.replace(
        stats,
        guest_memory_total_bytes=guest.memory_total_kb * _KIB,
        guest_memory_available_bytes=guest.memory_available_kb * _KIB,
        guest_load1=guest.load1,
        guest_cpu_ms=guest.cpu_ms,
        guest_uptime_ms=guest.uptime_ms,
        guest_processes=guest.processes,
        guest_disk_total_bytes=None if guest.disk_total_kb is None else guest.disk_total_kb * _KIB,
        guest_disk_available_bytes=None if guest.disk_available_kb is None else guest.disk_available_kb * _KIB,
        guest_disk_read_bytes=guest.disk_read_bytes,
        guest_disk_written_bytes=guest.disk_write_bytes,
        guest_network_received_bytes=guest.net_rx_bytes,
        guest_network_sent_bytes=guest.net_tx_bytes,
    )
