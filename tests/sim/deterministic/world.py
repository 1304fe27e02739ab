"""One simulated machine: its disk, its VMs and its wires, the volantd that runs on it now, and what is true of its registry."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import errno
import hashlib
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from litestar import Litestar

from volant import __version__
from volant.api.app import build_app
from volant.artifact.store import ArtifactStore
from volant.config import Config
from volant.core.errors import Compacted, VolantError
from volant.core.ids import Digest, RunId, Uid
from volant.core.leader import LEADER
from volant.core.types import prepare_all_types
from volant.guest.simulated_agent import SimulatedAgent, make_agent_factory
from volant.guest.simulated_types import Machinelike
from volant.host import Hands, prepare_saved
from volant.hypervisor.machine import Machine, Unit
from volant.hypervisor.simulated import SimulatedDriver, SimulatedHost
from volant.hypervisor.simulated_host import SimulatedProcess
from volant.net.plan import NetworkPlan
from volant.net.simulated import SimulatedFabric
from volant.node.unit import Places
from volant.plane import ControlPlane
from volant.store.changelog import read_page
from volant.store.contract import Batch, Change, Key
from volant.store.sqlite import SqliteStore, open_store
from volant.volume.saved import SavedStore
from volant.volume.simulated import SimulatedDisks

from .boundary import FaultyDriver, FaultyFabric, FaultyStore, HostSide, Written
from .clock import LoopClock
from .faults import Faults, fail_host
from .guest import Guest
from .incarnation import ASKED_BY, Incarnation, bury
from .invariants import Changed, Invariants
from .job_invariants import JobInvariants
from .limit_invariants import NodeInvariants, QuotaInvariants
from .loop import SimulatedLoop
from .registry import Broken, Registry
from .trace import Trace

CONTENT = b"a kernel, an initramfs and a root, all in one"
FOREIGN_UID = Uid("f" * 32)
FOREIGN_BRIDGE = "br-foreign"
NODE = "here"
CAN_BE_FULL = ("_copy_open", "_finish", "_link_files", "_rename", "_sync", "copy_sparse", "Path.rename")
"""Functions in threads that write to the disk."""

ELSEWHERE = "elsewhere"
KEEPER_S = 10.0
"""Longer than its writer is ever slow."""

RESTART_S = 1.0
"""What restarts volantd waits this long, as a service manager would."""

_app: list[Litestar] = []
"""The application, built once: its routes are the same in every life."""


class World:
    def __init__(self, loop: SimulatedLoop, root: Path, seed: int, *, echo: Callable[[str], None] | None = None) -> None:
        self.loop = loop
        self.root = root
        self.source = random.Random(f"{seed} world")
        self.trace = Trace(loop.time, echo=echo)
        self.clock = LoopClock(loop)
        self.faults = Faults(random.Random(f"{seed} faults"), self.trace, self.kill_soon)
        self.registry = Registry()
        self.node_invariants = NodeInvariants(self.registry, self.clock)
        self.quota_invariants = QuotaInvariants(self.registry, self.clock)
        self.invariants = Invariants(self.registry, self.clock, self.node_invariants.may_evict)
        self.ended_well: dict[str, None] = {}
        """Uids of VMs whose workload ended by itself, with status 0."""
        self.job_invariants = JobInvariants(self.registry, self.clock, self.ended_well.__contains__)
        self.outside = contextvars.copy_context()
        self.host = SimulatedHost(self.clock, agent_factory=make_agent_factory(self.clock, self._make_guest))
        self.host.fault = self._fail_launch
        self.fabric = SimulatedFabric()
        self.config = Config(data_dir=str(root), runtime_dir=str(root / "run"), hypervisor="simulated", node=NODE)
        self.places = Places(data=root, runtime=root / "run")
        self.digest = Digest("sha256:" + hashlib.sha256(CONTENT).hexdigest())
        self.current: Incarnation | None = None
        self.kept: SqliteStore | None = None
        """The store of the volantd that runs now."""
        self.is_usurped = False
        """Whether another node has led; the keeper says whether it does still."""
        self._usurping: asyncio.Task[None] | None = None
        self.app: Litestar | None = None
        self.plane: ControlPlane | None = None
        self.failure: BaseException | None = None
        self.lives = 0
        self.restarts_by_itself = True
        self.planted: Callable[[ControlPlane, FaultyStore], None] = lambda plane, store: None
        """A defect that a test puts into each volantd."""
        self._writing: list[tuple[str, Written]] = []
        self._left: list[asyncio.Task[Any]] = []
        self._supervising: asyncio.Task[None] | None = None
        loop.thread_delay = self._delay_thread

    # The host

    def _make_guest(self, machine: Machinelike) -> Guest:
        draw = self.source.random
        slow = draw() < 0.1
        guest = Guest(
            self.clock,
            boot_s=0.1 + draw() * (10.0 if slow else 0.5),
            healthy_after_s=draw() * (20.0 if slow else 1.0),
            stop_s=draw() * (8.0 if slow else 0.5),
        )
        guest.on_end = lambda: self.ended_well.setdefault(machine.uid)
        guest.network.ask = self.fabric.find_lease
        return guest

    def guest_of(self, process: SimulatedProcess) -> Guest | None:
        agent = process.serve_agent
        return agent.guest if isinstance(agent, SimulatedAgent) and isinstance(agent.guest, Guest) else None

    def _fail_launch(self, step: str, machine: Machine) -> None:
        if machine.uid == FOREIGN_UID:
            return
        self.faults.maybe_kill(f"launch {step}")
        if self.faults.strike("host_fails", f"launch {step}"):
            raise fail_host(f"launch {step}")

    def _fail_disk(self, step: str) -> None:
        self.faults.maybe_kill(f"disk {step}")
        if self.faults.strike("host_fails", f"disk {step}"):
            raise fail_host(f"disk {step}")

    def _delay_thread(self, name: str) -> float:
        self.faults.maybe_kill(f"thread {name}")
        if name in CAN_BE_FULL and self.faults.strike("thread_fails", f"thread {name}"):
            raise OSError(errno.ENOSPC, "injected: no space left on device")
        return self.faults.delay_s("thread_slow", f"thread {name}")

    async def prepare(self) -> None:
        """The files of the one plugin, and what is on this host and none of volantd's."""

        async def content() -> AsyncIterator[bytes]:
            yield CONTENT

        prepare_all_types()
        artifacts = ArtifactStore(self.root / "artifacts")
        await artifacts.prepare()
        await artifacts.put(content(), self.digest)
        foreign = Unit(uid=FOREIGN_UID, state=self.root.parent / f"{self.root.name}-foreign", sockets=self.root.parent)
        foreign.state.mkdir()
        machine = Machine(
            name="somebody-elses", uid=FOREIGN_UID, run_id=RunId("0" * 32), slot=60_000, hypervisor="simulated", cpu_cores=1,
            memory_mib=64, kernel=self.digest, initramfs=self.digest, kernel_cmdline="",
        )  # fmt: skip
        await self.host.start(foreign, machine)
        await self.fabric.ensure_network(NetworkPlan(bridge=FOREIGN_BRIDGE, gateway="192.0.2.1", prefix_length=24))

    def check_foreign(self) -> None:
        process = self.host.running.get(FOREIGN_UID)
        if process is None or process.ending is not None or process.is_paused:
            raise Broken("somebody else's VM was touched")
        if FOREIGN_BRIDGE not in self.fabric.networks:
            raise Broken("somebody else's bridge was removed")

    # volantd

    def start(self) -> None:
        self._supervising = self.loop.create_task(self._supervise(), name="supervisor")

    async def _supervise(self) -> None:
        """Keep a volantd running, as a service manager does."""
        while self.failure is None:
            self.lives += 1
            life = self.current = Incarnation(self.lives)
            self.trace.add(f"volantd {life.number} starts")
            main = self.loop.create_task(self._run_volantd(life), name=f"volantd-{life.number}", context=life.context.copy())
            death = self.loop.create_task(life.died.wait())
            await asyncio.wait((main, death), return_when=asyncio.FIRST_COMPLETED)
            death.cancel()
            if main.done():
                life.end()
                error = main.exception()
                if error is not None:
                    self.trace.add(f"volantd {life.number} ended: {type(error).__name__}: {error}")
                    if life.ready.is_set() or not isinstance(error, VolantError):
                        self.fail(error)
                        return
            self.app = self.plane = None
            await asyncio.sleep(RESTART_S)

    async def _run_volantd(self, life: Incarnation) -> None:
        async with open_store(self.root / "volant.db", self.clock, run_soon=self._run_writer) as kept:
            life.lose_at_death(lambda: _close_files(kept))
            self._follow_commits(kept)
            self.kept = kept
            store = FaultyStore(kept, self.faults, self._note_writing)
            side = HostSide(self.faults, life, self.outside)
            hands = Hands(
                driver=FaultyDriver(SimulatedDriver(self.host), side),
                fabric=FaultyFabric(self.fabric, side),
                disks=SimulatedDisks(before=self._fail_disk),
                artifacts=ArtifactStore(self.root / "artifacts"),
                places=self.places,
                templates=SavedStore(self.places.templates),
                snapshots=SavedStore(self.places.snapshots),
            )
            await hands.artifacts.prepare()
            await prepare_saved(hands)
            await hands.fabric.open()
            plane = ControlPlane(self.config, store, self.clock, hands)
            self._lose_events(plane)
            self.planted(plane, store)
            await plane.register()
            async with plane.running():
                self.plane, self.app = plane, _application(plane)
                life.ready.set()
                self.trace.add(f"volantd {life.number} is ready")
                await life.stopping.wait()
                self.app = self.plane = None
            await hands.fabric.close()

    def _run_writer(self, work: Callable[[], None]) -> None:
        self.loop.call_later(self.faults.delay_s("store_slow", "store writer"), work)

    def _lose_events(self, plane: ControlPlane) -> None:
        """A look that nobody makes costs one resync, no more."""
        for engine in (*plane.engines, *plane.leader.engines):
            engine.look = self._losing(engine.look)  # type: ignore[method-assign]  # a fault
            engine._on_change = self._losing(engine._on_change)  # type: ignore[method-assign]  # a fault

    def _losing(self, function: Callable[..., None]) -> Callable[..., None]:
        def call(*args: Any, **kwargs: Any) -> None:
            if not self.faults.strike("event_lost", getattr(function, "__name__", "")):
                function(*args, **kwargs)

        return call

    def kill_soon(self, why: str) -> None:
        """SIGKILL, when the callback that runs now has ended."""
        life = self.current
        if life is not None and not life.is_gone:
            self.loop.call_soon(self._kill, life, why, context=self.outside.copy())

    def _kill(self, life: Incarnation, why: str) -> None:
        if life.is_gone:
            return
        self.trace.add(f"volantd {life.number} is killed: {why}")
        self.app = self.plane = None
        self._left += life.die()
        self.loop.drop(life)
        self._writing.clear()

    async def usurp(self, seconds: float) -> None:
        """Have another node hold the leader's lease for a while, as if volantd had been away for too long."""

        async def take(kept: SqliteStore) -> None:
            self.is_usurped = False
            await kept.release_lease(LEADER, NODE)
            await kept.grant_lease(LEADER, ELSEWHERE, seconds)
            self.is_usurped = True
            self.trace.add(f"mischief: somebody else leads for {seconds:g} s")

        async def give_back() -> None:
            # By itself a lease lasts for as long as the wall clock says, which jumps.
            await asyncio.sleep(seconds)
            while True:
                if await self._ask_keeper(lambda kept: kept.release_lease(LEADER, ELSEWHERE)):
                    return
                await asyncio.sleep(1.0)

        if await self._ask_keeper(take):
            self._usurping = self.loop.create_task(give_back(), name="usurper")

    async def _ask_keeper(self, ask: Callable[[SqliteStore], Coroutine[Any, Any, None]]) -> bool:
        """Whether what was asked of the store that there is now was done; it may vanish meanwhile."""
        life, kept = self.current, self.kept
        if life is None or kept is None or life.is_gone or not life.ready.is_set():
            return False
        asking = self.loop.create_task(ask(kept), context=life.context.copy())
        await asyncio.wait((asking,), timeout=KEEPER_S)
        return asking.done() and not asking.cancelled() and asking.exception() is None

    async def stop_volantd(self) -> None:
        """SIGTERM, and wait."""
        life = self.current
        if life is not None and not life.is_gone and life.ready.is_set():
            self.trace.add(f"volantd {life.number} is told to stop")
            life.stopping.set()
            await life.died.wait()

    async def close(self) -> None:
        if self._supervising is not None:
            self._supervising.cancel()
            await asyncio.gather(self._supervising, return_exceptions=True)
        if self.current is not None:
            self._kill(self.current, "the end")
        await self.host.close()
        await asyncio.sleep(0)
        bury(self._left)

    def fail(self, error: BaseException) -> None:
        """The first failure counts."""
        if self.failure is None:
            self.failure = error
            self.trace.add(f"BROKEN {type(error).__name__}: {error}")

    # The registry

    @contextlib.contextmanager
    def _note_writing(self, written: Written) -> Iterator[None]:
        noted = (ASKED_BY.get(), written)
        self._writing.append(noted)
        try:
            yield
        finally:
            if noted in self._writing:
                self._writing.remove(noted)

    def _follow_commits(self, store: SqliteStore) -> None:
        """Look at every transaction at the moment at which it is durable, and first at those that a death hid."""
        writer = store._writer
        tell = writer._committed

        def heard(before: int, after: int, kinds: frozenset[str]) -> None:
            self._take_in(store)
            tell(before, after, kinds)

        self._take_in(store)
        self._compare(store)
        writer._committed = heard

    def _take_in(self, store: SqliteStore) -> None:
        is_done = False
        while not is_done:
            try:
                page = read_page(store._opened.reader, self.registry.revision, None)
            except Compacted:
                # The clock jumped, and the log was cleared in the group in which the last of it was written.
                self._take_in_anew(store)
                return
            for batch in page.batches:
                done_now = {change.key: change.data if change.type == "put" else None for change in batch.changes}
                asked = next((noted for noted in self._writing if noted[1] == done_now), None)
                if asked is not None:
                    self._writing.remove(asked)
                try:
                    changed = self.registry.take_in(batch)
                    self._check_leader(store, changed, None if asked is None else asked[0])
                    for key, _old, new in changed:
                        self.trace.add(f"  {batch.revision} {_describe(key, new)}")
                    for invariants in self._all_invariants:
                        invariants.check(changed, None if asked is None else asked[0])
                    self.check_foreign()
                except Exception as error:  # noqa: BLE001  # ours: whoever committed must not suffer for it
                    self.fail(error)
                    return
            is_done = page.caught_up

    def _take_in_anew(self, store: SqliteStore) -> None:
        """All that there is, where the log does not say what became of it in between: no promise is judged by that."""
        found = _read_records(store)
        changes = [Change("put", key, data) for key, data in found.items() if self.registry.records.get(key) != data]
        changes += [Change("delete", key, data) for key, data in self.registry.records.items() if key not in found]
        (revision,) = next(store._opened.reader.execute("SELECT revision FROM state"))
        self.trace.add(f"  {revision} the log was cleared before it was read")
        changed = self.registry.take_in(Batch(revision, tuple(sorted(changes, key=lambda change: change.key))))
        for invariants in self._all_invariants:
            with contextlib.suppress(Broken):
                invariants.check(changed, None)

    def _check_leader(self, store: SqliteStore, changed: Sequence[Changed], by: str | None) -> None:
        """Only a leader makes replicas and runs."""
        made = [key for key, old, new in changed if key.kind == "VM" and old is None and new is not None and new["meta"]["owner"]]
        if made and by == "" and self.is_usurped:
            holders = store._opened.reader.execute("SELECT holder FROM leases WHERE name = ?", (LEADER,))
            if [*holders] == [(ELSEWHERE,)]:
                raise Broken(f"{made[0]} was made by a node that does not lead")

    @property
    def _all_invariants(self) -> tuple[Invariants, JobInvariants, QuotaInvariants, NodeInvariants]:
        return self.invariants, self.job_invariants, self.quota_invariants, self.node_invariants

    def _compare(self, store: SqliteStore) -> None:
        """What was committed is there after any end of volantd, and nothing else."""
        found = _read_records(store)
        wrong = sorted(key for key in {*found, *self.registry.records} if found.get(key) != self.registry.records.get(key))
        if wrong:
            told = ", ".join(map(str, wrong[:5]))
            self.fail(Broken(f"after a restart the store holds something else than was committed: {told}"))


