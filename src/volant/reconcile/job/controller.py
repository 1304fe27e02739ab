"""The job controller: looks, decides, counts what ended, then stops, removes and starts."""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from volant.core.clock import Clock, format_time
from volant.core.condition import Condition, Truth, find_condition, set_condition
from volant.core.errors import (
    AlreadyExists,
    Exhausted,
    Forbidden,
    InvalidInput,
    NotFound,
    QuotaExceeded,
    StaleRevision,
    VolantError,
    WrongState,
)
from volant.core.job import COMPLETE, FAILED, JOB_LABEL, Job, JobStatus, has_finished, run_name
from volant.core.resource import Wanted
from volant.core.usage import NOTHING
from volant.core.vm import VM
from volant.reconcile.job.decision import Plan, Retries, decide
from volant.reconcile.job.run import Run, read_run
from volant.reconcile.outcome import After, Again, Done, Outcome
from volant.reconcile.owner import VMMaker, list_owned
from volant.reconcile.recorder import Note, event_operation
from volant.store.cache import Cache
from volant.store.contract import Delete, Key, Operation, Store
from volant.store.quotas import JOB, QuotaLedger
from volant.store.records import find_resource, key_of, read_resource, update_of

log = structlog.get_logger()

STARTS_A_PASS = 16
NOTES_A_WRITE = 32
SEEN_LIMIT_S = 10.0
BLOCKED_AGAIN_S = 10.0
"""Nobody tells when an address, or room in a quota, comes free."""

BLOCKED = "Blocked"
"""A condition: what is to be started cannot be now, and why."""


