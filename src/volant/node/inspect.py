"""All that a host has of one VM, for people who look into it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from volant.core.clock import format_time
from volant.core.errors import VolantError
from volant.core.ids import Uid
from volant.node.door import Inspection, UnitFile
from volant.node.run import Run
from volant.node.unit import Places

MACHINE = "machine.json"
_FILES_MAX = 1_000
_BLOCK_BYTES = 512


async def inspect_unit(places: Places, uid: Uid, run: Run | None) -> Inspection:
    """``run`` is what runs of it; what goes meanwhile is left out."""
    unit = places.unit(uid)
    found = Inspection(
        state_directory=str(unit.state),
        socket_directory=str(unit.sockets),
        files=await asyncio.to_thread(_list_files, (unit.state, unit.sockets)),
        machine=await asyncio.to_thread(_read_machine, unit.state / MACHINE),
    )
    if run is None:
        return found
    try:
        security = await run.instance.inspect()
        state = await run.instance.query_state()
    except VolantError:
        return msgspec.structs.replace(found, run_state="unknown")
    return msgspec.structs.replace(
        found,
        run_state=state,
        started_at=format_time(datetime.fromtimestamp(run.instance.started_at, UTC)),
        command=await asyncio.to_thread(_read_command, run.instance.pid),
        security=security,
    )


def _list_files(directories: tuple[Path, ...]) -> tuple[UnitFile, ...]:
    found: list[UnitFile] = []
    for directory in directories:
        for path in sorted(directory.rglob("*")) if directory.is_dir() else ():
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue
            if not path.is_dir() and len(found) < _FILES_MAX:
                found.append(UnitFile(path=str(path), size_bytes=status.st_size, allocated_bytes=status.st_blocks * _BLOCK_BYTES))
    return tuple(found)


def _read_machine(path: Path) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _read_command(pid: int) -> tuple[str, ...]:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return ()
    return tuple(words.rstrip("\0").split("\0")) if words else ()
