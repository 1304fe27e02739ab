"""What a job does next, judged on plain records: no store, no clock."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volant.core.clock import format_time
from volant.core.ids import Uid
from volant.core.indexes import read_indexes
from volant.core.job import Job, JobSpec, JobStatus, has_finished, read_run_name, run_name
from volant.core.resource import Meta
from volant.core.vm import VM, EndRecord, VMSpec, VMStatus
from volant.reconcile.job.decision import KEPT_RUNS, Plan, Retries, decide
from volant.reconcile.job.run import Run, read_run

NOW = datetime(2026, 3, 1, tzinfo=UTC)
RETRIES = Retries()


def make_job(status: JobStatus | None = None, **spec: object) -> Job:
    meta = Meta(name="sum", uid=Uid("0" * 32), created_at=format_time(NOW))
    return Job(meta=meta, spec=JobSpec(vm=VMSpec(plugin="busybox"), **spec), status=status or JobStatus())  # type: ignore[arg-type]  # by field


def run(index: int, attempt: int = 0, state: str = "active", **fields: object) -> Run:
    at_rest = state != "active"
    return Run(vm=run_name("sum", index, attempt), index=index, attempt=attempt, state=state, at_rest=at_rest, **fields)  # type: ignore[arg-type]  # by field


def settle(job: Job, runs: list[Run], now: datetime = NOW) -> tuple[Job, Plan]:
    """The job once its status is written, and the plan that follows."""
    for _ in range(4):
        plan = decide(job, runs, now, RETRIES)
        if plan.status == job.status:
            return job, plan
        assert plan.start == ()
        job = msgspec.structs.replace(job, status=plan.status)
    raise AssertionError("its status never settles")


def test_it_starts_as_many_as_may_run_at_a_time() -> None:
    job, plan = settle(make_job(completions=5, parallelism=3), [])
    assert plan.start == ((0, 0), (1, 0), (2, 0))
    assert job.status.started_at == format_time(NOW)
    _, plan = settle(job, [run(0), run(1, state="succeeded"), run(2)])
    assert plan.start == ((3, 0),)


def test_a_run_that_failed_is_followed_by_its_next_attempt_after_a_while() -> None:
    job, _ = settle(make_job(), [])
    job, plan = settle(job, [run(0, state="failed", exit_code=3, message="ended with 3")])
    assert (plan.start, plan.wait_s, job.status.failed, job.status.attempts) == ((), 10.0, 1, {"0": 1})
    assert (job.status.reason, job.status.message) == ("Retrying", "ended with 3")
    _, plan = settle(job, [run(0, state="failed")], NOW + timedelta(seconds=10))
    assert plan.start == ((0, 1),)


@pytest.mark.parametrize(("row", "seconds"), [(1, 10), (2, 20), (3, 40), (6, 320), (7, 360), (5000, 360)])
def test_the_pauses_double_up_to_six_minutes(row: int, seconds: float) -> None:
    assert RETRIES.delay(row) == seconds


def test_a_clock_that_went_back_holds_no_retry_for_ever() -> None:
    later = format_time(NOW + timedelta(days=400))
    _, plan = settle(make_job(JobStatus(started_at=later, retry_at=later, failed=1, attempts={"0": 1})), [])
    assert plan.start == ((0, 1),)


def test_a_clock_that_went_back_moves_no_deadline_away() -> None:
    job, _ = settle(make_job(deadline_s=60), [])
    earlier = NOW - timedelta(hours=1)
    job, plan = settle(job, [run(0)], earlier)
    assert (job.status.started_at, plan.wait_s) == (format_time(earlier), 60.0)
    job, plan = settle(job, [run(0)], earlier + timedelta(seconds=60))
    assert (job.status.reason, plan.stop) == ("Ending", ("sum-0-0",))


def test_one_failure_too_many_ends_it_and_what_still_runs() -> None:
    job, _ = settle(make_job(completions=3, parallelism=3, retries=0), [])
    job, plan = settle(job, [run(0, state="failed", message="no"), run(1), run(2)])
    assert (job.status.phase, job.status.reason, job.status.ended_at) == ("Running", "Ending", None)
    assert plan.stop == ("sum-1-0", "sum-2-0")
    job, plan = settle(job, [run(0, state="failed"), run(1, state="failed"), run(2, state="succeeded")])
    assert (job.status.phase, job.status.reason, job.status.failed) == ("Failed", "TooManyFailures", 2)
    assert job.status.message.startswith("2 runs failed, and 0 may")
    assert (plan.start, plan.stop, plan.wait_s) == ((), (), None)


def test_the_deadline_counts_from_the_first_start() -> None:
    job, plan = settle(make_job(deadline_s=60), [])
    assert plan.wait_s == 60.0
    job, plan = settle(job, [run(0)], NOW + timedelta(seconds=60))
    assert plan.stop == ("sum-0-0",)
    job, _ = settle(job, [run(0, state="failed", message="its VM was stopped")], NOW + timedelta(seconds=61))
    assert (job.status.phase, job.status.reason) == ("Failed", "DeadlineExceeded")
    # One that is done has kept it, however late that is seen.
    done, _ = settle(
        make_job(JobStatus(started_at=format_time(NOW)), deadline_s=1), [run(0, state="succeeded")], NOW + timedelta(days=1)
    )
    assert done.status.phase == "Succeeded"


def test_suspended_means_nothing_new() -> None:
    job, plan = settle(make_job(suspended=True), [])
    assert (job.status.phase, plan.start, job.status.started_at) == ("Suspended", (), None)
    job, plan = settle(make_job(completions=2, suspended=True), [run(0)])
    assert (job.status.phase, plan.start, plan.stop) == ("Running", (), ())


def test_a_vm_that_is_gone_has_failed_once() -> None:
    job, _ = settle(make_job(), [run(0)])
    assert job.status.active_indexes == "0"
    job, _ = settle(job, [])
    assert (job.status.failed, job.status.runs[-1].message, job.status.active_indexes) == (1, "its VM is gone", "")
    again, _ = settle(job, [])
    assert again == job


def test_what_was_counted_and_runs_again_is_stopped() -> None:
    job, _ = settle(make_job(completions=2), [run(0, state="succeeded")])
    _, plan = settle(job, [run(0)])
    assert plan.stop == ("sum-0-0",)


def test_after_its_end_it_waits_until_its_time_is_over() -> None:
    job, plan = settle(make_job(keep_s=100), [run(0, state="succeeded")])
    assert (plan.wait_s, plan.expired) == (100.0, False)
    _, plan = settle(job, [run(0, state="succeeded")], NOW + timedelta(seconds=100))
    assert plan.expired
    # Nothing makes it begin anew, and a VM that is started by hand is stopped.
    raised = msgspec.structs.replace(job, spec=msgspec.structs.replace(job.spec, retries=9, keep_s=None))
    _, plan = settle(raised, [run(0)])
    assert (plan.start, plan.stop, plan.wait_s) == ((), ("sum-0-0",), None)


OUTCOMES = st.lists(st.sampled_from(["succeeded", "failed", "gone", "active"]), min_size=1, max_size=60)


@settings(max_examples=150, deadline=None)
@given(OUTCOMES, st.integers(1, 8), st.integers(1, 4), st.integers(0, 6), st.integers(0, 2**32))
def test_whatever_becomes_of_runs_each_counts_once(
    outcomes: list[str], completions: int, parallelism: int, retries: int, seed: int
) -> None:
    """Runs end in any order, or vanish, and the controller dies between any two writes: the books are right."""
    chance = random.Random(seed)
    job = make_job(completions=completions, parallelism=parallelism, retries=retries)
    there: dict[tuple[int, int], Run] = {}
    made: set[tuple[int, int]] = set()
    now, left = NOW, list(outcomes)
    for _ in range(2000):
        plan = decide(job, list(there.values()), now, RETRIES)
        if plan.status != job.status:
            if chance.random() < 0.8:  # else killed before it was written
                job = msgspec.structs.replace(job, status=plan.status)
            continue
        if has_finished(job):
            break
        for place in plan.start[: chance.randint(1, 4)]:
            assert place not in made
            made.add(place)
            there[place] = run(*place)
        running = [place for place, one in there.items() if one.state == "active"]
        assert len(running) <= parallelism
        for name in plan.stop:
            place = read_run_name("sum", name)
            assert place is not None
            there[place] = run(*place, "failed", message="its VM was stopped")
        for name in plan.delete:
            place = read_run_name("sum", name)
            assert place is not None
            assert there.pop(place).state != "active"
        if running and not plan.stop:
            place, outcome = chance.choice(running), left.pop() if left else "succeeded"
            if outcome == "gone" and str(place[0]) and place[0] in read_indexes(job.status.active_indexes):
                del there[place]
            elif outcome in ("succeeded", "failed"):
                there[place] = run(*place, outcome)
        now += timedelta(seconds=400)
    status = job.status
    assert has_finished(job)
    if status.phase == "Succeeded":
        assert (status.succeeded, status.completed_indexes) == (completions, f"0-{completions - 1}" if completions > 1 else "0")
        assert status.failed <= retries
    else:
        assert status.failed > retries
    assert status.succeeded + status.failed == len(made)
    assert len(status.runs) == min(KEPT_RUNS, len(made))
    assert len({record.vm for record in status.runs}) == len(status.runs)


def make_vm(
    name: str = "sum-0-0", *, owner: str | None = "0" * 32, deleting: bool = False, power: str = "running", **status: object
) -> VM:
    meta = Meta(name=name, uid=Uid("1" * 32), owner=owner, deleting_at=format_time(NOW) if deleting else None)
    spec = VMSpec(plugin="busybox", restart_policy="never", power=power)  # type: ignore[arg-type]  # by name
    return VM(meta=meta, spec=spec, status=VMStatus(run_id="r", started_token=0, observed_generation=1, **status))  # type: ignore[arg-type]  # by field


def ended(**fields: object) -> EndRecord:
    return EndRecord(run_id="r", kind="powered_off", message="the workload ended", at=format_time(NOW), **fields)  # type: ignore[arg-type]  # by field


@pytest.mark.parametrize(
    ("vm", "state", "code", "at_rest"),
    [
        (make_vm(phase="Running", pid=5), "active", None, False),
        (make_vm(phase="Stopped", last_end=ended(clean=True, exit_code=0)), "succeeded", 0, True),
        (make_vm(phase="Failed", last_end=ended(exit_code=3)), "failed", 3, True),
        (make_vm(phase="Failed", last_end=ended(exit_signal=9)), "failed", None, True),
        # Nobody saw how its workload ended: that is no success.
        (make_vm(phase="Stopped", last_end=ended(clean=True)), "failed", None, True),
        (make_vm(phase="Running", deleting=True, pid=5), "failed", None, False),
        (make_vm(phase="Deleting", deleting=True, last_end=ended(clean=True, exit_code=0)), "succeeded", 0, True),
        (make_vm(phase="Stopping", power="stopped", pid=5), "active", None, False),
        (make_vm(phase="Stopped", power="stopped", last_end=ended(asked=True)), "failed", None, True),
        (make_vm(phase="Failed", reason="StartFailed", failures=1), "active", None, False),
        (make_vm(phase="Failed", reason="StartFailed", failures=3), "failed", None, False),
        (make_vm(phase="Failed", reason="Untrusted"), "failed", None, False),
    ],
)  # fmt: skip
def test_what_a_vm_shows_of_its_run(vm: VM, state: str, code: int | None, *, at_rest: bool) -> None:
    found = read_run(make_job(), vm)
    assert found is not None
    assert (found.state, found.exit_code, found.at_rest) == (state, code, at_rest)


@pytest.mark.parametrize(
    "vm",
    [
        make_vm("sum-0"),
        make_vm("sum-00-0"),
        make_vm("sum-a-b"),
        make_vm("other-0-0"),
        make_vm(owner="2" * 32),
        make_vm(owner=None),
    ],
)
def test_a_vm_of_somebody_else_is_no_run(vm: VM) -> None:
    assert read_run(make_job(), vm) is None
