"""The driver named ``simulated``: VMs that cost nothing, on a host that outlives the drivers that look at it.

It keeps the contract of the real ones (locks, machine.json, endings that a later driver can ask for) and has time, faults and
guests in the hands of whoever made the host.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import msgspec

from volant.core.clock import Clock
from volant.core.errors import GuestUnreachable, Unavailable, WrongState
from volant.core.ids import Uid
from volant.hypervisor.driver import SAVED, Capability, Ending, Instance, MemoryUse, NotRestorable, RunState, Saved
from volant.hypervisor.machine import Files, Machine, Unit
from volant.hypervisor.record import read_record, write_record

FIRST_PID = 100_000
GUEST = "guest.json"
ALL_CAPABILITIES = frozenset({Capability.PAUSE, Capability.SNAPSHOT, Capability.SHARED_MEMORY, Capability.RESTORE_IN_PLACE})
VERSION = "1"

ServeAgent = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Step = Literal["launching", "locked", "recorded", "started", "pausing", "saving", "saved", "resuming"]
Fault = Callable[[Step, Machine], None]
"""Called at every step of a launch, or a restore, and of saving; what it raises fails that there. ``started`` comes after the
process runs."""


class AgentFactory(Protocol):
    """Makes what serves connections to a machine's agent; with ``saved``, that goes on from what its guest saved once."""

    def __call__(self, machine: Machine, saved: Mapping[str, Any] | None = None) -> ServeAgent: ...


class PoweredGuest(Protocol):
    on_power_off: Callable[[], None] | None

    def save(self) -> dict[str, Any]: ...


class SimulatedProcess:
    """One VM process of a simulated host."""

    def __init__(self, machine: Machine, pid: int, started_at: float, serve_agent: ServeAgent | None) -> None:
        self.machine = machine
        self.pid = pid
        self.started_at = started_at
        self.serve_agent = serve_agent
        self.is_gone = False
        self.is_paused = False
        self.ending: Ending | None = None
        self.ended = asyncio.Event()
        self.serving: set[asyncio.Task[None]] = set()

    def end(self, ending: Ending, *, is_gone: bool) -> None:
        """The first ending counts; a guest that powered off leaves a process that is cleared later."""
        if self.ending is None:
            self.ending = ending
            self.ended.set()
        self.is_gone = self.is_gone or is_gone
        if self.is_gone:
            for task in self.serving:
                task.cancel()


