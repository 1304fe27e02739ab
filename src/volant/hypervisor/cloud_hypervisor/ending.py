"""How a run under Cloud Hypervisor ended. A guest that powers off ends its process, with status 0; one that resets does not."""

from __future__ import annotations

import signal
from pathlib import Path

from volant.hypervisor.cloud_hypervisor.events import Kind
from volant.hypervisor.driver import Ending
from volant.hypervisor.ending import EXIT, explain_exit
from volant.hypervisor.process import ExitRecord
from volant.hypervisor.record import read_record

POWERED_OFF = Ending(kind="powered_off", message="the guest powered off")
RESET = Ending(kind="reset", message="the guest rebooted or its kernel panicked")


def explain_event(kind: Kind) -> Ending:
    return RESET if kind == "reset" else POWERED_OFF


def explain_death(state: Path, holder_pid: int, heard: Kind | None) -> Ending:
    """A VM process that is gone, and whose holder is, too; ``heard`` is what it said of itself before."""
    record = read_record(state / EXIT, ExitRecord)
    if record is None:
        return Ending(
            kind="crashed", message=f"its holder (pid {holder_pid}) was killed, and the VM process with it", signal=signal.SIGKILL
        )
    return explain_exit_record(state, record, heard)


def explain_exit_record(state: Path, record: ExitRecord, heard: Kind | None = None) -> Ending:
    if record.error or record.signal is not None or record.code != 0:
        return explain_exit(state, record)
    return explain_event(heard or "powered_off")
