"""What a VM's control group holds it to."""

from __future__ import annotations

from typing import Annotated

import msgspec

from volant.core.part import Part


class Limits(Part, frozen=True, kw_only=True):
    """What the VM's control group holds it to; 0 is no limit. ``cpu_percent``: 100 is one core. ``io_*``: of its own disks,
    together. ``pids``: processes and threads of the VM process."""

    cpu_percent: Annotated[int, msgspec.Meta(ge=0, le=100 * 1024)] = 0
    cpu_weight: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 0
    memory_overhead_mb: Annotated[int, msgspec.Meta(ge=0, le=65_536)] = 0
    """MiB over the guest's own memory; 0 is what Volant finds enough."""
    io_read_bytes_per_s: Annotated[int, msgspec.Meta(ge=0)] = 0
    io_write_bytes_per_s: Annotated[int, msgspec.Meta(ge=0)] = 0
    io_read_ops_per_s: Annotated[int, msgspec.Meta(ge=0)] = 0
    io_write_ops_per_s: Annotated[int, msgspec.Meta(ge=0)] = 0
    pids: Annotated[int, msgspec.Meta(ge=0, le=65_536)] = 0
