"""One running VM process, launched or adopted."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from volant.core.errors import GuestUnreachable, HostError, Unavailable, WrongState
from volant.core.limits import Limits
from volant.core.security import ProcessSecurity
from volant.hypervisor.cgroup import Group, apply_to_process
from volant.hypervisor.cgroup_usage import Usage
from volant.hypervisor.cloud_hypervisor.account import measure_memory
from volant.hypervisor.cloud_hypervisor.api import Api, Refused
from volant.hypervisor.cloud_hypervisor.config import MIB, build_disk, build_network, disk_id, network_id
from volant.hypervisor.cloud_hypervisor.counters import read_counters
from volant.hypervisor.cloud_hypervisor.ending import explain_death, explain_event
from volant.hypervisor.cloud_hypervisor.events import Events
from volant.hypervisor.cloud_hypervisor.save import save_machine
from volant.hypervisor.cloud_hypervisor.vsock import connect_vsock
from volant.hypervisor.cloud_hypervisor.work import WORK, Held, clear_sockets, grant_disk, lend_disk, remove_work
from volant.hypervisor.driver import (
    Counters,
    Ending,
    MemoryUse,
    RunState,
    Saved,
    check_balloon,
    place_disk,
    place_network,
    without_disk,
    without_network,
)
from volant.hypervisor.ending import MACHINE, read_ending, write_ending
from volant.hypervisor.machine import BlockDevice, Machine, NetworkDevice, Unit
from volant.hypervisor.process import Process
from volant.hypervisor.record import write_record
from volant.hypervisor.security import inspect_process

CONNECT_TIMEOUT_S = 1.0
LAST_WORDS_S = 2.0
KILLED_S = 10.0
DEVICE_TIMEOUT_S = 10.0
PAUSE_TIMEOUT_S = 30.0
EJECTED_S = 5.0
"""What a guest may take to let go of a device that is taken away."""

LOOK_PERIOD_S = 0.05


class CloudHypervisorInstance:
    """Implements ``Instance``. The process is watched by pidfd; its events only add that a guest has reset."""

    def __init__(
        self,
        unit: Unit,
        machine: Machine,
        process: Process,
        holder: Process,
        api: Api,
        held: Held,
        events: Events,
        started_at: float,
        group: Group | None = None,
    ) -> None:
        self._unit = unit
        self._machine = machine
        self._process = process
        self._holder = holder
        self._api = api
        self._held = held
        self._events = events
        self._started_at = started_at
        self._group = group
        self._ending = read_ending(unit.state, machine.run_id)
        self._is_killed = False
        self._watching = asyncio.Lock()
        self._changing = asyncio.Lock()

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
                return await connect_vsock(self._unit.state / WORK, self._machine)
        except (OSError, EOFError, TimeoutError) as error:
            raise GuestUnreachable(f"the guest does not accept a connection to the agent: {error}") from error

    async def query_state(self) -> RunState:
        if self._ending is not None or self._process.is_dead or self._events.kind is not None:
            return "ended"
        state = (await self._api.info()).state
        if state == "Shutdown":
            return "ended"
        return "running" if state == "Running" else "paused"

    async def pause(self) -> None:
        await self._change_state("Paused", "vm.pause")

    async def resume(self) -> None:
        await self._change_state("Running", "vm.resume")

    async def save(self, directory: Path) -> Saved:
        self._check_alive()
        return await save_machine(self._machine, self._api, self._unit.state / WORK, self._held.work, directory)

    async def add_disk(self, disk: BlockDevice, descriptor: int) -> None:
        async with self._changing:
            self._check_alive()
            changed = place_disk(self._machine, disk)
            if changed is None:
                return
            # The process cannot be sent a file: for as long as it opens it, it has another name in the process's directory.
            grant_disk(descriptor, disk, self._machine)
            with lend_disk(self._unit.state / WORK, self._held.work, descriptor, disk) as path:
                await self._api.put("vm.add-disk", build_disk(disk, path), timeout_s=DEVICE_TIMEOUT_S)
            self._record(changed)

    async def remove_disk(self, serial: str) -> None:
        await self._remove(without_disk(self._machine, serial), disk_id(serial))

    async def add_network(self, network: NetworkDevice, tap: int) -> None:
        async with self._changing:
            self._check_alive()
            changed = place_network(self._machine, network)
            if changed is not None:
                await self._api.put("vm.add-net", build_network(network), descriptors=[tap], timeout_s=DEVICE_TIMEOUT_S)
                self._record(changed)

    async def remove_network(self, tap_name: str) -> None:
        found = next((network for network in self._machine.networks if network.tap == tap_name), None)
        await self._remove(without_network(self._machine, tap_name), "" if found is None else network_id(found.bus))

    async def set_memory(self, mib: int) -> None:
        self._check_alive()
        check_balloon(self._machine, mib)
        await self._api.put("vm.resize", {"desired_balloon": (self._machine.memory_mib - mib) * MIB})

    async def read_counters(self) -> Counters:
        if self._process.is_dead:
            raise Unavailable("the VM process is gone")
        return await read_counters(self._api, self._machine)

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
        self._events.read()
        if self._ending is None and self._events.kind is not None:
            self._settle(explain_event(self._events.kind))
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
        self._events.close()
        if self._group is not None:
            await asyncio.to_thread(self._group.remove)
        clear_sockets(self._unit.sockets)
        remove_work(self._unit.state)

    async def close(self) -> None:
        self._events.close()
        self._process.close()
        self._holder.close()

    async def _change_state(self, wanted: str, action: str) -> None:
        self._check_alive()
        # What is asked for twice would be refused the second time.
        if (await self._api.info()).state != wanted:
            await self._api.put(action, timeout_s=PAUSE_TIMEOUT_S)

    async def _remove(self, changed: Machine | None, name: str) -> None:
        async with self._changing:
            self._check_alive()
            if changed is None:
                return
            try:
                await self._api.put("vm.remove-device", {"id": name}, timeout_s=DEVICE_TIMEOUT_S)
            except Refused as error:
                if error.http_status != 404:
                    raise
            self._record(changed)
            await self._wait_ejected(name)

    async def _wait_ejected(self, name: str) -> None:
        """Until then its id is taken. A guest that does not let go keeps it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EJECTED_S):
                while name in ((await self._api.info()).device_tree or {}):  # noqa: ASYNC110  # the guest's doing
                    await asyncio.sleep(LOOK_PERIOD_S)

    def _record(self, machine: Machine) -> None:
        self._machine = machine
        write_record(self._unit.state / MACHINE, machine)

    def _check_alive(self) -> None:
        if self._ending is not None or self._process.is_dead:
            raise WrongState("the guest has ended")

    async def _watch(self) -> Ending:
        heard = asyncio.ensure_future(self._events.wait_ended())
        death = asyncio.ensure_future(self._process.wait_dead())
        try:
            await asyncio.wait({heard, death}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (heard, death):
                task.cancel()
            await asyncio.gather(heard, death, return_exceptions=True)
        return await self._explain_death() if self._events.kind is None else explain_event(self._events.kind)

    async def _explain_death(self) -> Ending:
        if self._is_killed:
            return Ending(kind="killed", message="the VM process was ended by volantd")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await self._holder.wait_dead()
        self._events.read()
        ending = explain_death(self._unit.state, self._holder.pid, self._events.kind)
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
                f"process {process.pid} of {self._machine.name} did not end within {KILLED_S:g} s of its end",
                hint="it hangs in the kernel, most often on a disk or network file system that does not answer",
            ) from error
