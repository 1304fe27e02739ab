"""The VMs of this host: what runs, in whose hands, and how to reach inside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from volant.core.clock import Clock
from volant.core.errors import VolantError, WrongState
from volant.core.ids import Digest, Uid
from volant.core.limits import Limits
from volant.core.security import ProcessSecurity
from volant.guest.farewell import Farewell
from volant.guest.pace import PingPace
from volant.hypervisor.driver import Driver, Ending, Instance
from volant.hypervisor.machine import Files, Machine
from volant.node.door import Check, Inspection, LogLine, TemplateDoor, VMStats
from volant.node.farewell import read_farewell
from volant.node.inspect import inspect_unit
from volant.node.logs import read_logs
from volant.node.run import Run
from volant.node.stats import Meter
from volant.node.talk import TalkingNode
from volant.node.unit import Places, new_secret, read_former, read_identity, read_secret
from volant.observe.logstore import LogStore
from volant.volume.saved import is_saved

log = structlog.get_logger()


class Artifacts(Protocol):
    """What this room needs of the artifact store."""

    async def put(self, content: AsyncIterator[bytes], digest: Digest, max_bytes: int = ...) -> int: ...

    def size(self, digest: Digest) -> int | None: ...

    async def list(self) -> dict[Digest, int]: ...

    async def list_older(self, than: float) -> dict[Digest, int]: ...

    async def remove(self, digest: Digest) -> None: ...


class Ended(msgspec.Struct, frozen=True):
    """The latest run is over and this is how."""

    run_id: str
    ending: Ending


class Asleep(msgspec.Struct, frozen=True):
    """Nothing runs; what was saved of the guest lies on the disk, and it can go on from there."""

    path: Path


class LocalNode(TalkingNode):
    """Keeps one Run for each VM process. Implements NodeDoor for the API and gives the reconcilers their hands."""

    def __init__(
        self,
        *,
        driver: Driver,
        places: Places,
        artifacts: Artifacts,
        clock: Clock,
        on_change: Callable[[Uid], None],
        check_host: Callable[[], Awaitable[list[Check]]],
        client: str = "volantd",
    ) -> None:
        self.driver = driver
        self.places = places
        self._artifacts = artifacts
        super().__init__(clock)
        self._on_change = on_change
        self._client = client
        self._check_host = check_host
        self._meter = Meter(clock)
        self._runs: dict[Uid, Run] = {}
        self._pace = PingPace(lambda: len(self._runs))
        self._logs: dict[Uid, LogStore] = {}
        self._in_hand: set[Uid] = set()
        self._turned_away: set[Uid] = set()
        self._group: asyncio.TaskGroup | None = None
        self._templates: TemplateDoor | None = None
        self._ready = asyncio.Event()

    async def run(self) -> None:
        """A task body that owns every Run's tasks; when it is cancelled it lets go of the VMs, which go on."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._ready.set()
                await asyncio.get_running_loop().create_future()
        finally:
            self._group = None
            for run in self._runs.values():
                await run.instance.close()
            for store in self._logs.values():
                store.close()
            self._runs.clear()
            self._logs.clear()

    async def wait_running(self) -> None:
        """Return once ``run`` can tend VMs."""
        await self._ready.wait()

    def is_in_hand(self, uid: Uid) -> bool:
        """True while somebody changes or copies what there is of a VM; who asks is told of a change when that is over."""
        if uid in self._in_hand:
            self._turned_away.add(uid)
            return True
        return False

    @contextmanager
    def in_hand(self, uid: Uid) -> Iterator[None]:
        """While the context lasts nobody else may. Without an await between, ``is_in_hand`` was asked and said no."""
        assert uid not in self._in_hand, "somebody has it in hand"
        self._in_hand.add(uid)
        try:
            yield
        finally:
            self._in_hand.discard(uid)
            if uid in self._turned_away:
                self._turned_away.discard(uid)
                self._on_change(uid)

    async def find(self, uid: Uid) -> Run | Ended | Asleep | None:
        """What there is of a VM: a Run (adopted when an earlier volantd launched it), a guest that sleeps, how its latest run
        ended, or None."""
        run = self._runs.get(uid)
        if run is not None:
            return run
        unit = self.places.unit(uid)
        if not unit.state.is_dir():
            return None
        found = await self.driver.adopt(unit)
        if is_saved(self.places.saved(uid)):
            if found is not None and not isinstance(found, Ending):
                # It has not run since it was saved, or the saved would be gone.
                await found.destroy()
                await found.close()
            return Asleep(self.places.saved(uid))
        if found is None:
            return None
        if isinstance(found, Ending):
            machine = _read_machine(unit.state / "machine.json")
            return None if machine is None else Ended(machine.run_id, found)
        paused = await _is_paused(found)
        log.info("vm_adopted", name=found.machine.name, pid=found.pid, paused=paused)
        run = self._tend(uid, found, read_secret(unit), held=paused)
        run.paused = paused
        return run

    async def launch(self, uid: Uid, machine: Machine, files: Files, *, held: bool = False) -> Run:
        """Start a machine and tend it; ``held``: without talking to its guest. Raises what Driver.launch raises."""
        unit = self.places.make(uid)
        instance = await self.driver.launch(unit, machine, files)
        # Only now: a launch that was refused must not change the secret of what runs there.
        run = self._tend(uid, instance, new_secret(unit), held=held)
        run.mark("launched")
        return run

    async def restore(
        self, uid: Uid, machine: Machine, files: Files, saved: Path, base: Path | None = None, *, as_new: bool
    ) -> Run:
        """Start a machine as what was saved; the Run is held, its guest paused. ``as_new``: it is to become another machine
        than the one that was saved, and has no secret yet. Raises what Driver.restore raises."""
        unit = self.places.make(uid)
        instance = await self.driver.restore(unit, machine, files, saved, base)
        run = self._tend(uid, instance, new_secret(unit) if as_new else read_secret(unit), held=True)
        if not as_new:
            run.link.set_secret(read_secret(unit))
        run.paused = True
        run.mark("launched")
        return run

    async def forget(self, uid: Uid) -> None:
        """End the process of a guest that was saved; what was saved of it stays."""
        run = self._runs.pop(uid, None)
        if run is not None:
            await run.instance.destroy()
            await run.finish()

    async def destroy(self, uid: Uid) -> None:
        """End whatever runs for ``uid`` and forget it. Does nothing when nothing does."""
        run = self._runs.get(uid)
        if run is None:
            found = await self.find(uid)
            if not isinstance(found, Run):
                return
            run = found
        await run.instance.destroy()
        await run.finish()
        self._runs.pop(uid, None)

    def read_farewell(self, uid: Uid) -> Farewell | None:
        """What the guest of the latest run left behind about its end, for whoever did not hear it from its agent.

        Raises:
            HostError: it cannot be read.
        """
        return read_farewell(self.places, uid)

    async def release(self, uid: Uid) -> None:
        """Remove everything that this host holds of a VM: process, disk, logs, sockets. Repeatable."""
        await self.destroy(uid)
        store = self._logs.pop(uid, None)
        if store is not None:
            store.finish()
        await asyncio.to_thread(self.places.clear, uid)

    def logs_of(self, uid: Uid) -> LogStore:
        store = self._logs.get(uid)
        if store is None:
            store = self._logs[uid] = LogStore(self.places.logs(uid))
        return store

    def _tend(self, uid: Uid, instance: Instance, secret: bytes, *, held: bool) -> Run:
        if self._group is None:
            raise WrongState("this node is not running")
        run = Run(
            instance,
            secret,
            self.logs_of(uid),
            self._clock,
            lambda: self._on_change(uid),
            client=self._client,
            former=read_former(self.places.unit(uid)),
            identity=read_identity(self.places.unit(uid)),
            held=held,
            pace=self._pace,
        )
        self._runs[uid] = run
        run.start(self._group)
        return run

    # The door

    def read_logs(
        self, uid: Uid, *, tail: int | None = None, since: str | None = None, previous: bool = False, follow: bool = False
    ) -> AsyncIterator[LogLine]:
        run = self._runs.get(uid)
        if run is not None and not run.instance.machine.has_agent:
            raise WrongState(
                "the VM's guest has no agent that would collect a log", hint="volar vms console shows what it prints"
            )
        return read_logs(self.logs_of(uid), tail=tail, since=since, previous=previous, follow=follow)

    async def put_artifact(self, digest: Digest, content: AsyncIterator[bytes]) -> int:
        return await self._artifacts.put(content, digest)

    async def artifact_size(self, digest: Digest) -> int | None:
        return self._artifacts.size(digest)

    async def list_artifacts(self, *, older_than_s: float = 0.0) -> dict[Digest, int]:
        if not older_than_s:
            return await self._artifacts.list()
        return await self._artifacts.list_older(self._clock.now().timestamp() - older_than_s)

    async def remove_artifacts(self, digests: Iterable[Digest]) -> set[Digest]:
        gone = set()
        for digest in digests:
            await self._artifacts.remove(digest)
            if self._artifacts.size(digest) is None:
                gone.add(digest)
        return gone

    async def check_host(self) -> list[Check]:
        return await self._check_host()

    async def read_security(self, uid: Uid) -> ProcessSecurity:
        return await self._find_running(uid).instance.inspect()

    async def inspect(self, uid: Uid) -> Inspection:
        run = self._runs.get(uid)
        return await inspect_unit(self.places, uid, run if run is not None and run.ending is None else None)

    async def apply_limits(self, uid: Uid, limits: Limits) -> None:
        """Hold what runs of a VM to ``limits`` from now on. What this host cannot keep of them, the log says.

        Raises:
            WrongState: nothing runs, or it has more memory now than it would be allowed.
        """
        run = self._find_running(uid)
        lacking = await run.instance.apply_limits(limits)
        if lacking:
            log.warning("not_limited", name=run.instance.machine.name, reasons=lacking)

    async def read_stats(self, uid: Uid) -> VMStats:
        run = self._find_running(uid)
        return await self._meter.read(run)

    def _find_running(self, uid: Uid) -> Run:
        run = self._runs.get(uid)
        if run is not None and run.ending is None:
            return run
        if is_saved(self.places.saved(uid)):
            raise WrongState("the VM is suspended", hint="volar vms resume NAME")
        raise WrongState("the VM does not run", hint="volar vms start NAME")

    @property
    def templates(self) -> TemplateDoor:
        assert self._templates is not None, "the composition root opens this door"
        return self._templates

    def open_templates(self, door: TemplateDoor) -> None:
        self._templates = door


async def _is_paused(instance: Instance) -> bool:
    try:
        return await instance.query_state() == "paused"
    except VolantError:
        return False  # one that does not answer now is looked at as one that runs, and its silence shows


def _read_machine(path: Path) -> Machine | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Machine)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
