"""Templates: which one a VM can start from, and how new ones come to be.

The first VM of a shape leaves one behind: while it waits for its configuration it is paused, saved and let go on. Whoever asks
for the same meanwhile waits for it rather than boot as well.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
import structlog

from volant.core.clock import Clock, format_time
from volant.core.errors import ChecksumMismatch, HostError, NotFound, Unavailable, VolantError, WrongState
from volant.core.ids import Digest
from volant.core.manifest import Manifest
from volant.core.template import Template, TemplateKind
from volant.core.vm import VM
from volant.guest.deadline import race
from volant.guest.probe import await_echo
from volant.hypervisor.driver import Capability, Driver
from volant.hypervisor.machine import Machine
from volant.hypervisor.record import read_record, write_record
from volant.node.run import Run
from volant.reconcile.template_key import derive_template_key
from volant.volume.saved import SavedStore, begin_saved, discard_saved, publish_saved, remove_saved, verify_saved

log = structlog.get_logger()

CAPTURE_TIMEOUT_S = 180.0
RETRY_AFTER_S = 60.0
"""A template that could not be taken, or did not start, is not tried again before."""

RECORD = "template.json"
NEEDED = frozenset({Capability.SNAPSHOT, Capability.SHARED_MEMORY})


class TemplateRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a template says of itself, beside what its driver wrote."""

    kind: TemplateKind
    plugin: str
    project: str
    disk_mb: int
    created_at: str


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """How a run is to begin. ``wait``: a template is being made; look again when it is there."""

    how: Literal["cold", "template", "wait"]
    reason: str = ""
    key: str = ""
    kind: TemplateKind = "booted"
    path: Path | None = None
    capture: bool = False
    """The cold start is to leave template ``key`` behind."""


Build = Callable[[VM, str, TemplateKind], Awaitable[None]]


