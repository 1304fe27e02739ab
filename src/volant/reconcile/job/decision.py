"""What to do next about one job: a pure function of what was asked, what was counted and the VMs that there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import msgspec

from volant.core.clock import format_time, parse_time
from volant.core.condition import Condition, set_condition
from volant.core.indexes import format_indexes, read_indexes
from volant.core.job import COMPLETE, FAILED, Job, JobStatus, RunRecord, has_finished, run_name
from volant.reconcile.job.run import Run

KEPT_RUNS = 20
"""So many that ended keep their VM for its log, and their record: each holds an address and its disk."""

DEADLINE_EXCEEDED, TOO_MANY_FAILURES = "DeadlineExceeded", "TooManyFailures"
MAX_WAIT_S = 3600.0


class Retries(msgspec.Struct, frozen=True):
    """Seconds before what failed is tried again: ``first_s`` after one failure, twice that after each further one in a row."""

    first_s: float = 10.0
    cap_s: float = 360.0

    def delay(self, row: int) -> float:
        return min(self.cap_s, self.first_s * 2.0 ** min(max(row - 1, 0), 32))


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """``counted``: runs that ended since the status was written. ``start``: ``(index, attempt)``. ``stop`` and ``delete`` name
    VMs. ``wait_s``: when something is due by itself. ``expired``: the job itself is to go."""

    status: JobStatus
    counted: tuple[RunRecord, ...] = ()
    start: tuple[tuple[int, int], ...] = ()
    stop: tuple[str, ...] = ()
    delete: tuple[str, ...] = ()
    expired: bool = False
    wait_s: float | None = None


def decide(job: Job, runs: Iterable[Run], now: datetime, retries: Retries) -> Plan:
    """Every part of the plan may be carried out twice. Nothing is started before the status was written that counts its cause."""
    found = {(run.index, run.attempt): run for run in sorted(runs, key=lambda run: (run.index, run.attempt))}
    if has_finished(job):
        return _look_after(job, found, now)
    status, counted = _count(job, found, now, retries)
    if status.started_at is not None and parse_time(status.started_at) > now:
        # The clock was put back: how long ago it began nobody knows, and its deadline must not be as far away as that.
        status = msgspec.structs.replace(status, started_at=format_time(now))
    completed = read_indexes(status.completed_indexes)
    active = [run for run in found.values() if _is_current(status, completed, run)]
    verdict, message = _judge(job, status, now)
    # What was counted runs no more, whoever started it again, and so does everything once the job has failed.
    stop = [run for run in found.values() if run not in active]
    if verdict in (DEADLINE_EXCEEDED, TOO_MANY_FAILURES):
        stop = list(found.values())
    stopping = tuple(run.vm for run in stop if not run.at_rest and not run.deleting)
    start: tuple[tuple[int, int], ...] = ()
    if not verdict and not job.spec.suspended and not _seconds_until(status.retry_at, now, retries.cap_s):
        start = _choose_starts(job, status, completed, {run.index for run in active})
        if start and status.started_at is None:
            status = msgspec.structs.replace(status, started_at=format_time(now))
    status = _project(job, status, active, verdict, message, now)
    return Plan(
        status=status,
        counted=counted,
        start=start if status == job.status else (),
        stop=stopping,
        delete=_find_outdated(status, completed, found.values()),
        wait_s=_find_wait(job, status, now, retries),
    )


def _count(
    job: Job, found: Mapping[tuple[int, int], Run], now: datetime, retries: Retries
) -> tuple[JobStatus, tuple[RunRecord, ...]]:
    """The status with every run in it that has ended, each once: an attempt is counted when its index is done, or has failed
    more often than the attempt's number."""
    status, at = job.status, format_time(now)
    completed, attempts = read_indexes(status.completed_indexes), dict(status.attempts)
    ended: list[RunRecord] = []
    row, retry_at = status.row, status.retry_at
    seen = {run.index for run in found.values() if _is_current(status, completed, run)}
    lost = [
        Run(
            vm=run_name(job.name, index, attempts.get(str(index), 0)),
            index=index,
            attempt=attempts.get(str(index), 0),
            state="failed",
            message="its VM is gone",
        )
        for index in sorted(read_indexes(status.active_indexes) - completed - seen)
    ]
    for run in (*(run for run in found.values() if _is_current(status, completed, run)), *lost):
        if run.state == "active":
            continue
        succeeded = run.state == "succeeded"
        if succeeded:
            completed.add(run.index)
            attempts.pop(str(run.index), None)
            row, retry_at = 0, None
        else:
            attempts[str(run.index)] = run.attempt + 1
            row += 1
            retry_at = format_time(now + timedelta(seconds=retries.delay(row)))
        ended.append(
            RunRecord(
                vm=run.vm,
                index=run.index,
                succeeded=succeeded,
                exit_code=run.exit_code,
                message=run.message,
                started_at=run.started_at or None,
                ended_at=at,
            )
        )
    if not ended:
        return status, ()
    failed = sum(not record.succeeded for record in ended)
    counted = msgspec.structs.replace(
        status,
        succeeded=len(completed),
        failed=status.failed + failed,
        completed_indexes=format_indexes(completed),
        attempts=attempts,
        runs=(*status.runs, *ended)[-KEPT_RUNS:],
        row=row,
        retry_at=retry_at,
    )
    return counted, tuple(ended)


