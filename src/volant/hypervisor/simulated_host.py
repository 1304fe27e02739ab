"""The host of simulated VMs: processes that outlive the drivers that look at them, with time, faults and guests in the hands of
whoever made it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, Protocol, cast

from volant.core.clock import Clock
from volant.core.errors import WrongState
from volant.core.ids import Uid
from volant.core.limits import Limits
from volant.hypervisor.driver import DiskCounters, Ending, NetworkCounters
from volant.hypervisor.ending import CONSOLE_LOG
from volant.hypervisor.machine import Machine, Unit
from volant.hypervisor.record import write_record

FIRST_PID = 100_000
CONSOLE_LOG_MAX_BYTES = 64 * 1024

ServeAgent = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Step = Literal["launching", "locked", "recorded", "started", "pausing", "saving", "saved", "resuming", "changing"]
Fault = Callable[[Step, Machine], None]
"""Called at every step of a launch, or a restore, and of saving; what it raises fails that there. ``started`` comes after the
process runs, ``changing`` before a device comes or goes or the balloon is set."""


class AgentFactory(Protocol):
    """Makes what serves connections to a machine's agent; with ``saved``, that goes on from what its guest saved once."""

    def __call__(self, machine: Machine, saved: Mapping[str, Any] | None = None) -> ServeAgent: ...


class Metered(Protocol):
    @property
    def cpu_s(self) -> float: ...


class PoweredGuest(Protocol):
    on_power_off: Callable[[], None] | None

    @property
    def use(self) -> Metered: ...

    def save(self) -> dict[str, Any]: ...


class SimulatedProcess:
    """One VM process of a simulated host."""

    def __init__(self, machine: Machine, pid: int, started_at: float, serve_agent: ServeAgent | None) -> None:
        self.machine = machine
        self.pid = pid
        self.limits: Limits = machine.limits
        self.started_at = started_at
        self.serve_agent = serve_agent
        self.is_gone = False
        self.is_paused = False
        self.memory_mib = machine.memory_mib
        """What the balloon leaves its guest."""
        self.disk_counters: dict[str, DiskCounters] = {}
        self.network_counters: dict[str, NetworkCounters] = {}
        """What whoever made the host says of it; nothing has passed through a device that is not there."""
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
            write_record(machine_file, machine, outlives_host=False)
            self.check_fault("recorded", machine)
            await self.clock.sleep(self.launch_delay_s)
            process = self._run(unit, machine, saved)
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
        process = self._processes.get(uid)
        return uid in self._locked or (process is not None and not process.is_gone)

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

    def _run(self, unit: Unit, machine: Machine, saved: Mapping[str, Any] | None) -> SimulatedProcess:
        serve_agent = self.agent_factory(machine, saved) if self.agent_factory is not None else None
        process = SimulatedProcess(machine, next(self._pids), self.clock.now().timestamp(), serve_agent)
        process.is_paused = saved is not None
        self._processes[machine.uid] = process
        guest = cast("PoweredGuest | None", getattr(serve_agent, "guest", None))
        if guest is not None and hasattr(guest, "on_power_off"):
            guest.on_power_off = lambda: _power_off(unit, process, guest)
        return process

    def _get(self, uid: Uid) -> SimulatedProcess:
        process = self._processes.get(uid)
        if process is None or process.is_gone:
            raise WrongState("nothing runs there")
        return process


def _power_off(unit: Unit, process: SimulatedProcess, guest: PoweredGuest) -> None:
    line: bytes = getattr(guest, "farewell", b"")
    if process.ending is None and line:
        _print(unit, line)
    process.end(Ending(kind="powered_off", message="the guest powered off"), is_gone=False)


def _print(unit: Unit, line: bytes) -> None:
    """Add to the console's log as a holder does, which keeps it bounded."""
    log = unit.state / CONSOLE_LOG
    # Its directory goes with its VM, and a full disk changes nothing about how a guest ends.
    with contextlib.suppress(OSError):
        if log.exists() and log.stat().st_size > CONSOLE_LOG_MAX_BYTES:
            log.replace(log.with_name(f"{log.name}.1"))
        with log.open("ab") as console:
            console.write(line)