def _application(plane: ControlPlane) -> Litestar:
    if not _app:
        _app.append(build_app(plane.intents, plane.node, __version__))
    app = _app[0]
    app.state.intents, app.state.door, app.state.stopping = plane.intents, plane.node, asyncio.Event()
    return app


def _read_records(store: SqliteStore) -> dict[Key, dict[str, Any]]:
    rows = store._opened.reader.execute("SELECT kind, project, name, data FROM records")
    return {Key(kind, project, name): msgspec.json.decode(data) for kind, project, name, data in rows}


def _close_files(store: SqliteStore) -> None:
    with contextlib.suppress(Exception):
        store._opened.close()


def _describe(key: Key, data: dict[str, Any] | None) -> str:
    if data is None:
        return f"- {key}"
    spec, status = data.get("spec", {}), data.get("status", {})
    if key.kind == "Event":
        return f"+ Event {spec['about_kind']}/{spec['about_name']} {spec['reason']}: {spec['message']}"
    words = [str(key)]
    for part, field in ((spec, "power"), (spec, "replicas"), (spec, "target"), (status, "phase"), (status, "reason")):
        if part.get(field) not in (None, ""):
            words.append(f"{field}={part[field]}")
    if key.kind == "Deployment":
        told = {**spec["strategy"], "budget": spec["budget"], "wanted": status["wanted"], "serving": status["serving"]}
        words.append(" ".join(f"{field}={value}" for field, value in told.items() if value))
        if status["disrupted"]:
            words.append(f"disrupted={len(status['disrupted'])}")
        words.append(f"rollout={status['rollout']['phase']} has={status['replicas']}/{status['updated']}/{status['available']}")
    if status.get("ready"):
        words.append("ready")
    if data["meta"].get("deleting_at"):
        words.append("deleting")
    return "+ " + " ".join(words)
