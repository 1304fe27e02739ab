"""The job: VMs that run to their end, so many times, with retries and deadlines."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from volant.core.condition import Conditions
from volant.core.resource import Resource, Spec, Status
from volant.core.vm import VMSpec

JOB_LABEL = "volant.job"
"""Of a VM: the name of the job that made it."""

FINALIZER = "volant/runs"
"""Held while it has VMs."""

COMPLETE, FAILED = "Complete", "Failed"
"""Conditions; one of them becomes True, once."""

MUTABLE = frozenset({"parallelism", "retries", "deadline_s", "keep_s", "suspended"})
"""Fields that may change. Runs that were made already are not made again."""


class JobSpec(Spec, frozen=True, kw_only=True):
    """A run is a VM whose workload ends; with status 0 it counts. Runs are never started again: a failed one is followed by
    another VM."""

    vm: VMSpec
    vm_labels: dict[str, str] = {}
    completions: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1
    parallelism: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    retries: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 3
    """So many runs may fail in all; one more ends the job."""
    deadline_s: Annotated[int, msgspec.Meta(ge=1, le=30 * 86400)] | None = None
    """Seconds from the first start until the job has failed."""
    keep_s: Annotated[int, msgspec.Meta(ge=0, le=365 * 86400)] | None = None
    """Seconds after its end after which it goes, with its VMs and their logs; None keeps it."""
    suspended: bool = False
    """Nothing new is started."""


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One run that ended."""

    vm: str
    index: int
    """Which of the completions it was for, from 0."""
    succeeded: bool
    exit_code: int | None = None
    message: str = ""
    started_at: str | None = None
    ended_at: str = ""


class JobStatus(Status, frozen=True, kw_only=True):
    phase: Literal["Pending", "Running", "Suspended", "Succeeded", "Failed"] = "Pending"
    reason: str = ""
    message: str = ""
    active: int = 0
    succeeded: int = 0
    failed: int = 0
    started_at: str | None = None
    ended_at: str | None = None
    retry_at: str | None = None
    row: int = 0
    """Failed runs since one succeeded, for the backoff."""
    completed_indexes: str = ""
    """Which of the completions are done, as ``0-4,7``."""
    active_indexes: str = ""
    """Which had a VM that had not ended when this was written."""
    attempts: dict[str, int] = {}
    """Of an index that is not done: so many runs for it failed."""
    runs: tuple[RunRecord, ...] = ()
    """The last ones that ended."""
    conditions: Conditions = ()
    observed_generation: int = 0


class Job(Resource[JobSpec, JobStatus], frozen=True, kw_only=True):
    kind: ClassVar[str] = "Job"
    plural: ClassVar[str] = "jobs"
    spec_type: ClassVar[type[Spec]] = JobSpec
    status_type: ClassVar[type[Status]] = JobStatus


def run_name(job: str, index: int, attempt: int) -> str:
    """``build-0-1``: the VM of the second attempt at the first completion."""
    return f"{job}-{index}-{attempt}"


def read_run_name(job: str, vm: str) -> tuple[int, int] | None:
    """``(index, attempt)`` of a name that ``run_name`` made; None of another."""
    index, _, attempt = vm.removeprefix(f"{job}-").partition("-")
    if not (index.isascii() and index.isdecimal() and attempt.isascii() and attempt.isdecimal()):
        return None
    found = int(index), int(attempt)
    return found if run_name(job, *found) == vm else None


def has_finished(job: Job) -> bool:
    """True when it has ended, well or not; nothing of it runs then."""
    return job.status.ended_at is not None


CRON_FINALIZER = "volant/jobs"
"""Held while it has jobs."""

CRON_LABEL = "volant.cron"
"""Of a job: the name of the schedule that made it."""


class CronJobSpec(Spec, frozen=True, kw_only=True):
    """A job for every moment of ``schedule``, which is written as in crontab(5), in ``timezone`` (an IANA name)."""

    schedule: str
    timezone: str = "UTC"
    job: JobSpec
    concurrency: Literal["forbid", "allow", "replace"] = "forbid"
    """When the one before still runs: leave this one out, let both run, or end the one before."""
    start_deadline_s: Annotated[int, msgspec.Meta(ge=1, le=86400)] | None = None
    """A moment that was missed by more is left out."""
    suspended: bool = False
    keep_succeeded: Annotated[int, msgspec.Meta(ge=0, le=100)] = 3
    keep_failed: Annotated[int, msgspec.Meta(ge=0, le=100)] = 1


class CronJobStatus(Status, frozen=True, kw_only=True):
    considered_at: str | None = None
    """Every moment up to this one was started, or left out; it never goes back."""
    observed_schedule: str = ""
    """The schedule, and its timezone, that ``considered_at`` is about."""
    last_scheduled_at: str | None = None
    last_succeeded_at: str | None = None
    next_at: str | None = None
    active: tuple[str, ...] = ()
    """Names of jobs that run."""
    message: str = ""
    conditions: Conditions = ()
    observed_generation: int = 0


class CronJob(Resource[CronJobSpec, CronJobStatus], frozen=True, kw_only=True):
    kind: ClassVar[str] = "CronJob"
    plural: ClassVar[str] = "cronjobs"
    spec_type: ClassVar[type[Spec]] = CronJobSpec
    status_type: ClassVar[type[Status]] = CronJobStatus
