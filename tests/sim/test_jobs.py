"""Jobs over the real store and controllers, with simulated guests whose programs end as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from volant.core.clock import HostClock
from volant.core.condition import is_true
from volant.core.errors import AlreadyExists, InvalidInput
from volant.core.job import CronJob, CronJobSpec, Job, JobSpec, has_finished
from volant.core.quota import QuotaSpec
from volant.core.resource import Wanted
from volant.core.vm import VM, VMSpec
from volant.intent.follow import follow_resource
from volant.intent.listing import Ask
from volant.plane import ControlPlane
from volant.reconcile.job.decision import Retries
from volant.store.records import key_of

from .host import LIMIT_S, Crash, World, check_nothing_left, reach, want

NOON = datetime(2026, 3, 1, 12, 0, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)

QUICK = Retries(first_s=0.05, cap_s=0.2)


@asynccontextmanager
async def run_plane(world: World, crash_at: int | None = None, *, after: bool = False) -> AsyncIterator[ControlPlane]:
    async with world.plane(crash_at, after=after) as (plane, _):
        plane.leader.job_controller.retries = QUICK
        yield plane


async def install(world: World, plane: ControlPlane) -> None:
    await plane.intents.plugins.install(world.manifest())


def want_job(name: str, *command: str, vm: dict[str, Any] | None = None, **spec: Any) -> Wanted[JobSpec]:
    return Wanted(name=name, labels={}, spec=JobSpec(vm=VMSpec(plugin="nginx", command=command, **(vm or {})), **spec))


async def reach_job(plane: ControlPlane, job: Job, satisfied: Callable[[Job], bool] = has_finished) -> Job:
    last: Job | None = job
    try:
        async with asyncio.timeout(LIMIT_S):
            async for last in follow_resource(plane.store, Job, key_of(job), job.uid):
                if last is not None and satisfied(last):
                    return last
    except TimeoutError:
        raise AssertionError(f"{job.name} did not get there: {last and last.status}") from None
    raise AssertionError(f"{job.name} was deleted: {last}")


async def list_runs(plane: ControlPlane) -> list[str]:
    return [vm.name for vm in (await plane.intents.vms.list())[0]]


async def tell(plane: ControlPlane, name: str) -> list[str]:
    events, _ = await plane.intents.events.list(about_name=name)
    return [event.spec.reason for event in events if event.spec.about_kind == "Job"]


async def test_a_job_runs_as_often_and_as_wide_as_it_is_asked(world: World) -> None:
    async with run_plane(world) as plane:
        await install(world, plane)
        job = await plane.intents.jobs.create(want_job("sum", "sleep", "0.1", completions=5, parallelism=2))
        widest = 0

        def look(now: Job) -> bool:
            nonlocal widest
            widest = max(widest, now.status.active)
            return has_finished(now)

        done = await reach_job(plane, job, look)
        assert (done.status.phase, done.status.succeeded, done.status.failed) == ("Succeeded", 5, 0)
        assert (done.status.completed_indexes, widest) == ("0-4", 2)
        assert is_true(done.status.conditions, "Complete")
        assert await list_runs(plane) == [f"sum-{index}-0" for index in range(5)]
        vm = await plane.intents.vms.get("sum-3-0")
        assert (vm.meta.owner, vm.meta.labels, vm.status.phase, vm.status.pid) == (
            job.uid,
            {"volant.job": "sum"},
            "Stopped",
            None,
        )
        assert vm.spec.env["VOLANT_JOB_INDEX"] == "3"
        assert (vm.spec.ports, vm.spec.policy, vm.spec.auto_suspend_s) == ((), "never", 0)
        assert await tell(plane, "sum") == ["Complete"]
        assert world.host.running == {}


async def test_what_fails_is_tried_again_and_ends_the_job_when_it_fails_too_often(world: World) -> None:
    async with run_plane(world) as plane:
        await install(world, plane)
        job = await plane.intents.jobs.create(want_job("bad", "sh", "-c", "exit 3", retries=2))
        done = await reach_job(plane, job)
        status = done.status
        assert (status.phase, status.reason, status.succeeded, status.failed) == ("Failed", "TooManyFailures", 0, 3)
        assert [(record.vm, record.exit_code) for record in status.runs] == [("bad-0-0", 3), ("bad-0-1", 3), ("bad-0-2", 3)]
        assert is_true(status.conditions, "Failed")
        assert await tell(plane, "bad") == ["RunFailed", "RunFailed", "RunFailed", "Failed"]


async def test_a_deadline_ends_what_runs(world: World) -> None:
    async with run_plane(world) as plane:
        await install(world, plane)
        job = await plane.intents.jobs.create(want_job("slow", "sleep", "600", completions=2, parallelism=2, deadline_s=1))
        done = await reach_job(plane, job)
        assert (done.status.phase, done.status.reason, done.status.active) == ("Failed", "DeadlineExceeded", 0)
        assert world.host.running == {}
        assert [record.message for record in done.status.runs] == ["its VM was stopped"] * 2


async def test_a_suspended_job_starts_nothing_until_it_is_resumed(world: World) -> None:
    async with run_plane(world) as plane:
        await install(world, plane)
        job = await plane.intents.jobs.create(want_job("later", "true", suspended=True))
        still = await reach_job(plane, job, lambda now: now.status.phase == "Suspended")
        assert (await list_runs(plane), still.status.started_at) == ([], None)
        await plane.intents.jobs.edit("later", lambda document: {**document, "suspended": False})
        assert (await reach_job(plane, job)).status.phase == "Succeeded"


async def test_a_run_that_somebody_deletes_or_stops_has_failed(world: World) -> None:
    async with run_plane(world) as plane:
        await install(world, plane)
        job = await plane.intents.jobs.create(want_job("long", "sleep", "600", retries=5))
        await reach_job(plane, job, lambda now: now.status.active == 1)
        await reach(plane, "long-0-0", lambda vm: vm.status.ready)
        await plane.intents.vms.delete("long-0-0")
        await reach_job(plane, job, lambda now: now.status.failed == 1 and now.status.active == 1)
        await reach(plane, "long-0-1", lambda vm: vm.status.ready)
        await plane.intents.vms.stop("long-0-1")
        again = await reach_job(plane, job, lambda now: now.status.failed == 2 and now.status.active == 1)
        assert [record.message for record in again.status.runs] == ["its VM was deleted", "its VM was stopped"]
        await plane.intents.jobs.delete("long")
        assert await plane.intents.jobs.wait(await plane.intents.jobs.get("long"), timeout_s=LIMIT_S) is None
        await check_nothing_left(world, plane)
        assert await list_runs(plane) == []


async def test_what_cannot_be_made_is_a_run_that_failed(world: World) -> None:
    async with run_plane(world) as plane:
        await install(world, plane)
        stranger = await plane.intents.vms.create(want("own-0-0"))
        job = await plane.intents.jobs.create(want_job("own", "true", retries=1))
        done = await reach_job(plane, job)
        assert (done.status.phase, done.status.failed, done.status.runs[1].vm) == ("Succeeded", 1, "own-0-1")
        assert "already" in done.status.runs[0].message
        # Nobody's VM but the job's own is touched, when it goes as well.
        await plane.intents.jobs.delete("own")
        assert await plane.intents.jobs.wait(await plane.intents.jobs.get("own"), timeout_s=LIMIT_S) is None
        left, _ = await plane.intents.vms.list()
        assert [(vm.uid, vm.deleting) for vm in left] == [(stranger.uid, False)]


async def test_a_job_does_not_stand_in_its_own_way(world: World) -> None:
    """Runs that ended are kept for their logs, and give way when a quota leaves no room for the next."""
    async with run_plane(world) as plane:
        await install(world, plane)
        await plane.intents.quotas.create(Wanted(name="small", labels={}, spec=QuotaSpec(vms=2)))
        stranger = await plane.intents.vms.create(want("web"))
        job = await plane.intents.jobs.create(want_job("sum", "true", completions=3))
        assert (await reach_job(plane, job)).status.phase == "Succeeded"
        assert await list_runs(plane) == ["sum-2-0", "web"]
        # Where nothing of its own can go it waits, says why, and goes on when there is room.
        waiting = await plane.intents.jobs.create(want_job("later", "true"))
        blocked = await reach_job(plane, waiting, lambda now: is_true(now.status.conditions, "Blocked"))
        assert "small" in blocked.status.conditions[0].message and blocked.status.failed == 0
        await plane.intents.vms.delete(stranger.name)
        await reach_job(plane, waiting)


async def test_it_goes_when_its_time_is_over_and_old_runs_before(world: World) -> None:
    async with run_plane(world) as plane:
        await install(world, plane)
        job = await plane.intents.jobs.create(want_job("many", "true", completions=25, parallelism=8))
        done = await reach_job(plane, job)
        assert (done.status.succeeded, len(done.status.runs)) == (25, 20)
        async with asyncio.timeout(LIMIT_S):
            while len(await list_runs(plane)) != 20:  # noqa: ASYNC110  # nothing tells of it
                await asyncio.sleep(0.05)
        await plane.intents.jobs.edit("many", lambda document: {**document, "keep_s": 0})
        assert await plane.intents.jobs.wait(await plane.intents.jobs.delete("many"), timeout_s=LIMIT_S) is None
        assert await list_runs(plane) == []


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_crash_at_any_write_loses_no_run_and_makes_none_twice(world: World, *, after: bool) -> None:
    async with run_plane(world) as plane:
        await install(world, plane)
        job = await plane.intents.jobs.create(
            want_job("work", "sleep", "0.05", completions=3, parallelism=2, retries=99, suspended=True)
        )
        await reach_job(plane, job, lambda now: now.status.phase == "Suspended")
        await plane.intents.jobs.edit("work", lambda document: {**document, "suspended": False})
    crashes, made = 0, set[str]()
    for crash_at in range(2, 40, 3):
        try:
            async with run_plane(world, crash_at, after=after) as plane:
                job = await reach_job(plane, job)
                made |= set(await list_runs(plane))
            break
        except BaseExceptionGroup as group:
            assert group.split(Crash)[1] is None or not group.split(Crash)[1].exceptions  # type: ignore[union-attr]  # asked before
            crashes += 1
    async with run_plane(world) as plane:
        job = await reach_job(plane, job)
        vms, _ = await plane.intents.vms.list()
    status = job.status
    assert crashes > 2
    assert (status.phase, status.succeeded) == ("Succeeded", 3)
    # A guest that ended while nobody looked has left its status behind, so that none is tried again.
    assert [vm.name for vm in vms] == sorted(record.vm for record in status.runs)
    assert (len(status.runs), status.failed) == (3, 0)
    assert sorted(record.index for record in status.runs if record.succeeded) == [0, 1, 2]


async def test_what_a_job_may_not_be(world: World) -> None:
    async with run_plane(world) as plane:
        await install(world, plane)
        jobs = plane.intents.jobs
        for wanted, field in (
            (want_job("a", "", "x"), "vm.command"),
            (want_job("a", "x\0y"), "vm.command"),
            (want_job("a", vm={"restart_policy": "always"}), "vm.restart_policy"),
            (want_job("a", vm={"auto_suspend_s": 60}), "vm.auto_suspend_s"),
            (want_job("a", vm={"power": "stopped"}), "vm.power"),
            (want_job("a", vm={"snapshot": "s"}), "vm.snapshot"),
            (want_job("a", vm={"kernel_cmdline": "init=/x"}), "vm.kernel_cmdline"),
            (want_job("a", vm_labels={"volant.x": "y"}), "vm_labels"),
            (want_job("a" * 60), "name"),
            (want_job("A"), "name"),
            (Wanted(name="a", labels={}, spec=JobSpec(vm=VMSpec(plugin="none"))), "vm.plugin"),
        ):
            with pytest.raises(InvalidInput) as caught:
                await jobs.create(wanted)
            assert caught.value.field == field
        made = await jobs.create(want_job("a", "sleep", "600"))
        assert made.spec.vm.plugin == "nginx@1.0"
        with pytest.raises(AlreadyExists):
            await jobs.create(want_job("a", "true"))
        with pytest.raises(InvalidInput, match=r"vm\.command of a job cannot be changed"):
            await jobs.replace("a", want_job("a", "true"))
        with pytest.raises(InvalidInput, match="completions of a job cannot be changed"):
            await jobs.replace("a", want_job("a", "sleep", "600", completions=2))
        wider = await jobs.replace("a", want_job("a", "sleep", "600", parallelism=2, retries=9, deadline_s=50, keep_s=1))
        assert (wider.spec.parallelism, wider.spec.retries, wider.meta.generation) == (2, 9, 2)
        same = await jobs.replace("a", want_job("a", "sleep", "600", parallelism=2, retries=9, deadline_s=50, keep_s=1))
        assert same.meta.generation == 2


async def test_a_command_runs_on_no_workload_that_was_there_before(world: World) -> None:
    """Neither a template in which the plugin's workload runs, nor a pool of such, will do; its health is not asked for."""
    async with run_plane(world) as plane:
        manifest = {**world.manifest(), "start": {"template": "ready"}}
        await plane.intents.plugins.install(manifest)
        await plane.intents.plugins.set_pool("nginx", 1)
        parked = await _reach_parked(plane)
        vm = await plane.intents.vms.create(want("other", command=("sleep", "600")))
        assert vm.uid != parked
        ready = await reach(plane, "other", lambda vm: vm.status.ready)
        guest = world.host.running[ready.uid].serve_agent.guest  # type: ignore[union-attr]  # the simulated agent's
        assert guest.workload.argv == ("sleep", "600")
        assert ready.status.start is not None and ready.status.start.kind in ("cold", "template")