def _is_current(status: JobStatus, completed: set[int], run: Run) -> bool:
    """True for the latest attempt at what is not done: its end has not been counted."""
    return run.index not in completed and run.attempt == status.attempts.get(str(run.index), 0)


def _judge(job: Job, status: JobStatus, now: datetime) -> tuple[str, str]:
    """``(reason, message)`` of how it has ended or is to end; empty while it goes on."""
    spec = job.spec
    if status.succeeded >= spec.completions:
        return COMPLETE, f"{status.succeeded} of {spec.completions} done"
    if status.failed > spec.retries:
        last = next((record for record in reversed(status.runs) if not record.succeeded), None)
        said = f"; the last: {last.message}" if last is not None and last.message else ""
        runs = "1 run" if status.failed == 1 else f"{status.failed} runs"
        return TOO_MANY_FAILURES, f"{runs} failed, and {spec.retries} may{said}"
    if spec.deadline_s is not None and status.started_at is not None:
        due = parse_time(status.started_at) + timedelta(seconds=spec.deadline_s)
        if now >= due:
            return DEADLINE_EXCEEDED, f"it was not done {spec.deadline_s} s after its first start"
    return "", ""


def _choose_starts(job: Job, status: JobStatus, completed: set[int], busy: set[int]) -> tuple[tuple[int, int], ...]:
    chosen: list[tuple[int, int]] = []
    for index in range(job.spec.completions):
        if len(busy) + len(chosen) >= job.spec.parallelism:
            break
        if index not in completed and index not in busy:
            chosen.append((index, status.attempts.get(str(index), 0)))
    return tuple(chosen)


def _project(job: Job, status: JobStatus, active: list[Run], verdict: str, message: str, now: datetime) -> JobStatus:
    at = format_time(now)
    status = msgspec.structs.replace(
        status,
        active=len(active),
        active_indexes=format_indexes(run.index for run in active),
        observed_generation=job.meta.generation,
        reason="",
        message="",
    )
    if verdict and not active:
        is_done = verdict == COMPLETE
        reason = "" if is_done else verdict
        condition = Condition(type=COMPLETE if is_done else FAILED, status="True", reason=verdict, message=message)
        return msgspec.structs.replace(
            status,
            phase="Succeeded" if is_done else "Failed",
            reason=reason,
            message=message,
            ended_at=at,
            retry_at=None,
            conditions=set_condition(status.conditions, condition, at),
        )
    if verdict:
        return msgspec.structs.replace(status, phase="Running", reason="Ending", message=f"{message}; what runs is stopped")
    if job.spec.suspended:
        going = f"nothing new is started; {len(active)} still run" if active else "nothing is started"
        return msgspec.structs.replace(status, phase="Running" if active else "Suspended", reason="Suspended", message=going)
    if status.retry_at is not None and not active:
        last = next((record for record in reversed(status.runs) if not record.succeeded), None)
        said = last.message if last is not None else ""
        return msgspec.structs.replace(status, phase="Running", reason="Retrying", message=said)
    return msgspec.structs.replace(status, phase="Pending" if status.started_at is None else "Running")


def _find_outdated(status: JobStatus, completed: set[int], runs: Iterable[Run]) -> tuple[str, ...]:
    """VMs of runs that were counted and whose record is kept no more."""
    kept = {record.vm for record in status.runs}
    return tuple(run.vm for run in runs if not run.deleting and not _is_current(status, completed, run) and run.vm not in kept)


def _look_after(job: Job, found: Mapping[tuple[int, int], Run], now: datetime) -> Plan:
    """A job that has ended: nothing of it runs, and it goes when its time is over."""
    kept = {record.vm for record in job.status.runs}
    left_s: float | None = None
    if job.spec.keep_s is not None and job.status.ended_at is not None:
        left_s = (parse_time(job.status.ended_at) + timedelta(seconds=job.spec.keep_s) - now).total_seconds()
    status = msgspec.structs.replace(job.status, observed_generation=job.meta.generation)
    return Plan(
        status=status,
        stop=tuple(run.vm for run in found.values() if not run.at_rest and not run.deleting),
        delete=tuple(run.vm for run in found.values() if not run.deleting and run.vm not in kept),
        expired=left_s is not None and left_s <= 0,
        wait_s=None if left_s is None else min(max(left_s, 0.0), MAX_WAIT_S),
    )


def _find_wait(job: Job, status: JobStatus, now: datetime, retries: Retries) -> float | None:
    waits = []
    if left_s := _seconds_until(status.retry_at, now, retries.cap_s):
        waits.append(left_s)
    if job.spec.deadline_s is not None and status.started_at is not None:
        due = parse_time(status.started_at) + timedelta(seconds=job.spec.deadline_s)
        waits.append(min(max((due - now).total_seconds(), 0.0), MAX_WAIT_S))
    return min(waits, default=None)


def _seconds_until(moment: str | None, now: datetime, cap_s: float) -> float:
    """0 when it is past, or further away than it was ever set: then the clock went back."""
    if moment is None:
        return 0.0
    left_s = (parse_time(moment) - now).total_seconds()
    return left_s if 0 < left_s <= cap_s else 0.0