class TemplateKeeper:
    """All templates of this node."""

    def __init__(self, store: SavedStore, driver: Driver, clock: Clock, on_change: Callable[[], None]) -> None:
        self.store = store
        self._driver = driver
        self._clock = clock
        self._on_change = on_change
        self._verified: set[str] = set()
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._promised: set[str] = set()
        """Those that a start is about to leave behind: from the choice until its guest boots."""
        self._failed: dict[str, tuple[str, float]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._starting: Counter[str] = Counter()
        self.build: Build | None = None
        """Makes a template of the ``ready`` kind, or one that nobody's start leaves behind; set by the composition root."""

    async def run(self) -> None:
        """A task body that owns every capture; runs until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                await asyncio.get_running_loop().create_future()
        finally:
            self._group = None

    @property
    def is_offered(self) -> bool:
        return self._driver.capabilities >= NEEDED

    async def choose(self, vm: VM, machine: Machine, manifest: Manifest, media: dict[str, Digest], *, is_first: bool) -> Choice:
        """How the resolved ``machine`` of ``vm`` is to begin; ``is_first``: it has written nothing yet that it must find again.

        Raises:
            Unavailable: only a template will do, and there cannot be one.
        """
        if vm.spec.start == "cold":
            return Choice(how="cold", reason="a cold start was asked for")
        if not machine.has_agent:
            return self._go_cold(vm, "its guest has no agent that could be told who it is")
        if not self.is_offered:
            return self._go_cold(vm, f"the driver {self._driver.name} cannot start clones")
        if not self._driver.capabilities_of(machine) >= NEEDED:
            return self._go_cold(vm, f"{machine.hypervisor} cannot start clones: it shares no memory between machines")
        for kind in self._kinds(vm, manifest, is_first=is_first):
            choice = await self._choose_kind(vm, machine, manifest, media, kind)
            if choice is not None:
                return choice
        raise AssertionError("the last kind always gives a choice")

    @contextlib.contextmanager
    def starting(self, key: str) -> Iterator[None]:
        """While the context lasts somebody starts from template ``key``, and nobody may remove it."""
        self._starting[key] += 1
        try:
            yield
        finally:
            self._starting[key] -= 1

    async def open(self, key: str) -> Path:
        """Where template ``key`` lies, verified since this volantd began.

        Raises:
            NotFound: there is none. ChecksumMismatch: it was damaged, and is gone now.
        """
        path = self.store.find(key)
        if path is None:
            raise NotFound(f"template {key[:12]} is not here")
        if key not in self._verified:
            try:
                await verify_saved(path)
            except ChecksumMismatch:
                await remove_saved(path)
                raise
            self._verified.add(key)
        self.store.mark_used(key, self._clock.now().timestamp())
        return path

    def capture(self, key: str, record: TemplateRecord, run: Run) -> None:
        """In the background, take template ``key`` from a run whose guest has heard of nobody yet; then let it go on."""
        run.busy = "template"
        self._promised.discard(key)

        async def work() -> None:
            try:
                async with asyncio.timeout(CAPTURE_TIMEOUT_S):
                    unfinished = await self._save(key, run)
            finally:
                run.let_go()
            await self.publish(key, record, unfinished)

        self.begin(key, work())

    def break_promise(self, key: str) -> None:
        """The start that was to leave template ``key`` behind came to nothing: let another do it."""
        if key in self._promised:
            self._promised.discard(key)
            self._on_change()

    def begin(self, key: str, work: Awaitable[None]) -> None:
        """Have ``work`` make template ``key``; what goes wrong with it is told to whoever asks for that template next."""
        assert self._group is not None, "the keeper runs before anything is captured"
        self._under_way[key] = self._group.create_task(self._make(key, work))

    async def make_now(self, key: str, build: Callable[[], Awaitable[None]]) -> None:
        """Return when template ``key`` is there; whoever makes it already is waited for.

        Raises:
            HostError: it could not be made.
        """
        self._failed.pop(key, None)
        if key not in self._under_way:
            self.begin(key, build())
        await asyncio.wait({self._under_way[key]})
        failed = self._failed.get(key)
        if failed is not None:
            raise HostError(failed[0])

    async def publish(self, key: str, record: TemplateRecord, unfinished: Path) -> None:
        try:
            write_record(unfinished / RECORD, record)
            size = await publish_saved(unfinished, self.store.path(key))
        except BaseException:
            await discard_saved(unfinished)
            raise
        self._verified.add(key)
        log.info("template_taken", key=key[:12], kind=record.kind, plugin=record.plugin, size_mib=size >> 20)

    def give_up(self, key: str, reason: str) -> None:
        """Do not start from template ``key`` for a while."""
        self._failed[key] = (reason, self._clock.monotonic() + RETRY_AFTER_S)
        self._verified.discard(key)

    def forget(self, key: str) -> None:
        self._verified.discard(key)

    async def evict(self, limit_bytes: int, keep: AbstractSet[str]) -> list[str]:
        """Remove the least recently used beyond ``limit_bytes``; never what is in ``keep`` or just being made."""
        gone = [entry.name for entry in await self.store.evict(limit_bytes, keep | set(+self._starting) | set(self._under_way))]
        self._verified -= set(gone)
        return gone

    async def list_templates(self, users: dict[str, int], loaded: Callable[[str], bool]) -> list[Template]:
        found = []
        for entry in await self.store.list_entries():
            record = read_record(entry.path / RECORD, TemplateRecord)
            saved = read_record(entry.path / "machine.json", _SavedShape)
            if record is None or saved is None:
                continue
            machine = saved.machine
            found.append(
                Template(
                    key=entry.name,
                    kind=record.kind,
                    plugin=record.plugin,
                    cpu_cores=machine.cpu_cores,
                    memory_mb=machine.memory_mib,
                    disk_mb=record.disk_mb,
                    accelerator=machine.accelerator,
                    hypervisor=f"{machine.hypervisor} {machine.hypervisor_build or machine.hypervisor_version}",
                    size_bytes=entry.size_bytes,
                    created_at=record.created_at,
                    used_at=format_time_of(entry.used_at),
                    users=users.get(entry.name, 0),
                    loaded=loaded(entry.name),
                )
            )
        return found

    def _kinds(self, vm: VM, manifest: Manifest, *, is_first: bool) -> tuple[TemplateKind, ...]:
        # A workload that runs already was started as the manifest says, with its environment, on a disk of its own.
        wants_ready = manifest.start.template == "ready" and not vm.spec.command and not vm.spec.env and is_first
        return ("ready", "booted") if wants_ready else ("booted",)

    async def _choose_kind(
        self, vm: VM, machine: Machine, manifest: Manifest, media: dict[str, Digest], kind: TemplateKind
    ) -> Choice | None:
        """None: this kind is not to be had now, and another will do."""
        key = derive_template_key(machine, media, vm.spec, manifest, kind, project=vm.meta.project)
        failed = self._failed.get(key)
        if failed is not None and failed[1] > self._clock.monotonic():
            return None if kind == "ready" else self._go_cold(vm, failed[0])
        reason = "there was no template yet"
        try:
            return Choice(how="template", key=key, kind=kind, path=await self.open(key))
        except NotFound:
            pass
        except ChecksumMismatch as error:
            reason = f"its template was damaged: {error}"
        must = vm.spec.start == "template"
        if key in self._under_way or key in self._promised:
            return Choice(how="wait", key=key, kind=kind) if kind == "booted" or must else None
        if kind == "booted" and not must:
            self._promised.add(key)
            return Choice(how="cold", reason=reason, key=key, kind=kind, capture=True)
        assert self.build is not None
        self.begin(key, self.build(vm, key, kind))
        return Choice(how="wait", key=key, kind=kind) if must else None

    def _go_cold(self, vm: VM, reason: str) -> Choice:
        if vm.spec.start == "template":
            raise Unavailable(f"it cannot start from a template: {reason}", hint="ask for --start auto to have it booted instead")
        return Choice(how="cold", reason=reason)

    async def _save(self, key: str, run: Run) -> Path:
        answered = await_echo(run.instance.connect_agent, self._clock, timeout_s=CAPTURE_TIMEOUT_S)
        await race(answered, _fail_when_ended(run))
        run.mark("answered")
        return await save_paused(run, self.store.path(key))

    async def _make(self, key: str, work: Awaitable[None]) -> None:
        try:
            await work
        except WrongState as error:
            # Somebody stopped the VM, or its guest ended by itself: the next start is as good.
            log.info("template_not_taken", key=key[:12], reason=str(error))
        except (VolantError, TimeoutError) as error:
            reason = str(error) or "it took too long"
            log.warning("template_failed", key=key[:12], error=reason)
            self.give_up(key, f"its template could not be made: {reason}")
        except Exception as error:  # the edge: a defect in making one template must not end the others
            log.exception("template_bug", key=key[:12])
            self.give_up(key, f"its template could not be made: {type(error).__name__}: {error}")
        finally:
            self._under_way.pop(key, None)
            self._on_change()


class _SavedShape(msgspec.Struct, frozen=True):
    machine: Machine


async def _fail_when_ended(run: Run) -> None:
    await run.instance.wait_ended()
    raise WrongState("its guest ended before it could be saved")


async def save_paused(run: Run, path: Path, *, resume: bool = True) -> Path:
    """Save a run's guest into a directory that is to become ``path``; the guest stands still meanwhile, and goes on afterwards
    unless it is not to."""
    unfinished = begin_saved(path)
    try:
        await run.instance.pause()
        run.paused = True
        try:
            await run.instance.save(unfinished)
        finally:
            if resume:
                await run.instance.resume()
                run.paused = False
    except BaseException:
        await discard_saved(unfinished)
        raise
    return unfinished


def format_time_of(seconds: float) -> str:
    return format_time(datetime.fromtimestamp(seconds, UTC))
