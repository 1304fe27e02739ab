"""One run of a job as its VM shows it."""

from __future__ import annotations

from typing import Literal

import msgspec

from volant.core.job import Job, read_run_name
from volant.core.vm import VM
from volant.reconcile.vm_decision import end_recorded, ended_for_good

FRUITLESS_STARTS = 3
"""A VM that could not be started so often in a row will not be."""

State = Literal["active", "succeeded", "failed"]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """``at_rest``: nothing of its VM runs, and nothing will. ``deleting``: its VM is on its way out."""

    vm: str
    index: int
    attempt: int
    state: State = "active"
    exit_code: int | None = None
    message: str = ""
    started_at: str = ""
    at_rest: bool = False
    deleting: bool = False


def read_run(job: Job, vm: VM) -> Run | None:
    """None for a VM that is no run of ``job``, whoever it says that it goes with."""
    place = read_run_name(job.name, vm.name)
    if place is None or vm.meta.owner != job.uid:
        return None
    state, exit_code, message = _judge(vm)
    return Run(
        vm=vm.name,
        index=place[0],
        attempt=place[1],
        state=state,
        exit_code=exit_code,
        message=message,
        started_at=vm.meta.created_at,
        at_rest=_is_at_rest(vm),
        deleting=vm.deleting,
    )


def _judge(vm: VM) -> tuple[State, int | None, str]:
    status, end = vm.status, vm.status.last_end
    if end is not None and end_recorded(vm) and not end.asked:
        if end.clean and end.exit_code == 0:
            return "succeeded", 0, ""
        if end.clean:
            # Somebody switched the guest off from inside, or its agent is of an earlier version and volantd was away.
            return "failed", None, f"{end.message}, and how its workload ended is not known"
        return "failed", end.exit_code, end.message
    if vm.deleting:
        return "failed", None, "its VM was deleted"
    if vm.spec.power == "stopped" and _is_at_rest(vm):
        return "failed", None, "its VM was stopped"
    if status.reason == "Untrusted":
        return "failed", None, status.message
    if status.reason == "StartFailed" and status.failures >= FRUITLESS_STARTS:
        return "failed", None, f"it could not be started: {status.message}"
    return "active", None, ""


def _is_at_rest(vm: VM) -> bool:
    status = vm.status
    if status.pid is not None or status.observed_generation < vm.meta.generation:
        return False
    return ended_for_good(vm) or (vm.spec.power == "stopped" and status.phase == "Stopped")
