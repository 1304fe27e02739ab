"""How a run ended, from what is left of it: what was written down, the holder's record, the end of a log."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import msgspec

from volant.core.ids import RunId
from volant.hypervisor.driver import Ending
from volant.hypervisor.process import ExitRecord
from volant.hypervisor.record import read_record, write_record

MACHINE = "machine.json"
PROCESS = "process.json"
EXIT = "exit.json"
ENDING = "ending.json"
CONSOLE_LOG = "console.log"
QEMU_LOG = "qemu.log"

_TAIL_BYTES = 4096


class _EndingRecord(msgspec.Struct, frozen=True):
    run_id: RunId
    ending: Ending


def write_ending(state: Path, run_id: RunId, ending: Ending) -> None:
    """Keep what is known now: after the process is gone a later volantd could not tell a power-off from our SIGKILL."""
    write_record(state / ENDING, _EndingRecord(run_id, ending))


def read_ending(state: Path, run_id: RunId) -> Ending | None:
    record = read_record(state / ENDING, _EndingRecord)
    return record.ending if record is not None and record.run_id == run_id else None


def explain_death(state: Path, holder_pid: int) -> Ending:
    """A VM process that is gone and whose holder is, too."""
    record = read_record(state / EXIT, ExitRecord)
    if record is None:
        return Ending(
            kind="crashed", message=f"its holder (pid {holder_pid}) was killed, and the VM process with it", signal=signal.SIGKILL
        )
    return explain_exit(state, record)


def explain_exit(state: Path, record: ExitRecord) -> Ending:
    if record.error:
        return Ending(kind="crashed", message=f"the VM process could not be started: {record.error}")
    if record.signal is not None:
        return Ending(kind="crashed", message=f"the VM process was ended by {name_signal(record.signal)}", signal=record.signal)
    said = read_tail(state / QEMU_LOG)
    last = f": {said.splitlines()[-1]}" if said and record.code else ""
    return Ending(
        kind="crashed", message=f"the VM process ended by itself with status {record.code}{last}", exit_status=record.code
    )


def name_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def read_tail(path: Path, after: int = 0) -> str:
    """The end of a log, nothing from before the offset ``after`` unless the file has been rotated since."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return ""
    try:
        size = os.fstat(descriptor).st_size
        begin = max(after if after <= size else 0, size - _TAIL_BYTES)
        return os.pread(descriptor, size - begin, begin).decode("utf-8", "replace").strip()
    finally:
        os.close(descriptor)