class ShiftedClock(HostClock):
    """The host's, but for what it shows: ``show`` sets it."""

    def __init__(self) -> None:
        self._shift = timedelta()

    def show(self, moment: datetime) -> None:
        self._shift = moment - datetime.now(UTC)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._shift


def want_cron(**spec: Any) -> Wanted[CronJobSpec]:
    job = JobSpec(vm=VMSpec(plugin="nginx", command=("true",)))
    return Wanted(name="tick", labels={}, spec=CronJobSpec(**{"schedule": "0 * * * *", "job": job, **spec}))


async def reach_cron(plane: ControlPlane, cron: CronJob, satisfied: Callable[[CronJob], bool]) -> CronJob:
    plane.leader.cron_jobs.look(key_of(cron))
    async with asyncio.timeout(LIMIT_S):
        async for current in follow_resource(plane.store, CronJob, key_of(cron), cron.uid):
            if current is not None and satisfied(current):
                return current
    raise AssertionError("it was deleted")


async def list_jobs(plane: ControlPlane) -> list[str]:
    return [job.name for job in (await plane.intents.jobs.list_page(Ask())).items]


async def test_a_schedule_makes_a_job_at_its_moments_and_none_twice(world: World) -> None:
    clock = world.clock = ShiftedClock()
    clock.show(NOON - HOUR / 2)
    async with run_plane(world) as plane:
        await install(world, plane)
        cron = await plane.intents.cron_jobs.create(want_cron())
        await reach_cron(plane, cron, lambda now: now.status.next_at == "2026-03-01T12:00:00.000000Z")
        assert await list_jobs(plane) == []
        clock.show(NOON)
        await reach_cron(plane, cron, lambda now: now.status.last_succeeded_at is not None)
        assert await list_jobs(plane) == ["tick-202603011200"]
        job = await plane.intents.jobs.get("tick-202603011200")
        assert (job.meta.owner, job.meta.labels, job.spec.vm.plugin) == (cron.uid, {"volant.cron": "tick"}, "nginx@1.0")
    # volantd is away for hours: one job is made up for. Then the clock goes back: none at all.
    clock.show(NOON + 5 * HOUR)
    async with run_plane(world) as plane:
        cron = await plane.intents.cron_jobs.get("tick")
        await reach_cron(plane, cron, lambda now: now.status.last_scheduled_at == "2026-03-01T17:00:00.000000Z")
        clock.show(NOON + 3 * HOUR)
        await reach_cron(plane, cron, lambda now: now.status.message.startswith("the clock went back"))
        assert await list_jobs(plane) == ["tick-202603011200", "tick-202603011700"]
        await plane.intents.cron_jobs.delete("tick")
        await plane.intents.cron_jobs.wait_deleted(cron, timeout_s=LIMIT_S)
        assert (await list_jobs(plane), await list_runs(plane)) == ([], [])
        await check_nothing_left(world, plane)


