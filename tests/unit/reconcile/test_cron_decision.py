"""What a schedule does next, judged on plain records."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volant.core.clock import format_time
from volant.core.ids import Uid
from volant.core.job import CronJob, CronJobSpec, CronJobStatus, Job, JobSpec, JobStatus
from volant.core.resource import Meta
from volant.core.vm import VMSpec
from volant.reconcile.cron.decision import Plan, decide, name_job

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SPEC = JobSpec(vm=VMSpec(plugin="busybox"))
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def make_cron(schedule: str = "0 * * * *", created: datetime = NOON - MINUTE, **spec: object) -> CronJob:
    meta = Meta(name="tick", uid=Uid("0" * 32), created_at=format_time(created))
    return CronJob(meta=meta, spec=CronJobSpec(schedule=schedule, job=SPEC, **spec), status=CronJobStatus())  # type: ignore[arg-type]  # by field


def make_job(moment: datetime, phase: str = "Running", ended: datetime | None = None) -> Job:
    status = JobStatus(phase=phase, ended_at=None if ended is None else format_time(ended))  # type: ignore[arg-type]  # by name
    meta = Meta(name=name_job("tick", moment), uid=Uid(f"{moment:%Y%m%d%H%M}".rjust(32, "0")), owner="0" * 32)
    return Job(meta=meta, spec=SPEC, status=status)


def write(cron: CronJob, plan: Plan) -> CronJob:
    return msgspec.structs.replace(cron, status=plan.status)


def settle(cron: CronJob, jobs: list[Job], now: datetime) -> tuple[CronJob, list[datetime]]:
    """The schedule when nothing is left to be done now, and the moments that it started."""
    started = []
    for _ in range(6):
        plan = decide(cron, jobs, now)
        if plan.start is not None:
            started.append(plan.start)
        elif plan.status == cron.status:
            return cron, started
        cron = write(cron, plan)
    raise AssertionError("its status never settles")


def test_nothing_before_its_first_moment_and_one_job_at_it() -> None:
    cron, started = settle(make_cron(), [], NOON - MINUTE / 2)
    assert (started, cron.status.next_at) == ([], format_time(NOON))
    plan = decide(cron, [], NOON)
    assert (plan.start, plan.status.last_scheduled_at) == (NOON, format_time(NOON))
    assert plan.status.next_at == format_time(NOON + HOUR)
    cron, started = settle(write(cron, plan), [make_job(NOON)], NOON + MINUTE)
    assert (started, cron.status.active) == ([], ("tick-202603011200",))


def test_of_what_was_missed_only_the_last_is_made_up_for() -> None:
    cron, _ = settle(make_cron(), [], NOON - MINUTE / 2)
    cron, started = settle(cron, [], NOON + 30 * HOUR + 20 * MINUTE)
    assert started == [NOON + 30 * HOUR]
    assert cron.status.next_at == format_time(NOON + 31 * HOUR)


def test_what_was_missed_by_too_much_is_left_out() -> None:
    cron, _ = settle(make_cron(start_deadline_s=600), [], NOON - MINUTE / 2)
    plan = decide(cron, [], NOON + 11 * MINUTE)
    assert (plan.start, plan.left_out) == (None, "2026-03-01T12:00:00.000000Z was missed by 660 s, and 600 s may be")
    assert settle(cron, [], NOON + 10 * MINUTE)[1] == [NOON]


@pytest.mark.parametrize(
    ("concurrency", "start", "replaced"),
    [("forbid", None, ()), ("allow", NOON + HOUR, ()), ("replace", NOON + HOUR, ("tick-202603011200",))],
)
def test_when_the_one_before_still_runs(concurrency: str, start: datetime | None, replaced: tuple[str, ...]) -> None:
    cron, _ = settle(make_cron(concurrency=concurrency), [], NOON)
    plan = decide(cron, [make_job(NOON)], NOON + HOUR)
    assert (plan.start, plan.replaced) == (start, replaced)
    if start is None:
        assert plan.left_out.endswith("is left out: tick-202603011200 still runs")
        # It is out for good, also when the other one has ended a moment later.
        assert settle(write(cron, plan), [make_job(NOON, "Succeeded", NOON + HOUR)], NOON + HOUR + MINUTE)[1] == []


def test_those_that_are_more_than_are_kept_go() -> None:
    jobs = [make_job(NOON + hour * HOUR, "Succeeded", NOON + hour * HOUR + MINUTE) for hour in range(4)]
    jobs += [make_job(NOON + hour * HOUR, "Failed", NOON + hour * HOUR + MINUTE) for hour in range(4, 7)]
    cron, _ = settle(make_cron(keep_succeeded=3, keep_failed=1), jobs, NOON + 7 * HOUR)
    plan = decide(cron, jobs, NOON + 7 * HOUR)
    assert plan.outdated == tuple(name_job("tick", NOON + hour * HOUR) for hour in (0, 4, 5))
    assert plan.status.last_succeeded_at == format_time(NOON + 3 * HOUR + MINUTE)


def test_a_clock_that_goes_back_starts_nothing_twice_and_says_so() -> None:
    cron, started = settle(make_cron(), [], NOON + 5 * HOUR)
    assert started == [NOON + 5 * HOUR]
    for hours in (4, 3, 1, 2, 5):
        cron, started = settle(cron, [], NOON + hours * HOUR)
        assert started == []
    back, _ = settle(cron, [], NOON)
    assert back.status.message.startswith("the clock went back: nothing is started until it is past 2026-03-01T17:00")
    assert settle(back, [], NOON + 6 * HOUR)[1] == [NOON + 6 * HOUR]


def test_whoever_resumes_it_does_not_ask_for_the_past() -> None:
    cron, _ = settle(make_cron(), [], NOON)
    asleep = msgspec.structs.replace(cron, spec=msgspec.structs.replace(cron.spec, suspended=True))
    asleep, started = settle(asleep, [], NOON + 5 * HOUR)
    assert (started, asleep.status.next_at) == ([], None)
    awake = msgspec.structs.replace(asleep, spec=cron.spec)
    awake, started = settle(awake, [], NOON + 5 * HOUR + MINUTE)
    assert (started, awake.status.next_at) == ([], format_time(NOON + 6 * HOUR))


def test_another_schedule_counts_from_when_it_was_given() -> None:
    cron, _ = settle(make_cron(), [], NOON)
    spec = msgspec.structs.replace(cron.spec, schedule="*/5 * * * *")
    meta = msgspec.structs.replace(cron.meta, generation=2)
    cron, started = settle(msgspec.structs.replace(cron, meta=meta, spec=spec), [], NOON + 22 * MINUTE)
    assert (started, cron.status.next_at) == ([], format_time(NOON + 25 * MINUTE))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-200, 400), st.booleans()), max_size=30),
    st.sampled_from(["*/7 * * * *", "@hourly", "13 * * * *"]),
)
def test_whatever_the_clock_does_no_moment_is_started_twice(steps: list[tuple[int, bool]], schedule: str) -> None:
    """It is put forward and back by minutes, and volantd is killed before it writes what it decided."""
    cron, now, started = make_cron(schedule, concurrency="allow"), NOON, list[datetime]()
    for minutes, is_written in steps:
        now += minutes * MINUTE
        for _ in range(3):
            plan = decide(cron, [], now)
            # The job and the status are one transaction: nothing is started without having been written.
            if is_written:
                cron = write(cron, plan)
                started += [] if plan.start is None else [plan.start]
    assert started == sorted(set(started))
