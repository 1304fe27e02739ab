"""What to do next about one schedule: a pure function of what was asked, what was considered and the jobs that there are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from volant.core.clock import format_time, parse_time
from volant.core.cron import last_moment, next_moment, parse_schedule, read_timezone
from volant.core.job import CronJob, CronJobStatus, Job, has_finished

MAX_WAIT_S = 60.0
"""The clock may be put forward at any time, and nobody tells."""

BACK_S = 60.0
"""A clock that went back by more is told of."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """``start``: the moment for which a job is to be made. ``replaced`` and ``outdated`` name jobs that are to go. ``left_out``:
    why a moment that came gets no job."""

    status: CronJobStatus
    start: datetime | None = None
    replaced: tuple[str, ...] = ()
    outdated: tuple[str, ...] = ()
    left_out: str = ""
    wait_s: float = MAX_WAIT_S


def name_job(cron: str, moment: datetime) -> str:
    """``backup-202601310430``: two of one minute would have one name."""
    return f"{cron}-{moment:%Y%m%d%H%M}"


def decide(cron: CronJob, jobs: Sequence[Job], now: datetime) -> Plan:
    """Only the last moment that came since the one considered before counts: one that volantd missed by days does not bring a job
    for each of its days. ``considered_at`` never goes back, so that a clock that does starts nothing twice."""
    schedule, zone = parse_schedule(cron.spec.schedule), read_timezone(cron.spec.timezone)
    words = f"{cron.spec.schedule} {cron.spec.timezone}"
    before = cron.status
    at = format_time(now)
    active = [job for job in jobs if not job.deleting and not has_finished(job)]
    done_at = [job.status.ended_at for job in jobs if job.status.phase == "Succeeded" and job.status.ended_at]
    status = msgspec.structs.replace(
        before,
        active=tuple(job.name for job in active),
        last_succeeded_at=max([*done_at, *([before.last_succeeded_at] if before.last_succeeded_at else [])], default=None),
        observed_schedule=words,
        observed_generation=cron.meta.generation,
        message="",
    )
    outdated = _find_outdated(cron, jobs)
    if cron.spec.suspended:
        # What comes meanwhile is left out: whoever resumes it does not ask for the past.
        status = msgspec.structs.replace(status, next_at=None, message="it is suspended", observed_schedule="")
        return Plan(status=status, outdated=outdated)
    considered_at = before.considered_at
    if considered_at is None:
        considered_at = cron.meta.created_at if not before.observed_generation else at
    elif before.observed_schedule != words:
        considered_at = max(considered_at, at) if before.observed_schedule else at
    considered = parse_time(considered_at)
    moment = last_moment(schedule, zone, considered, now)
    following = next_moment(schedule, zone, max(considered, moment or now, now))
    status = msgspec.structs.replace(
        status, considered_at=considered_at, next_at=None if following is None else format_time(following)
    )
    if (considered - now).total_seconds() > BACK_S:
        words = f"the clock went back: nothing is started until it is past {considered_at}; suspend and resume begins anew"
        status = msgspec.structs.replace(status, message=words)
    wait_s = MAX_WAIT_S if following is None else min(max((following - now).total_seconds(), 0.0), MAX_WAIT_S)
    if moment is None:
        return Plan(status=status, outdated=outdated, wait_s=wait_s)
    status = msgspec.structs.replace(status, considered_at=format_time(moment))
    late_s = (now - moment).total_seconds()
    deadline_s = cron.spec.start_deadline_s
    if deadline_s is not None and late_s > deadline_s:
        why = f"{format_time(moment)} was missed by {late_s:.0f} s, and {deadline_s} s may be"
        return Plan(status=status, outdated=outdated, left_out=why, wait_s=wait_s)
    if active and cron.spec.concurrency == "forbid":
        why = f"{format_time(moment)} is left out: {active[0].name} still runs"
        return Plan(status=status, outdated=outdated, left_out=why, wait_s=wait_s)
    replaced = tuple(job.name for job in active) if cron.spec.concurrency == "replace" else ()
    kept = () if replaced else tuple(job.name for job in active)
    status = msgspec.structs.replace(status, last_scheduled_at=format_time(moment), active=(*kept, name_job(cron.name, moment)))
    return Plan(status=status, start=moment, replaced=replaced, outdated=outdated, wait_s=wait_s)


def is_missed(moment: datetime, now: datetime) -> bool:
    """True when it came while nobody looked."""
    return now - moment > timedelta(seconds=MAX_WAIT_S)


def _find_outdated(cron: CronJob, jobs: Sequence[Job]) -> tuple[str, ...]:
    """Names of jobs that ended and are more than are kept, of those that ended well and of the others."""
    names: list[str] = []
    for phase, count in (("Succeeded", cron.spec.keep_succeeded), ("Failed", cron.spec.keep_failed)):
        ended = [job for job in jobs if not job.deleting and has_finished(job) and job.status.phase == phase]
        ended.sort(key=lambda job: (job.status.ended_at or "", job.name))
        names += [job.name for job in ended[: max(0, len(ended) - count)]]
    return tuple(names)
