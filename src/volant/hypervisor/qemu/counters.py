"""What the monitor counts: bytes through disks, and what the balloon leaves the guest."""

from __future__ import annotations

from typing import Any

from volant.core.errors import HostError
from volant.hypervisor.driver import DiskCounters
from volant.hypervisor.machine import Machine
from volant.hypervisor.qemu.command import BALLOON
from volant.hypervisor.qemu.monitor import Monitor

_MIB = 1 << 20
_DRIVER_OK = "VIRTIO_CONFIG_S_DRIVER_OK"


async def read_disk_counters(monitor: Monitor, machine: Machine) -> dict[str, DiskCounters]:
    """By serial. Raises as ``Monitor.execute``."""
    # The ids that command.py gave them.
    serials = {f"block{number}": disk.serial for number, disk in enumerate(machine.disks, start=1)}
    found: dict[str, DiskCounters] = {}
    for entry in await monitor.execute("query-blockstats"):
        path = str(entry.get("qdev") or "").split("/")
        serial = next((serials[part] for part in path if part in serials), None)
        if serial is not None:
            found[serial] = _read_disk(entry["stats"])
    return found


async def read_memory_mib(monitor: Monitor, machine: Machine) -> int:
    """What the balloon leaves the guest. Raises as ``Monitor.execute``."""
    if machine.balloon < 0:
        return machine.memory_mib
    answer = await monitor.execute("query-balloon")
    return int(answer["actual"]) // _MIB


async def has_balloon_driver(monitor: Monitor) -> bool:
    """Whether a driver of the guest's has taken the balloon; without one nobody would hear of a new size."""
    try:
        answer = await monitor.execute("x-query-virtio-status", {"path": f"/machine/peripheral/{BALLOON}/virtio-backend"})
    except HostError:
        # The command is not promised by any version; then nothing is known, and what was asked for shows in the counters.
        return True
    statuses = answer.get("status", {}).get("statuses", [])
    return any(str(status).startswith(_DRIVER_OK) for status in statuses)


def _read_disk(stats: dict[str, Any]) -> DiskCounters:
    return DiskCounters(
        read_bytes=int(stats["rd_bytes"]),
        written_bytes=int(stats["wr_bytes"]),
        reads=int(stats["rd_operations"]),
        writes=int(stats["wr_operations"]),
    )
