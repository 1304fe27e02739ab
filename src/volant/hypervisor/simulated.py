"""The driver named ``simulated``: VMs that cost nothing, on a host that outlives the drivers that look at it.

It keeps the contract of the real ones (locks, machine.json, endings that a later driver can ask for) and has time, faults and
guests in the hands of whoever made the host.
"""

from __future__ import annotations

import asyncio
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, cast

import msgspec

from volant.core.errors import GuestUnreachable, Unavailable, WrongState
from volant.core.limits import Limits
from volant.core.security import Finding, ProcessSecurity
from volant.hypervisor.cgroup_usage import Usage
from volant.hypervisor.driver import (
    ANY,
    SAVED,
    Capability,
    Counters,
    DiskCounters,
    Ending,
    Instance,
    MemoryUse,
    NetworkCounters,
    NotRestorable,
    RunState,
    Saved,
    check_balloon,
    place_disk,
    place_network,
    without_disk,
    without_network,
)
from volant.hypervisor.machine import BlockDevice, Files, Machine, NetworkDevice, Unit
from volant.hypervisor.record import read_record, write_record
from volant.hypervisor.simulated_host import PoweredGuest, ServeAgent, SimulatedHost, SimulatedProcess, Step
from volant.hypervisor.simulated_wire import Streams, connect_streams

GUEST = "guest.json"
ALL_CAPABILITIES = frozenset(Capability)
BALLOON_PLACE = 31
VERSION = "1"

__all__ = ["ALL_CAPABILITIES", "SimulatedDriver", "SimulatedHost", "Step"]


class SimulatedInstance:
    """Implements ``Instance``."""

    def __init__(self, host: SimulatedHost, process: SimulatedProcess, unit: Unit, capabilities: AbstractSet[Capability]) -> None:
        self._host = host
        self._process = process
        self._unit = unit
        self._capabilities = capabilities

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
        ours, theirs = connect_streams()
        # The guest's work goes on whoever looks at it, so it belongs to the process and ends with it.
        task = asyncio.get_running_loop().create_task(_serve(process.serve_agent, theirs))
        process.serving.add(task)
        task.add_done_callback(process.serving.discard)
        # A task that is cancelled before its first step closes nothing itself.
        task.add_done_callback(lambda _: theirs[1].transport.abort())
        return ours

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

    async def add_disk(self, disk: BlockDevice, descriptor: int) -> None:
        self._change(place_disk(self.machine, disk))

    async def remove_disk(self, serial: str) -> None:
        self._change(without_disk(self.machine, serial))

    async def add_network(self, network: NetworkDevice, tap: int) -> None:
        self._change(place_network(self.machine, network))

    async def remove_network(self, tap_name: str) -> None:
        self._change(without_network(self.machine, tap_name))

    async def set_memory(self, mib: int) -> None:
        self._check_alive()
        check_balloon(self.machine, mib)
        self._host.check_fault("changing", self.machine)
        self._process.memory_mib = mib

    async def read_counters(self) -> Counters:
        process = self._process
        if process.is_gone:
            raise Unavailable("the VM process is gone")
        return Counters(
            disks={disk.serial: process.disk_counters.get(disk.serial, DiskCounters()) for disk in self.machine.disks},
            networks={nic.tap: process.network_counters.get(nic.tap, NetworkCounters()) for nic in self.machine.networks},
            memory_mib=process.memory_mib,
        )

    async def apply_limits(self, limits: Limits) -> tuple[str, ...]:
        self._check_alive()
        self._host.check_fault("changing", self.machine)
        self._process.limits = limits
        return ()

    async def read_usage(self) -> Usage:
        return Usage()

    async def inspect(self) -> ProcessSecurity:
        if self._process.is_gone:
            raise Unavailable("the VM process is gone")
        nothing = Finding(name="process", value="simulated", verdict="weak", why="no guest is real, and nothing keeps it in")
        limits = tuple(
            Finding(name=name, value=str(value)) for name, value in msgspec.to_builtins(self._process.limits).items() if value
        )
        return ProcessSecurity(pid=self.pid, holder_pid=self.pid, process=(nothing,), limits=limits)

    async def measure_memory(self) -> MemoryUse:
        if self._process.is_gone:
            raise Unavailable("the VM process is gone")
        guest = cast("PoweredGuest | None", getattr(self._process.serve_agent, "guest", None))
        cpu_s = 0.0 if guest is None else guest.use.cpu_s
        return MemoryUse(guest_private_bytes=0, guest_shared_bytes=0, private_bytes=0, shared_bytes=0, cpu_s=cpu_s)

    async def destroy(self) -> None:
        self._process.end(Ending(kind="killed", message="the VM process was ended by volantd"), is_gone=True)
        await self._end_serving()

    async def close(self) -> None:
        """Nothing is held."""

    def _change(self, machine: Machine | None) -> None:
        """Have what runs be ``machine``; None is no change."""
        self._check_alive()
        if Capability.HOTPLUG not in self._capabilities:
            raise WrongState("the devices of this simulated machine are fixed while it runs")
        self._host.check_fault("changing", self.machine)
        if machine is not None:
            write_record(self._unit.state / "machine.json", machine)
            self._process.machine = machine

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

    def capabilities_of(self, machine: Machine) -> frozenset[Capability]:
        return self._capabilities

    async def resolve(self, machine: Machine) -> Machine:
        if machine.hypervisor not in ("", ANY, self.name):
            raise Unavailable(
                f"{machine.name} is to run under {machine.hypervisor}, and this host only simulates",
                hint="leave hypervisor at auto",
            )
        return msgspec.structs.replace(
            machine,
            hypervisor=self.name,
            hypervisor_version=VERSION,
            hypervisor_build=VERSION,
            machine_type="simulated",
            accelerator="none",
            cpu_model="simulated",
            balloon=BALLOON_PLACE if Capability.BALLOON in self._capabilities else -1,
        )

    async def launch(self, unit: Unit, machine: Machine, files: Files) -> Instance:
        return self._make(unit, await self._host.start(unit, machine))

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
        machine = msgspec.structs.replace(machine, balloon=record.machine.balloon)
        return self._make(unit, await self._host.start(unit, machine, guest))

    def is_base_held(self, key: str) -> bool:
        return False

    async def release_bases(self, keep: AbstractSet[str]) -> None:
        """Nothing is held."""

    async def adopt(self, unit: Unit) -> Instance | Ending | None:
        process = self._host.find(unit.uid)
        if process is not None and not process.is_gone:
            return self._make(unit, process)
        if read_record(unit.state / "machine.json", Machine) is None:
            return None
        return process.ending if process is not None else None

    def _make(self, unit: Unit, process: SimulatedProcess) -> SimulatedInstance:
        return SimulatedInstance(self._host, process, unit, self._capabilities)


async def _serve(serve_agent: ServeAgent, end: Streams) -> None:
    try:
        await serve_agent(*end)
    finally:
        end[1].transport.abort()