class SimulatedHost:
    """A host for simulated VMs. ``launch_delay_s`` passes on ``clock`` in every launch; ``agent_factory`` makes, for each
    machine that is powered on, what serves connections to its agent. When that has a ``guest`` with an ``on_power_off``,
    the host sets it and hears of the guest's power-off.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        agent_factory: AgentFactory | None = None,
        launch_delay_s: float = 0.0,
        fault: Fault | None = None,
    ) -> None:
        self.clock = clock
        self.agent_factory = agent_factory
        self.launch_delay_s = launch_delay_s
        self.fault = fault
        self.boot_id = 0
        self._pids = itertools.count(FIRST_PID)
        self._locked: set[Uid] = set()
        self._processes: dict[Uid, SimulatedProcess] = {}

    @property
    def running(self) -> dict[Uid, SimulatedProcess]:
        """The processes that there are, those of guests that powered off included."""
        return {uid: process for uid, process in self._processes.items() if not process.is_gone}

    def find(self, uid: Uid) -> SimulatedProcess | None:
        """The latest process of a VM, gone or not."""
        return self._processes.get(uid)

    async def start(self, unit: Unit, machine: Machine, saved: Mapping[str, Any] | None = None) -> SimulatedProcess:
        """As Driver.launch; with ``saved`` as Driver.restore."""
        self.check_fault("launching", machine)
        if self.is_locked(unit.uid):
            raise WrongState("something runs there already", hint="stop it first")
        self._locked.add(unit.uid)
        machine_file = unit.state / "machine.json"
        self._processes.pop(unit.uid, None)
        try:
            self.check_fault("locked", machine)
            write_record(machine_file, machine)
            self.check_fault("recorded", machine)
            await self.clock.sleep(self.launch_delay_s)
            process = self._run(machine, saved)
            try:
                self.check_fault("started", machine)
            except BaseException:
                process.end(Ending(kind="killed", message="its launch failed"), is_gone=True)
                raise
        except BaseException:
            self._processes.pop(unit.uid, None)
            machine_file.unlink(missing_ok=True)
            raise
        finally:
            self._locked.discard(unit.uid)
        return process

    def is_locked(self, uid: Uid) -> bool:
        return uid in self._locked or uid in self.running

    def power_off(self, uid: Uid) -> None:
        """The guest switches itself off."""
        self._get(uid).end(Ending(kind="powered_off", message="the guest powered off"), is_gone=False)

    def reset(self, uid: Uid) -> None:
        """The guest reboots, or its kernel panics."""
        self._get(uid).end(Ending(kind="reset", message="the guest rebooted or its kernel panicked"), is_gone=False)

    def crash(self, uid: Uid, *, exit_status: int | None = None, signal: int | None = None) -> None:
        """The VM process ends by itself, or somebody kills it."""
        how = f"was ended by signal {signal}" if signal is not None else f"ended by itself with status {exit_status}"
        ending = Ending(kind="crashed", message=f"the VM process {how}", exit_status=exit_status, signal=signal)
        self._get(uid).end(ending, is_gone=True)

    def reboot(self) -> None:
        """The whole host loses its power: every process is gone, and none left an account."""
        self.boot_id += 1
        for process in self.running.values():
            process.end(Ending(kind="lost", message="the host was rebooted"), is_gone=True)

    async def close(self) -> None:
        """End everything that serves agents."""
        tasks = [task for process in self._processes.values() for task in process.serving]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def check_fault(self, step: Step, machine: Machine) -> None:
        if self.fault is not None:
            self.fault(step, machine)

    def _run(self, machine: Machine, saved: Mapping[str, Any] | None) -> SimulatedProcess:
        serve_agent = self.agent_factory(machine, saved) if self.agent_factory is not None else None
        process = SimulatedProcess(machine, next(self._pids), self.clock.now().timestamp(), serve_agent)
        process.is_paused = saved is not None
        self._processes[machine.uid] = process
        guest = cast("PoweredGuest | None", getattr(serve_agent, "guest", None))
        if guest is not None and hasattr(guest, "on_power_off"):
            guest.on_power_off = lambda: process.end(Ending(kind="powered_off", message="the guest powered off"), is_gone=False)
        return process

    def _get(self, uid: Uid) -> SimulatedProcess:
        process = self.running.get(uid)
        if process is None:
            raise WrongState("nothing runs there")
        return process


class SimulatedInstance:
    """Implements ``Instance``."""

    def __init__(self, host: SimulatedHost, process: SimulatedProcess) -> None:
        self._host = host
        self._process = process

    @property
    def machine(self) -> Machine:
        return self._process.machine

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def started_at(self) -> float:
        return self._process.started_at

    async def wait_ended(self) -> Ending:
        await self._process.ended.wait()
        assert self._process.ending is not None
        return self._process.ending

    async def connect_agent(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        process = self._process
        if process.is_gone:
            raise GuestUnreachable("the VM process has ended")
        if process.serve_agent is None:
            raise GuestUnreachable("this simulated guest has no agent")
        if process.is_paused:
            raise GuestUnreachable("the guest is paused")
        ours, theirs = socket.socketpair()
        # The guest's work goes on whoever looks at it, so it belongs to the process and ends with it.
        task = asyncio.get_running_loop().create_task(_serve(process.serve_agent, theirs))
        process.serving.add(task)
        task.add_done_callback(process.serving.discard)
        # A task that is cancelled before its first step closes nothing itself.
        task.add_done_callback(lambda _: theirs.close())
        return await asyncio.open_connection(sock=ours)

    async def query_state(self) -> RunState:
        if self._process.ending is not None:
            return "ended"
        return "paused" if self._process.is_paused else "running"

    async def pause(self) -> None:
        self._check_alive()
        self._host.check_fault("pausing", self.machine)
        self._process.is_paused = True
        # A guest that stands still serves nobody, and its host ends the connections before it is saved.
        await self._end_serving()

    async def resume(self) -> None:
        self._check_alive()
        self._host.check_fault("resuming", self.machine)
        self._process.is_paused = False

    async def save(self, directory: Path) -> Saved:
        self._check_alive()
        if not self._process.is_paused:
            raise WrongState("the guest runs")
        self._host.check_fault("saving", self.machine)
        guest = cast("PoweredGuest | None", getattr(self._process.serve_agent, "guest", None))
        write_record(directory / GUEST, {} if guest is None else guest.save())
        size = (directory / GUEST).stat().st_size
        saved = Saved(machine=self.machine, is_whole=not self.machine.base, memory_bytes=size, state_bytes=0)
        write_record(directory / SAVED, saved)
        self._host.check_fault("saved", self.machine)
        return saved

    async def measure_memory(self) -> MemoryUse:
        if self._process.is_gone:
            raise Unavailable("the VM process is gone")
        return MemoryUse(guest_private_bytes=0, guest_shared_bytes=0, private_bytes=0, shared_bytes=0, cpu_s=0.0)

    async def destroy(self) -> None:
        self._process.end(Ending(kind="killed", message="the VM process was ended by volantd"), is_gone=True)
        await self._end_serving()

    async def close(self) -> None:
        """Nothing is held."""

    async def _end_serving(self) -> None:
        for task in self._process.serving:
            task.cancel()
        await asyncio.gather(*self._process.serving, return_exceptions=True)

    def _check_alive(self) -> None:
        if self._process.ending is not None:
            raise WrongState("the guest has ended")


class SimulatedDriver:
    """Implements ``Driver`` on ``host``. A new driver on the same host stands for a volantd that was started again."""

    def __init__(self, host: SimulatedHost, *, capabilities: AbstractSet[Capability] = ALL_CAPABILITIES) -> None:
        self._host = host
        self._capabilities = frozenset(capabilities)

    @property
    def name(self) -> str:
        return "simulated"

    @property
    def version(self) -> str:
        return VERSION

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self._capabilities

    async def resolve(self, machine: Machine) -> Machine:
        return msgspec.structs.replace(
            machine,
            hypervisor=self.name,
            hypervisor_version=VERSION,
            hypervisor_build=VERSION,
            machine_type="simulated",
            accelerator="none",
            cpu_model="simulated",
        )

    async def launch(self, unit: Unit, machine: Machine, files: Files) -> Instance:
        return SimulatedInstance(self._host, await self._host.start(unit, machine))

    async def restore(self, unit: Unit, machine: Machine, files: Files, saved: Path, base: Path | None = None) -> Instance:
        record = read_record(saved / SAVED, Saved)
        guest = read_record(saved / GUEST, dict[str, Any])
        if record is None or guest is None:
            raise NotRestorable(f"nothing that was saved lies in {saved}")
        if (record.machine.memory_mib, record.machine.cpu_cores) != (machine.memory_mib, machine.cpu_cores):
            raise NotRestorable("it was saved of a machine of another shape")
        if record.machine.disks != machine.disks:
            raise NotRestorable("it was saved with other disks")
        if not record.is_whole and record.machine.base != machine.base:
            raise NotRestorable("the memory that it stands on is another")
        return SimulatedInstance(self._host, await self._host.start(unit, machine, guest))

    def is_base_held(self, key: str) -> bool:
        return False

    async def release_bases(self, keep: AbstractSet[str]) -> None:
        """Nothing is held."""

    async def adopt(self, unit: Unit) -> Instance | Ending | None:
        process = self._host.find(unit.uid)
        if process is not None and not process.is_gone:
            return SimulatedInstance(self._host, process)
        if read_record(unit.state / "machine.json", Machine) is None:
            return None
        return process.ending if process is not None else None


async def _serve(serve_agent: ServeAgent, end: socket.socket) -> None:
    reader, writer = await asyncio.open_connection(sock=end)
    try:
        await serve_agent(reader, writer)
    finally:
        writer.transport.abort()