class JobController:
    """Implements engine.Controller for jobs."""

    kind = Job.kind

    def __init__(self, store: Store, cache: Cache, clock: Clock, vms: VMMaker, *, retries: Retries | None = None) -> None:
        self._store = store
        self._cache = cache
        self._clock = clock
        self._vms = vms
        self.retries = retries or Retries()
        self._made_revision = 0
        """The newest revision at which a VM was made here: the cache must have seen it before anything is counted."""

    async def reconcile(self, key: Key) -> Outcome:
        job = await find_resource(self._store, Job, key.project, key.name)
        if job is None:
            return Done()
        async with asyncio.timeout(SEEN_LIMIT_S):
            await self._cache.wait_revision(max(job.revision, self._made_revision))
        vms = [vm for vm in list_owned(self._cache, job.uid) if vm.meta.project == job.meta.project]
        if job.deleting:
            return await self._remove(job, vms)
        runs = [run for vm in vms if (run := read_run(job, vm)) is not None]
        plan = decide(job, runs, self._clock.now(), self.retries)
        if plan.status != job.status:
            await self._save(job, plan.status, *_describe(job, plan))
            return Again()
        by_name = {vm.name: vm for vm in vms}
        for name in plan.stop:
            await self._stop(by_name[name])
        for name in plan.delete:
            await self._delete(by_name[name])
        if plan.expired:
            await self._expire(job)
            return Again()
        if plan.start:
            return await self._start(job, runs, vms, plan)
        return Done() if plan.wait_s is None else After(plan.wait_s)

    async def report_failure(self, key: Key, error: VolantError, failures: int) -> None:
        job = await find_resource(self._store, Job, key.project, key.name)
        if job is not None and not has_finished(job):
            await self._block(job, error)

    async def _start(self, job: Job, runs: list[Run], vms: list[VM], plan: Plan) -> Outcome:
        for index, attempt in plan.start[:STARTS_A_PASS]:
            try:
                await self._make(job, index, attempt)
            except (Exhausted, QuotaExceeded) as error:
                return await self._make_room(job, runs, vms, error)
            except (InvalidInput, AlreadyExists, WrongState, Forbidden, NotFound) as error:
                # It could never start: that is a run that failed, so that retries and backoff go for it as well.
                refused = Run(
                    vm=run_name(job.name, index, attempt),
                    index=index,
                    attempt=attempt,
                    state="failed",
                    message=f"it could not be made: {error}",
                    at_rest=True,
                )
                judged = decide(job, [*runs, refused], self._clock.now(), self.retries)
                await self._save(job, judged.status, *_describe(job, judged))
                return Again()
        blocked = find_condition(job.status.conditions, BLOCKED)
        if blocked is not None and blocked.status == "True":
            await self._save(job, self._with_blocked(job, "False", "", ""))
        return Again()

    async def _make_room(self, job: Job, runs: list[Run], vms: list[VM], error: VolantError) -> Outcome:
        """What ended is kept for its log only, and gives way to what is to run: a job must not stand in its own way."""
        ended = {run.vm for run in runs if run.at_rest and not run.deleting}
        oldest = min((vm for vm in vms if vm.name in ended), key=lambda vm: (vm.meta.created_at, vm.name), default=None)
        if oldest is not None:
            await self._delete(oldest)
            return Done()  # when it is gone there is a look again
        await self._block(job, error)
        return After(BLOCKED_AGAIN_S)

    async def _make(self, job: Job, index: int, attempt: int) -> None:
        name = run_name(job.name, index, attempt)
        spec = job.spec.vm
        told = {"VOLANT_JOB": job.name, "VOLANT_JOB_INDEX": str(index), "VOLANT_JOB_ATTEMPT": str(attempt)}
        spec = msgspec.structs.replace(spec, env={**told, **spec.env})
        labels = {**job.spec.vm_labels, JOB_LABEL: job.name}
        try:
            vm = await self._vms.create(Wanted(name=name, labels=labels, spec=spec), project=job.meta.project, owner=job.uid)
        except AlreadyExists:
            stored = await self._store.get(Key(VM.kind, job.meta.project, name))
            if stored is None or stored.data["meta"].get("owner") != job.uid:
                raise
            vm = read_resource(VM, stored)
        self._made_revision = max(self._made_revision, vm.revision)
        log.info("job_run_started", job=job.name, vm=name)

    async def _remove(self, job: Job, vms: list[VM]) -> Outcome:
        for vm in vms:
            await self._delete(vm)
        if vms:
            return Done()
        note = event_operation(self._cache, job, Note("Normal", "Deleted", "it is gone"), self._now)
        credit = await QuotaLedger(self._store).charge(job.meta.project, JOB, NOTHING)
        await self._transact([Delete(key_of(job), job.revision), *credit], [note])
        log.info("job_deleted", name=job.name)
        return Done()

    async def _expire(self, job: Job) -> None:
        meta = msgspec.structs.replace(job.meta, deleting_at=self._now, generation=job.meta.generation + 1)
        await self._store.transact([update_of(msgspec.structs.replace(job, meta=meta))])

    async def _stop(self, vm: VM) -> None:
        if vm.spec.power == "stopped" or vm.deleting:
            return
        meta = msgspec.structs.replace(vm.meta, generation=vm.meta.generation + 1)
        spec = msgspec.structs.replace(vm.spec, power="stopped")
        await self._change(msgspec.structs.replace(vm, meta=meta, spec=spec))

    async def _delete(self, vm: VM) -> None:
        if vm.deleting:
            return
        meta = msgspec.structs.replace(vm.meta, deleting_at=self._now, generation=vm.meta.generation + 1)
        await self._change(msgspec.structs.replace(vm, meta=meta))

    async def _change(self, vm: VM) -> None:
        try:
            await self._store.transact([update_of(vm)])
        except NotFound:
            return  # it is gone by now

    async def _block(self, job: Job, error: VolantError) -> None:
        status = self._with_blocked(job, "True", error.code, str(error))
        if status != job.status:
            await self._save(job, status, Note("Warning", BLOCKED, str(error)))

    def _with_blocked(self, job: Job, truth: Truth, reason: str, message: str) -> JobStatus:
        condition = Condition(type=BLOCKED, status=truth, reason=reason, message=message)
        return msgspec.structs.replace(job.status, conditions=set_condition(job.status.conditions, condition, self._now))

    async def _save(self, job: Job, status: JobStatus, *notes: Note) -> None:
        changed = msgspec.structs.replace(job, status=status)
        events = [event_operation(self._cache, job, note, self._now) for note in dict.fromkeys(notes)]
        await self._transact([update_of(changed)], events)

    async def _transact(self, operations: list[Operation], events: list[Operation]) -> None:
        try:
            await self._store.transact([*operations, *events])
        except (AlreadyExists, NotFound) as error:
            # The cache had not seen that an event came, or that it was swept; what is told matters less than what is.
            if not events:
                raise StaleRevision("the job is gone") from error
            await self._store.transact(operations)

    @property
    def _now(self) -> str:
        return format_time(self._clock.now())


def _describe(job: Job, plan: Plan) -> list[Note]:
    failed = [record for record in plan.counted if not record.succeeded]
    notes = [Note("Warning", "RunFailed", f"{record.vm}: {record.message}") for record in failed[:NOTES_A_WRITE]]
    if len(failed) > NOTES_A_WRITE:
        notes.append(Note("Warning", "RunFailed", f"{len(failed) - NOTES_A_WRITE} more failed with them"))
    if has_finished(msgspec.structs.replace(job, status=plan.status)) and not has_finished(job):
        is_done = plan.status.phase == "Succeeded"
        words = plan.status.message if is_done else f"{plan.status.reason}: {plan.status.message}"
        notes.append(Note("Normal" if is_done else "Warning", COMPLETE if is_done else FAILED, words))
    elif plan.status.reason == "Ending" and job.status.reason != "Ending":
        notes.append(Note("Warning", "Ending", plan.status.message))
    return notes
