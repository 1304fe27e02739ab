"""One running VM process, launched or adopted."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from volant.core.errors import GuestUnreachable, HostError, WrongState
from volant.core.limits import Limits
from volant.core.security import ProcessSecurity
from volant.hypervisor.cgroup import Group, apply_to_process
from volant.hypervisor.cgroup_usage import Usage
from volant.hypervisor.driver import Counters, Ending, MemoryUse, RunState, Saved, check_balloon
from volant.hypervisor.ending import explain_death, read_ending, write_ending
from volant.hypervisor.machine import BlockDevice, Machine, NetworkDevice, Unit
from volant.hypervisor.process import Process
from volant.hypervisor.qemu.account import measure_memory
from volant.hypervisor.qemu.counters import has_balloon_driver, read_disk_counters, read_memory_mib
from volant.hypervisor.qemu.ending import explain_stop
from volant.hypervisor.qemu.monitor import ENDED_STATES, Monitor, Stop
from volant.hypervisor.qemu.save import save_machine
from volant.hypervisor.security import inspect_process
from volant.hypervisor.socket import AGENT, connect_socket, remove_sockets
from volant.hypervisor.taps import read_tap_counters

CONNECT_TIMEOUT_S = 1.0
LAST_WORDS_S = 2.0
"""What the holder may take to write its record once the VM process is dead; it needs a millisecond."""

KILLED_S = 10.0
MIB = 1 << 20


class QemuInstance:
    """Implements ``Instance``. The process is watched by pidfd; the monitor only adds how a guest stopped."""

    def __init__(
        self,
        unit: Unit,
        machine: Machine,
        process: Process,
        holder: Process,
        monitor: Monitor,
        started_at: float,
        group: Group | None = None,
    ) -> None:
        self._unit = unit
        self._machine = machine
        self._process = process
        self._holder = holder
        self._monitor = monitor
        self._started_at = started_at
        self._group = group
        self._ending = read_ending(unit.state, machine.run_id)
        self._is_killed = False
        self._watching = asyncio.Lock()

    @property
    def machine(self) -> Machine:
        return self._machine

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def started_at(self) -> float:
        return self._started_at

    async def wait_ended(self) -> Ending:
        # One of the waiters watches; when it is cancelled the next takes over.
        async with self._watching:
            return self._ending or self._settle(await self._watch())

    async def connect_agent(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._process.is_dead:
            raise GuestUnreachable("the VM process has ended")
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await asyncio.open_unix_connection(sock=connect_socket(self._unit.sockets, AGENT))
        except (OSError, TimeoutError) as error:
            raise GuestUnreachable(f"the VM process does not accept a connection to the agent: {error}") from error

    async def query_state(self) -> RunState:
        if self._ending is not None or self._process.is_dead:
            return "ended"
        status = await self._monitor.query_status()
        if status in ENDED_STATES:
            return "ended"
        return "running" if status == "running" else "paused"

    async def pause(self) -> None:
        await self._command("stop")

    async def resume(self) -> None:
        await self._command("cont")

    async def save(self, directory: Path) -> Saved:
        return await save_machine(self._machine, self._process, self._monitor, directory)

    async def add_disk(self, disk: BlockDevice, descriptor: int) -> None:
        raise _fixed(self._machine)

    async def remove_disk(self, serial: str) -> None:
        raise _fixed(self._machine)

    async def add_network(self, network: NetworkDevice, tap: int) -> None:
        raise _fixed(self._machine)

    async def remove_network(self, tap_name: str) -> None:
        raise _fixed(self._machine)

    async def set_memory(self, mib: int) -> None:
        self._check_alive()
        check_balloon(self._machine, mib)
        if not await has_balloon_driver(self._monitor):
            raise WrongState(f"the guest of {self._machine.name} has no driver for its balloon", hint="build its plugin again")
        await self._monitor.execute("balloon", {"value": mib * MIB})

    async def read_counters(self) -> Counters:
        networks = await asyncio.to_thread(read_tap_counters, self._process.pid, [nic.tap for nic in self._machine.networks])
        return Counters(
            disks=await read_disk_counters(self._monitor, self._machine),
            networks=networks,
            memory_mib=await read_memory_mib(self._monitor, self._machine),
        )

    async def apply_limits(self, limits: Limits) -> tuple[str, ...]:
        self._check_alive()
        return await apply_to_process(self._group, self._machine, limits, self._process.pid)

    async def read_usage(self) -> Usage:
        return Usage() if self._group is None else await asyncio.to_thread(self._group.read_usage)

    async def inspect(self) -> ProcessSecurity:
        return await asyncio.to_thread(
            inspect_process,
            self._process.pid,
            self._holder.pid,
            self._group,
            accelerator=self._machine.accelerator,
            own=self._unit.state,
        )

    async def measure_memory(self) -> MemoryUse:
        return await asyncio.to_thread(measure_memory, self._process.pid)

    async def destroy(self) -> None:
        if self._ending is None and not self._process.is_dead:
            self._is_killed = True
        self._process.kill()
        await self._reap(self._process)
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                await self._holder.wait_dead()
        except TimeoutError:
            self._holder.kill()
            await self._reap(self._holder)
        self._settle(self._ending or await self._explain_death())
        await self._monitor.close()
        if self._group is not None:
            await asyncio.to_thread(self._group.remove)
        remove_sockets(self._unit.sockets)

    async def close(self) -> None:
        await self._monitor.close()
        self._process.close()
        self._holder.close()

    async def _command(self, command: str) -> None:
        self._check_alive()
        await self._monitor.execute(command)

    def _check_alive(self) -> None:
        if self._ending is not None or self._process.is_dead:
            raise WrongState("the guest has ended")

    async def _watch(self) -> Ending:
        stopped: list[Stop] = []

        async def watch_monitor() -> None:
            stopped.append(await self._monitor.wait_stopped())

        async with asyncio.TaskGroup() as group:
            tasks = {group.create_task(self._process.wait_dead()), group.create_task(watch_monitor())}
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
        if stopped:
            return explain_stop(stopped[0], self._unit.state)
        return await self._explain_death()

    async def _explain_death(self) -> Ending:
        if self._is_killed:
            return Ending(kind="killed", message="the VM process was ended by volantd")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await self._holder.wait_dead()
        ending = explain_death(self._unit.state, self._holder.pid)
        return ending if self._group is None else self._group.explain(ending)

    def _settle(self, ending: Ending) -> Ending:
        if self._ending is None:
            self._ending = ending
            # A VM that is being deleted has no directory any more, and a full disk changes nothing about how it ended.
            with contextlib.suppress(HostError):
                write_ending(self._unit.state, self._machine.run_id, ending)
        return self._ending

    async def _reap(self, process: Process) -> None:
        try:
            async with asyncio.timeout(KILLED_S):
                await process.wait_dead()
        except TimeoutError as error:
            raise HostError(
                f"process {process.pid} of {self._machine.name} did not end within {KILLED_S:g} s of SIGKILL",
                hint="it hangs in the kernel, most often on a disk or network file system that does not answer",
            ) from error


def _fixed(machine: Machine) -> WrongState:
    return WrongState(f"the devices of {machine.name} are fixed while it runs: QEMU's microvm has no hotplug", hint="restart it")
