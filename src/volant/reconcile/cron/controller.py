"""The controller of schedules: at each moment a job, made in one transaction with the note that it was."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import msgspec
import structlog

from volant.core.clock import Clock, format_time
from volant.core.errors import AlreadyExists, NotFound, StaleRevision, VolantError
from volant.core.job import CRON_LABEL, CronJob, CronJobStatus, Job, JobSpec
from volant.core.resource import Wanted
from volant.reconcile.cron.decision import Plan, decide, is_missed, name_job
from volant.reconcile.outcome import After, Again, Done, Outcome
from volant.reconcile.owner import BY_OWNER
from volant.reconcile.recorder import Note, event_operation
from volant.store.cache import Cache
from volant.store.contract import Delete, Key, Operation, Store
from volant.store.records import find_resource, key_of, read_resource, update_of

log = structlog.get_logger()

SEEN_LIMIT_S = 10.0
REPLACED_A_WRITE = 64
"""So that a transaction has room for the rest; ``allow`` that becomes ``replace`` may find many."""


class JobMaker(Protocol):
    """How a job is made: the same way as everybody's, with all checks."""

    async def create(
        self,
        wanted: Wanted[JobSpec],
        *,
        project: str = "default",
        dry_run: bool = False,
        owner: str | None = None,
        also: Sequence[Operation] = (),
    ) -> Job:
        """Raises as intent.jobs.JobIntent.create."""
        ...


class CronController:
    """Implements engine.Controller for schedules."""

    kind = CronJob.kind

    def __init__(self, store: Store, cache: Cache, clock: Clock, jobs: JobMaker) -> None:
        self._store = store
        self._cache = cache
        self._clock = clock
        self._jobs = jobs

    async def reconcile(self, key: Key) -> Outcome:
        cron = await find_resource(self._store, CronJob, key.project, key.name)
        if cron is None:
            return Done()
        async with asyncio.timeout(SEEN_LIMIT_S):
            # A job is made in the transaction that writes the schedule, so that the cache knows of all that were.
            await self._cache.wait_revision(cron.revision)
        stored = [one for one in self._cache.by_index(BY_OWNER, cron.uid) if one.key.kind == Job.kind]
        jobs = [read_resource(Job, one) for one in stored if one.key.project == cron.meta.project]
        if cron.deleting:
            return await self._remove(cron, jobs)
        plan = decide(cron, jobs, self._clock.now())
        by_name = {job.name: job for job in jobs}
        if plan.start is not None:
            await self._start(cron, plan, [by_name[name] for name in plan.replaced])
            return Again()
        if plan.status != cron.status:
            notes = [Note("Warning", "LeftOut", plan.left_out)] if plan.left_out else []
            await self._save(cron, plan.status, *notes)
            return Again()
        for name in plan.outdated:
            await self._delete(by_name[name])
        return After(plan.wait_s)

    async def report_failure(self, key: Key, error: VolantError, failures: int) -> None:
        cron = await find_resource(self._store, CronJob, key.project, key.name)
        if cron is None or cron.deleting:
            return
        status = msgspec.structs.replace(cron.status, message=f"its job cannot be made: {error}")
        if status != cron.status:
            await self._save(cron, status, Note("Warning", "StartFailed", str(error)))

    async def _start(self, cron: CronJob, plan: Plan, replaced: Sequence[Job]) -> None:
        assert plan.start is not None
        for job in replaced[REPLACED_A_WRITE:]:
            await self._delete(job)
        also: list[Operation] = [self._deletion_of(job) for job in replaced[:REPLACED_A_WRITE]]
        also.append(update_of(msgspec.structs.replace(cron, status=plan.status)))
        name = name_job(cron.name, plan.start)
        late = ", which was missed" if is_missed(plan.start, self._clock.now()) else ""
        note = Note("Normal", "Started", f"{name} for {format_time(plan.start)}{late}")
        also.append(event_operation(self._cache, cron, note, self._now))
        wanted = Wanted(name=name, labels={CRON_LABEL: cron.name}, spec=cron.spec.job)
        try:
            await self._jobs.create(wanted, project=cron.meta.project, owner=cron.uid, also=also)
        except AlreadyExists:
            # Somebody else's, or one of this moment from before its schedule was made anew: it stands for this one.
            await self._save(cron, plan.status, Note("Warning", "LeftOut", f"there is a job named {name} already"))
            return
        except NotFound as error:
            raise StaleRevision("a job of it went in the meantime") from error
        log.info("cron_job_started", cron=cron.name, job=name)

    async def _remove(self, cron: CronJob, jobs: Sequence[Job]) -> Outcome:
        for job in jobs:
            await self._delete(job)
        if jobs:
            return Done()
        note = event_operation(self._cache, cron, Note("Normal", "Deleted", "it is gone"), self._now)
        await self._transact([Delete(key_of(cron), cron.revision)], [note])
        log.info("cron_deleted", name=cron.name)
        return Done()

    async def _delete(self, job: Job) -> None:
        if job.deleting:
            return
        try:
            await self._store.transact([self._deletion_of(job)])
        except NotFound:
            return  # it is gone by now

    def _deletion_of(self, job: Job) -> Operation:
        meta = msgspec.structs.replace(job.meta, deleting_at=self._now, generation=job.meta.generation + 1)
        return update_of(msgspec.structs.replace(job, meta=meta))

    async def _save(self, cron: CronJob, status: CronJobStatus, *notes: Note) -> None:
        events = [event_operation(self._cache, cron, note, self._now) for note in notes]
        await self._transact([update_of(msgspec.structs.replace(cron, status=status))], events)

    async def _transact(self, operations: list[Operation], events: list[Operation]) -> None:
        try:
            await self._store.transact([*operations, *events])
        except (AlreadyExists, NotFound) as error:
            # The cache had not seen that an event came, or that it was swept; what is told matters less than what is.
            if not events:
                raise StaleRevision("the schedule is gone") from error
            await self._store.transact(operations)

    @property
    def _now(self) -> str:
        return format_time(self._clock.now())
