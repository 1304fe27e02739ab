"""What a VM process uses of its host. Its guest's memory is the shared memory that Cloud Hypervisor calls ``ch_ram``."""

from __future__ import annotations

from volant.hypervisor.driver import MemoryUse
from volant.hypervisor.qemu import account

MEMORY = "ch_ram"


def measure_memory(pid: int) -> MemoryUse:
    """Raises Unavailable when the process is gone."""
    return account.measure_memory(pid, own=MEMORY)
