"""What a VM process uses of its host, by the kernel's own account (proc(5), /proc/PID/smaps and stat)."""

from __future__ import annotations

import os
from pathlib import Path

from volant.core.errors import Unavailable
from volant.hypervisor.driver import MemoryUse
from volant.hypervisor.qemu.memory import OWN, base_name

_BASE = f"/memfd:{base_name('')}"
_KIB = 1024


def measure_memory(pid: int, own: str = OWN) -> MemoryUse:
    """``own`` is what the process calls a memory that is the guest's alone. Raises Unavailable when the process is gone.

    A clone's own pages are anonymous; the rest of its memory is its base's, whoever else maps that at the moment.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps").read_text().splitlines()
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise Unavailable("the VM process is gone") from error
    totals = {"private": 0, "shared": 0}
    guest = {"Rss": 0, "Anonymous": 0}
    is_guest = is_clone = False
    for line in lines:
        name, _, rest = line.partition(":")
        if " " in name:
            is_guest, is_clone = f"/memfd:{own} " in line, _BASE in line
            continue
        if name in ("Private_Clean", "Private_Dirty", "Shared_Clean", "Shared_Dirty"):
            totals[name.partition("_")[0].lower()] += int(rest.split()[0]) * _KIB
        elif (is_guest and name == "Rss") or (is_clone and name in guest):
            guest[name] += int(rest.split()[0]) * _KIB
            # What a guest has all to itself is as private as a clone's own pages.
            guest["Anonymous"] += int(rest.split()[0]) * _KIB if is_guest else 0
    fields = stat.rpartition(")")[2].split()
    return MemoryUse(
        guest_private_bytes=guest["Anonymous"],
        guest_shared_bytes=guest["Rss"] - guest["Anonymous"],
        private_bytes=totals["private"],
        shared_bytes=totals["shared"],
        cpu_s=(int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"),
    )