async def test_the_job_before_is_left_alone_or_gives_way(world: World) -> None:
    clock = world.clock = ShiftedClock()
    clock.show(NOON - HOUR / 2)
    slow = JobSpec(vm=VMSpec(plugin="nginx", command=("sleep", "600")))
    async with run_plane(world) as plane:
        await install(world, plane)
        cron = await plane.intents.cron_jobs.create(want_cron(job=slow))
        await reach_cron(plane, cron, lambda now: now.status.next_at is not None)
        clock.show(NOON)
        await reach_cron(plane, cron, lambda now: now.status.active == ("tick-202603011200",))
        clock.show(NOON + HOUR)
        await reach_cron(plane, cron, lambda now: now.status.considered_at == "2026-03-01T13:00:00.000000Z")
        assert await list_jobs(plane) == ["tick-202603011200"]
        events, _ = await plane.intents.events.list(about_name="tick")
        assert [event.spec.reason for event in events] == ["Started", "LeftOut"]
        await plane.intents.cron_jobs.edit("tick", lambda document: {**document, "concurrency": "replace"})
        clock.show(NOON + 2 * HOUR)
        await reach_cron(plane, cron, lambda now: now.status.active == ("tick-202603011400",))
        async with asyncio.timeout(LIMIT_S):
            while await list_jobs(plane) != ["tick-202603011400"]:  # noqa: ASYNC110  # nothing tells of it
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_crash_at_any_write_makes_no_job_twice(world: World, *, after: bool) -> None:
    clock = world.clock = ShiftedClock()
    clock.show(NOON - HOUR / 2)
    async with run_plane(world) as plane:
        await install(world, plane)
        cron = await plane.intents.cron_jobs.create(want_cron())
        await reach_cron(plane, cron, lambda now: now.status.next_at is not None)
    clock.show(NOON)
    crashes = 0
    for crash_at in range(1, 20):
        try:
            async with run_plane(world, crash_at, after=after) as plane:
                await reach_cron(plane, cron, lambda now: now.status.last_succeeded_at is not None)
            break
        except (Crash, BaseExceptionGroup) as crash:
            assert isinstance(crash, Crash) or crash.split(Crash)[0] is not None
            crashes += 1
    async with run_plane(world) as plane:
        await reach_cron(plane, cron, lambda now: now.status.last_succeeded_at is not None)
        assert await list_jobs(plane) == ["tick-202603011200"]
    assert crashes > 2


async def _reach_parked(plane: ControlPlane) -> str:
    async with asyncio.timeout(LIMIT_S):
        while True:
            for stored in (await plane.store.list(VM.kind)).items:
                if stored.data["status"]["phase"] == "Parked":
                    return str(stored.data["meta"]["uid"])
            await asyncio.sleep(0.05)
