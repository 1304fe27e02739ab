"""What may be asked of jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

import msgspec

from volant.core.clock import Clock, format_time
from volant.core.errors import AlreadyExists, InvalidInput, NotFound, StaleRevision, TimedOut, WrongState
from volant.core.ids import new_uid
from volant.core.job import FINALIZER, MUTABLE, Job, JobSpec, JobStatus, has_finished
from volant.core.plugin import Plugin
from volant.core.plugin_versions import name_version, split_reference
from volant.core.resource import Meta, Wanted
from volant.core.vm import VMSpec
from volant.intent.edited import Edit, edit_resource
from volant.intent.follow import follow_resource
from volant.intent.job_checks import as_run, check_job, check_job_name
from volant.intent.listing import Ask, Kind, Lister, Page
from volant.intent.vm_checks import PLUGIN_HINT, check_generation, check_labels
from volant.intent.vms import VMIntent
from volant.store.cache import Cache
from volant.store.contract import Operation, Store
from volant.store.plugins import find_plugin
from volant.store.quotas import JOB, QuotaLedger
from volant.store.records import create_of, find_resource, key_of, update_of

JOBS: Kind[Job] = Kind(
    cls=Job,
    fields={
        "name": lambda data: data["meta"]["name"],
        "created_at": lambda data: data["meta"]["created_at"],
        "phase": lambda data: "Deleting" if data["meta"].get("deleting_at") else data["status"]["phase"],
        "plugin": lambda data: split_reference(data["spec"]["vm"]["plugin"])[0],
        "cronjob": lambda data: data["meta"]["labels"].get("volant.cron", ""),
        "ended_at": lambda data: data["status"]["ended_at"],
    },
    texts=lambda data: (
        data["meta"]["name"], data["spec"]["vm"]["plugin"], *data["meta"]["labels"], *data["meta"]["labels"].values()
    ),
)  # fmt: skip


class JobIntent:
    def __init__(self, store: Store, clock: Clock, vms: VMIntent, *, cache: Cache | None = None) -> None:
        self._store = store
        self._ledger = QuotaLedger(store)
        self._clock = clock
        self._vms = vms
        self._lister = Lister(store, cache)

    async def create(
        self,
        wanted: Wanted[JobSpec],
        *,
        project: str = "default",
        dry_run: bool = False,
        owner: str | None = None,
        also: Sequence[Operation] = (),
    ) -> Job:
        """Write a job down: its runs are all of the plugin's version that there is now. ``owner`` is the uid of the schedule that
        makes it, and ``also`` is written in the same transaction.

        Raises:
            InvalidInput: a name, size or reference that cannot be right. AlreadyExists: the name is taken.
            WrongState: the plugin is disabled. Else what ``also`` raises.
        """
        check_job_name(wanted.name, wanted.spec)
        check_labels(wanted.labels, own=owner is not None)
        check_job(wanted.spec)
        spec = await self.settle(wanted.spec, project)
        meta = Meta(
            name=wanted.name,
            uid=new_uid(),
            project=project,
            labels=wanted.labels,
            created_at=format_time(self._clock.now()),
            finalizers=(FINALIZER,),
            owner=owner,
        )
        job = Job(meta=meta, spec=spec, status=JobStatus())
        if dry_run:
            if await self._store.get(key_of(job)) is not None:
                raise _taken(job.name)
            return job
        try:
            revision = await self._ledger.spend(project, JOB, [create_of(job), *also], f"the job {job.name!r}")
        except AlreadyExists:
            raise _taken(job.name) from None
        return msgspec.structs.replace(job, revision=revision)

    async def get(self, name: str, *, project: str = "default") -> Job:
        job = await find_resource(self._store, Job, project, name)
        if job is None:
            raise NotFound(f"there is no job named {name!r}", hint="volar jobs list shows those there are")
        return job

    async def list_page(self, ask: Ask, *, project: str = "default") -> Page[Job]:
        """Raises InvalidInput for an order, a filter or a cursor that cannot be."""
        return await self._lister.list_page(JOBS, project, ask)

    async def replace(
        self,
        name: str,
        wanted: Wanted[JobSpec],
        *,
        project: str = "default",
        expected_generation: int | None = None,
        dry_run: bool = False,
    ) -> Job:
        """Have it be as ``wanted``. What its runs are stays: parallelism, retries, deadline_s, keep_s, suspended and labels may
        differ.

        Raises:
            NotFound. InvalidInput: another field differs, or a value cannot be. WrongState: it is being deleted.
            StaleRevision: it is not at ``expected_generation``.
        """
        if wanted.name != name:
            raise InvalidInput("the name of a job cannot be changed", field="name", hint=f"it is {name}")
        while True:
            job = await self.get(name, project=project)
            check_generation(job, expected_generation)
            if job.deleting:
                raise WrongState(f"the job {name!r} is being deleted")
            check_job_name(name, wanted.spec)
            own = {key: value for key, value in job.meta.labels.items() if wanted.labels.get(key) == value}
            check_labels({key: value for key, value in wanted.labels.items() if key not in own})
            spec = await self._settle_again(job, wanted.spec)
            _check_same(job.spec, spec)
            if spec == job.spec and wanted.labels == job.meta.labels:
                return job
            meta = msgspec.structs.replace(job.meta, labels=wanted.labels, generation=job.meta.generation + 1)
            changed = msgspec.structs.replace(job, meta=meta, spec=spec)
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
    ) -> Job:
        """Change what ``edit`` changes. Raises as ``replace``."""
        while True:
            job = await self.get(name, project=project)
            check_generation(job, expected_generation)
            wanted = edit_resource(job, edit)
            try:
                return await self.replace(name, wanted, project=project, expected_generation=job.meta.generation, dry_run=dry_run)
            except StaleRevision:
                if expected_generation is not None:
                    raise

    async def delete(self, name: str, *, project: str = "default", expected_generation: int | None = None) -> Job:
        """Mark it; it goes when all its VMs have. One that is being deleted stays as it is."""
        while True:
            job = await self.get(name, project=project)
            check_generation(job, expected_generation)
            if job.deleting:
                return job
            deleting_at = format_time(self._clock.now())
            meta = msgspec.structs.replace(job.meta, deleting_at=deleting_at, generation=job.meta.generation + 1)
            marked = msgspec.structs.replace(job, meta=meta)
            try:
                revision = await self._store.transact([update_of(marked)])
            except StaleRevision:
                continue
            return msgspec.structs.replace(marked, revision=revision)

    async def wait(self, job: Job, *, timeout_s: float) -> Job | None:
        """Follow it until it has ended, or until it is gone when it is being deleted; None when it is gone. Raises TimedOut."""
        last = job
        try:
            async with asyncio.timeout(timeout_s):
                async for current in follow_resource(self._store, Job, key_of(job), job.uid):
                    if current is None or (has_finished(current) and not job.deleting):
                        return current
                    last = current
        except TimeoutError:
            status = last.status
            raise TimedOut(
                f"the job {job.name!r} is {status.phase.lower()} after {timeout_s:g} s: {status.succeeded} of "
                f"{last.spec.completions} done, {status.active} running, {status.failed} failed",
                hint=f"it goes on; look at it with: volar jobs get {job.name}",
            ) from None
        return last

    async def settle(self, spec: JobSpec, project: str) -> JobSpec:
        """``spec`` with everything that its VMs leave open, and its plugin's version. Raises InvalidInput, WrongState."""
        plugin = await self._usable_plugin(spec.vm.plugin, project)
        vm = await _below_vm(self._vms.settle_spec(as_run(spec.vm), plugin))
        vm = msgspec.structs.replace(vm, plugin=name_version(split_reference(plugin.name)[0], plugin.spec.version))
        return msgspec.structs.replace(spec, vm=vm)

    async def _settle_again(self, job: Job, spec: JobSpec) -> JobSpec:
        """As ``settle``, with the version that ``job`` has where ``spec`` names none; what is as it was is not judged anew."""
        check_job(spec)
        if spec.vm.plugin == split_reference(job.spec.vm.plugin)[0]:
            spec = msgspec.structs.replace(spec, vm=msgspec.structs.replace(spec.vm, plugin=job.spec.vm.plugin))
        return spec if spec.vm == job.spec.vm else await self.settle(spec, job.meta.project)

    async def _usable_plugin(self, reference: str, project: str) -> Plugin:
        plugin = await find_plugin(self._store, project, reference)
        if plugin is None or plugin.deleting:
            raise InvalidInput(f"there is no plugin named {reference[:80]!r}", field="vm.plugin", hint=PLUGIN_HINT)
        if not plugin.spec.enabled:
            raise WrongState(f"the plugin {reference!r} is disabled", hint=f"volar plugins enable {reference}")
        if plugin.manifest.agent == "none":
            raise InvalidInput(
                "its guest has no agent that could say how a run ended", field="vm.plugin", hint="build it with the agent"
            )
        return plugin


async def _below_vm(settling: Awaitable[VMSpec]) -> VMSpec:
    try:
        return await settling
    except InvalidInput as error:
        field = "vm" if error.field is None else f"vm.{error.field}"
        raise InvalidInput(error.message, field=field, hint=error.hint) from error


def _check_same(before: JobSpec, after: JobSpec) -> None:
    for field in before.__struct_fields__:
        if field in MUTABLE or getattr(before, field) == getattr(after, field):
            continue
        hint = "make another job, and delete this one; these may change: " + ", ".join(sorted(MUTABLE))
        if field == "vm":
            old, new = before.vm, after.vm
            differs = next(name for name in old.__struct_fields__ if getattr(old, name) != getattr(new, name))
            field = f"vm.{differs}"
        raise InvalidInput(f"{field} of a job cannot be changed", field=field, hint=hint)


def _taken(name: str) -> AlreadyExists:
    return AlreadyExists(f"there is a job named {name!r} already", hint=f"choose another name, or: volar jobs delete {name}")
