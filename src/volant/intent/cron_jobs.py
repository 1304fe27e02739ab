"""What may be asked of schedules."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import msgspec

from volant.core.clock import Clock, format_time
from volant.core.errors import AlreadyExists, InvalidInput, NotFound, StaleRevision, TimedOut, WrongState
from volant.core.ids import new_uid
from volant.core.job import CRON_FINALIZER, CRON_LABEL, CronJob, CronJobSpec, CronJobStatus, Job
from volant.core.resource import Meta, Wanted
from volant.intent.edited import Edit, edit_resource
from volant.intent.follow import follow_resource
from volant.intent.job_checks import check_cron_job
from volant.intent.jobs import JobIntent
from volant.intent.listing import Ask, Kind, Lister, Page
from volant.intent.vm_checks import check_generation, check_labels
from volant.store.cache import Cache
from volant.store.contract import RequireLive, Store
from volant.store.records import create_of, find_resource, key_of, update_of

CRON_JOBS: Kind[CronJob] = Kind(
    cls=CronJob,
    fields={
        "name": lambda data: data["meta"]["name"],
        "created_at": lambda data: data["meta"]["created_at"],
        "suspended": lambda data: str(data["spec"]["suspended"]).lower(),
        "next_at": lambda data: data["status"]["next_at"],
        "last_scheduled_at": lambda data: data["status"]["last_scheduled_at"],
    },
    texts=lambda data: (data["meta"]["name"], *data["meta"]["labels"], *data["meta"]["labels"].values()),
)

TRIGGERS_A_SECOND = 8
"""The name of a job that somebody triggers is the second in which it was; the next free one is taken."""


class CronJobIntent:
    def __init__(self, store: Store, clock: Clock, jobs: JobIntent, *, cache: Cache | None = None) -> None:
        self._store = store
        self._clock = clock
        self._jobs = jobs
        self._lister = Lister(store, cache)

    async def create(self, wanted: Wanted[CronJobSpec], *, project: str = "default", dry_run: bool = False) -> CronJob:
        """Write a schedule down. Its jobs are made as its job is written, of the plugin's version of their time.

        Raises:
            InvalidInput: a schedule, timezone, name, size or reference that cannot be right. AlreadyExists: the name is taken.
            WrongState: the plugin is disabled.
        """
        check_labels(wanted.labels)
        await self._check(wanted.name, wanted.spec, project)
        meta = Meta(
            name=wanted.name,
            uid=new_uid(),
            project=project,
            labels=wanted.labels,
            created_at=format_time(self._clock.now()),
            finalizers=(CRON_FINALIZER,),
        )
        cron = CronJob(meta=meta, spec=wanted.spec, status=CronJobStatus())
        if dry_run:
            if await self._store.get(key_of(cron)) is not None:
                raise _taken(cron.name)
            return cron
        try:
            revision = await self._store.transact([create_of(cron)])
        except AlreadyExists:
            raise _taken(cron.name) from None
        return msgspec.structs.replace(cron, revision=revision)

    async def get(self, name: str, *, project: str = "default") -> CronJob:
        cron = await find_resource(self._store, CronJob, project, name)
        if cron is None:
            raise NotFound(f"there is no schedule named {name!r}", hint="volar cron list shows those there are")
        return cron

    async def list_page(self, ask: Ask, *, project: str = "default") -> Page[CronJob]:
        """Raises InvalidInput for an order, a filter or a cursor that cannot be."""
        return await self._lister.list_page(CRON_JOBS, project, ask)

    async def replace(
        self,
        name: str,
        wanted: Wanted[CronJobSpec],
        *,
        project: str = "default",
        expected_generation: int | None = None,
        dry_run: bool = False,
    ) -> CronJob:
        """Have it be as ``wanted``; jobs that were made stay as they are.

        Raises:
            NotFound. InvalidInput, WrongState: as ``create``. StaleRevision: it is not at ``expected_generation``.
        """
        if wanted.name != name:
            raise InvalidInput("the name of a schedule cannot be changed", field="name", hint=f"it is {name}")
        while True:
            cron = await self.get(name, project=project)
            check_generation(cron, expected_generation)
            if cron.deleting:
                raise WrongState(f"the schedule {name!r} is being deleted")
            check_labels(wanted.labels)
            if wanted.spec == cron.spec and wanted.labels == cron.meta.labels:
                return cron
            if wanted.spec.job == cron.spec.job:
                # What is as it was is not judged anew: its plugin may be gone, and it is to be suspended for that.
                check_cron_job(name, wanted.spec)
            else:
                await self._check(name, wanted.spec, project)
            meta = msgspec.structs.replace(cron.meta, labels=wanted.labels, generation=cron.meta.generation + 1)
            changed = msgspec.structs.replace(cron, meta=meta, spec=wanted.spec)
            if dry_run:
                return changed
            try:
                revision = await self._store.transact([update_of(changed)])
            except StaleRevision:
                continue
            return msgspec.structs.replace(changed, revision=revision)

    async def edit(
        self,
        name: str,
        edit: Edit,
        *,
        project: str = "default",
        expected_generation: int | None = None,
        dry_run: bool = False,
    ) -> CronJob:
        """Change what ``edit`` changes of its flat document. Raises as ``replace``."""
        while True:
            cron = await self.get(name, project=project)
            check_generation(cron, expected_generation)
            wanted = edit_resource(cron, edit)
            try:
                return await self.replace(
                    name, wanted, project=project, expected_generation=cron.meta.generation, dry_run=dry_run
                )
            except StaleRevision:
                if expected_generation is not None:
                    raise

    async def delete(self, name: str, *, project: str = "default", expected_generation: int | None = None) -> CronJob:
        """Mark it; it goes when all its jobs have. One that is being deleted stays as it is."""
        while True:
            cron = await self.get(name, project=project)
            check_generation(cron, expected_generation)
            if cron.deleting:
                return cron
            deleting_at = format_time(self._clock.now())
            meta = msgspec.structs.replace(cron.meta, deleting_at=deleting_at, generation=cron.meta.generation + 1)
            marked = msgspec.structs.replace(cron, meta=meta)
            try:
                revision = await self._store.transact([update_of(marked)])
            except StaleRevision:
                continue
            return msgspec.structs.replace(marked, revision=revision)

    async def trigger(self, name: str, *, project: str = "default") -> Job:
        """Make a job now, whatever its schedule and concurrency say.

        Raises:
            NotFound. WrongState: it is being deleted. InvalidInput: its job cannot be any more. AlreadyExists: too many at once.
        """
        cron = await self.get(name, project=project)
        if cron.deleting:
            raise WrongState(f"the schedule {name!r} is being deleted")
        now = self._clock.now()
        for further in range(TRIGGERS_A_SECOND):
            stamp = (now + timedelta(seconds=further)).strftime("%Y%m%d%H%M%S")
            wanted = Wanted(name=f"{name}-{stamp}", labels={CRON_LABEL: name}, spec=cron.spec.job)
            try:
                return await self._jobs.create(wanted, project=project, owner=cron.uid, also=[RequireLive(key_of(cron))])
            except AlreadyExists:
                continue
            except NotFound:
                raise NotFound(f"there is no schedule named {name!r} any more") from None
        raise AlreadyExists(f"{TRIGGERS_A_SECOND} jobs of {name!r} were triggered just now", hint="try again in a moment")

    async def wait_deleted(self, cron: CronJob, *, timeout_s: float) -> None:
        """Return when it is gone. Raises TimedOut."""
        try:
            async with asyncio.timeout(timeout_s):
                async for current in follow_resource(self._store, CronJob, key_of(cron), cron.uid):
                    if current is None:
                        return
        except TimeoutError:
            raise TimedOut(
                f"the schedule {cron.name!r} still has jobs after {timeout_s:g} s",
                hint=f"volar jobs list -l {CRON_LABEL}={cron.name}",
            ) from None

    async def _check(self, name: str, spec: CronJobSpec, project: str) -> None:
        check_cron_job(name, spec)
        try:
            await self._jobs.settle(spec.job, project)
        except InvalidInput as error:
            field = "job" if error.field is None else f"job.{error.field}"
            raise InvalidInput(error.message, field=field, hint=error.hint) from error


def _taken(name: str) -> AlreadyExists:
    return AlreadyExists(f"there is a schedule named {name!r} already", hint=f"choose another name, or: volar cron delete {name}")
