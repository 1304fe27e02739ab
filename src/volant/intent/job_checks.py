"""What cannot be right about a job or a schedule, whatever else there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from volant.core.cron import parse_schedule, read_timezone
from volant.core.errors import InvalidInput
from volant.core.ids import NAME_MAX, check_name
from volant.core.job import CronJobSpec, JobSpec, run_name
from volant.core.vm import VMSpec
from volant.intent.vm_checks import check_command, check_env, check_labels

STAMP_CHARS = len("-20260131123000")
"""What a job that a schedule makes has more in its name."""


def check_job_name(name: str, spec: JobSpec, *, stamp_chars: int = 0) -> None:
    """Raises InvalidInput for one that a run of the job could not have in its name."""
    check_name(name)
    longest = NAME_MAX - len(run_name("", spec.completions - 1, spec.retries)) - stamp_chars
    if len(name) > longest:
        raise InvalidInput(
            f"{name!r} is longer than {longest} characters",
            field="name",
            hint="the names of its VMs are this and two numbers, and have to be host names",
        )


def check_job(spec: JobSpec, field: str = "") -> None:
    """What can be told from the description alone. Raises InvalidInput; its field is the path below ``field``."""
    _check_below(f"{field}vm_labels", lambda: check_labels(spec.vm_labels))
    for misplaced, hint in _find_misplaced(spec.vm):
        raise InvalidInput(f"{misplaced} is nothing that a run of a job can have", field=f"{field}vm.{misplaced}", hint=hint)
    _check_below(f"{field}vm.env", lambda: check_env(spec.vm.env))
    _check_below(f"{field}vm.command", lambda: check_command(spec.vm.command))


def check_cron_job(name: str, spec: CronJobSpec) -> None:
    """Raises InvalidInput."""
    parse_schedule(spec.schedule)
    read_timezone(spec.timezone)
    check_job_name(name, spec.job, stamp_chars=STAMP_CHARS)
    check_job(spec.job, "job.")
    if spec.job.suspended:
        raise InvalidInput(
            "a job that begins suspended would never run", field="job.suspended", hint="suspend the schedule instead"
        )


def as_run(vm: VMSpec) -> VMSpec:
    """What every run of a job has: it is started once, and neither sleeps nor listens for the host."""
    return msgspec.structs.replace(vm, restart_policy="never", auto_suspend_s=0, ports=())


def _find_misplaced(vm: VMSpec) -> Iterator[tuple[str, str]]:
    if vm.power != "running":
        yield "power", "suspend the job instead"
    if vm.restart_policy not in (None, "never"):
        yield "restart_policy", "a run is never started again: use the job's retries"
    if vm.auto_suspend_s:
        yield "auto_suspend_s", "leave it out"
    if vm.ports:
        yield "ports", "runs of one job cannot have the same port of the host"
    for field in ("snapshot", "snapshot_token", "restart_token", "force_stop"):
        if getattr(vm, field):
            yield field, "leave it out"


def _check_below(field: str, check: Callable[[], None]) -> None:
    try:
        check()
    except InvalidInput as error:
        raise InvalidInput(error.message, field=field, hint=error.hint) from error
