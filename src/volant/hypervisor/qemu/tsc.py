"""The rate of the host's time stamp counter, which an emulated guest sees as its own. Measured once per boot of the host."""

from __future__ import annotations

from pathlib import Path

import msgspec

from volant.core.errors import CommandFailed, Unavailable
from volant.hypervisor.process import read_boot_id
from volant.hypervisor.record import read_record, write_record
from volant.native import find_native
from volant.run import run

MEASURE_TIMEOUT_S = 5.0
PLAUSIBLE_KHZ = range(100_000, 20_000_000)


class TscRate(msgspec.Struct, frozen=True):
    boot_id: str
    khz: int


async def measure_tsc(cache_dir: Path) -> int | None:
    """kHz; None where it cannot be measured, and a guest has to find out for itself.

    /proc/cpuinfo does not have it: that shows the clock of the moment.
    """
    path = cache_dir / "tsc.json"
    boot_id = read_boot_id()
    known = read_record(path, TscRate)
    if known is not None and known.boot_id == boot_id:
        return known.khz
    try:
        answer = await run([find_native("tsc")], timeout_s=MEASURE_TIMEOUT_S)
        khz = int(answer.text)
    except (Unavailable, CommandFailed, ValueError):
        return None
    if khz not in PLAUSIBLE_KHZ:
        return None
    write_record(path, TscRate(boot_id, khz))
    return khz
