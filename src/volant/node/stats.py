"""What a running VM uses: by the host's account, and by the guest's own where it answers."""

from __future__ import annotations

from volant.core.errors import VolantError
from volant.node.door import VMStats
from volant.node.run import Run

GUEST_TIMEOUT_S = 2.0
_KIB = 1024


async def read_stats(run: Run) -> VMStats:
    """Raises Unavailable when the VM process is gone."""
    use = await run.instance.measure_memory()
    guest = None
    if run.agent.connected:
        try:
            guest = await run.link.stats(timeout_s=GUEST_TIMEOUT_S)
        except VolantError:
            guest = None  # the host's account is whole without it
    return VMStats(
        memory_private_bytes=use.guest_private_bytes,
        memory_shared_bytes=use.guest_shared_bytes,
        process_private_bytes=use.private_bytes,
        process_shared_bytes=use.shared_bytes,
        cpu_s=use.cpu_s,
        guest_memory_total_bytes=None if guest is None else guest.memory_total_kb * _KIB,
        guest_memory_available_bytes=None if guest is None else guest.memory_available_kb * _KIB,
        guest_load1=None if guest is None else guest.load1,
        guest_cpu_ms=None if guest is None else guest.cpu_ms,
        guest_uptime_ms=None if guest is None else guest.uptime_ms,
    )
