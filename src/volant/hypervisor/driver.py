"""The Driver contract: how VMs are started, found again, watched and ended. Every driver passes tests/contract/hypervisor."""

from __future__ import annotations

import asyncio
from collections.abc import Set as AbstractSet
from enum import StrEnum
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from volant.core.errors import InvalidInput, Unavailable, WrongState
from volant.core.limits import Limits
from volant.core.security import ProcessSecurity
from volant.hypervisor.cgroup_usage import Usage
from volant.hypervisor.machine import BlockDevice, Files, Machine, NetworkDevice, Unit


class Capability(StrEnum):
    """What a driver may lack. Ask before use; nobody catches NotImplementedError."""

    PAUSE = "pause"
    SNAPSHOT = "snapshot"
    """``save`` and ``restore``."""
    SHARED_MEMORY = "shared_memory"
    """What was restored from one base shares its memory until it writes."""
    RESTORE_IN_PLACE = "restore_in_place"
    """A machine can be restored in the unit that it was saved in, with the same devices on other files."""
    HOTPLUG = "hotplug"
    """Disks and networks come and go while the guest runs."""
    BALLOON = "balloon"
    """A guest can be told to use less memory than its machine has, and to use it again."""


class NotRestorable(Unavailable):
    """What was saved can never be restored here: it is not whole, or of another hypervisor, or of another shape."""


RunState = Literal["running", "paused", "ended"]


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended.

    ``powered_off``: the guest switched itself off. ``reset``: it rebooted or panicked. ``crashed``: the VM process ended
    by itself (``exit_status`` or ``signal``). ``killed``: we ended it. ``lost``: it is gone and left no account, as after
    a reboot of the host.
    """

    kind: Literal["powered_off", "reset", "crashed", "killed", "lost"]
    message: str
    exit_status: int | None = None
    signal: int | None = None


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """What ``Instance.save`` wrote. ``is_whole``: all of the memory is there; else it stands on ``machine.base``, and what is
    there are the pages that differ."""

    machine: Machine
    is_whole: bool
    memory_bytes: int
    state_bytes: int


ANY = "auto"
"""``Machine.hypervisor`` of one that is not resolved yet and may run under any that the host has."""

SAVED = "machine.json"
"""The file in a saved directory that holds its ``Saved``."""


class MemoryUse(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes, by the host kernel's own account. ``guest_*`` is the guest's memory alone, the others the whole VM process.

    ``guest_private`` are a clone's own pages, ``guest_shared`` those that it has of its base; ``private`` is what no other
    process maps.
    """

    guest_private_bytes: int
    guest_shared_bytes: int
    private_bytes: int
    shared_bytes: int
    cpu_s: float


class DiskCounters(msgspec.Struct, frozen=True, kw_only=True):
    """Since the VM process began, as the hypervisor counts."""

    read_bytes: int = 0
    written_bytes: int = 0
    reads: int = 0
    writes: int = 0


class NetworkCounters(msgspec.Struct, frozen=True, kw_only=True):
    """As the guest sees it: ``received`` is what came to it. Since its tap was opened."""

    received_bytes: int = 0
    sent_bytes: int = 0
    received_packets: int = 0
    sent_packets: int = 0


class Counters(msgspec.Struct, frozen=True, kw_only=True):
    """``disks`` by serial, ``networks`` by tap name: those that could be read. ``memory_mib`` is what the balloon leaves the
    guest now: all that its machine has while nobody asked for less, and more than was asked while the guest still gives."""

    disks: dict[str, DiskCounters] = {}
    networks: dict[str, NetworkCounters] = {}
    memory_mib: int


class Instance(Protocol):
    """One running VM process."""

    @property
    def machine(self) -> Machine:
        """What runs. Devices that were added and removed since the launch are in it, as in ``machine.json``."""
        ...

    @property
    def pid(self) -> int:
        """The VM process's pid as this host sees it."""
        ...

    @property
    def started_at(self) -> float:
        """Seconds since the epoch when the VM process started, from the kernel's own account; the same after adoption."""
        ...

    async def wait_ended(self) -> Ending:
        """Return once the guest has powered off or reset, or the process has ended. May be awaited many times and
        cancelled. After ``powered_off`` or ``reset`` the process may still exist: ``destroy`` clears it."""
        ...

    async def connect_agent(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A new connection to the host's end of the agent port; one at a time.

        Raises:
            GuestUnreachable: the VM process does not accept it within a second.
        """
        ...

    async def query_state(self) -> RunState:
        """Whether the guest runs now. Raises Unavailable when the VM process does not say."""
        ...

    async def pause(self) -> None:
        """Stop the guest's processors and finish what its disks have under way. A paused guest stays paused.

        Raises:
            WrongState: the guest has ended. Unavailable: the VM process does not answer.
        """
        ...

    async def resume(self) -> None:
        """Let a paused guest go on. Raises as ``pause``."""
        ...

    async def save(self, directory: Path) -> Saved:
        """Write the devices and the memory of a paused guest into ``directory``, which is there and empty. The guest stays
        paused and can go on afterwards as if nothing had been. Not yet durable when it returns: whoever publishes the
        directory sees to that.

        Raises:
            Unavailable: the VM process does not answer. DiskFull, HostError: it could not be written.
        """
        ...

    async def add_disk(self, disk: BlockDevice, descriptor: int) -> None:
        """Give the running guest a further disk. ``descriptor`` is its open file, which stays the caller's; ``disk.bus`` must
        be free. Needs ``HOTPLUG``. Does nothing when the same disk is there already.

        Raises:
            WrongState: the guest has ended, or another device has its serial or its place, or the driver cannot.
            Unavailable: the VM process does not answer. HostError: it refuses.
        """
        ...

    async def remove_disk(self, serial: str) -> None:
        """Take a disk away that was added. Returns when the guest was told, which may still write to it for a moment when it
        has it mounted. Needs ``HOTPLUG``. Does nothing when there is no such disk. Raises as ``add_disk``."""
        ...

    async def add_network(self, network: NetworkDevice, tap: int) -> None:
        """Give the running guest a further card on the open ``tap``, which stays the caller's. Needs ``HOTPLUG``. Does nothing
        when the same card is there already. Raises as ``add_disk``."""
        ...

    async def remove_network(self, tap_name: str) -> None:
        """Take a card away; its tap goes with it. Needs ``HOTPLUG``. Does nothing when there is none. Raises as ``add_disk``."""
        ...

    async def set_memory(self, mib: int) -> None:
        """Have the guest use no more than ``mib`` MiB, by its balloon, at most ``machine.memory_mib``. Returns when it was
        told; it gives as it can, and ``Counters.memory_mib`` shows how far it is. Needs ``BALLOON``. Holds until it is set
        again or the run ends.

        Raises:
            WrongState: the guest has ended, or has no balloon or no driver for it. InvalidInput: more than the machine has,
                or less than a guest can live with. Unavailable: the VM process does not answer. HostError: it refuses.
        """
        ...

    async def read_counters(self) -> Counters:
        """What passed through each device. Raises Unavailable when the VM process is gone or does not answer."""
        ...

    async def apply_limits(self, limits: Limits) -> tuple[str, ...]:
        """Hold the VM process to ``limits`` from now on; return, as sentences, which of them this host cannot keep.

        Raises:
            WrongState: it has ended, or has more memory now than it would be allowed. Unavailable: it is gone.
        """
        ...

    async def read_usage(self) -> Usage:
        """What its control groups have counted; nothing where there are none."""
        ...

    async def inspect(self) -> ProcessSecurity:
        """How the VM process is kept in, as the kernel says. Raises Unavailable when it is gone."""
        ...

    async def measure_memory(self) -> MemoryUse:
        """Raises Unavailable when the VM process is gone."""
        ...

    async def destroy(self) -> None:
        """End the VM process at once (SIGKILL, by pidfd) with its holder, and return when the kernel has reaped both and
        the unit's lock is free. Does nothing when they are gone already."""
        ...

    async def close(self) -> None:
        """Let go of it without touching the VM: volantd is ending and the VM goes on."""
        ...


MIN_GUEST_MIB = 32
"""The least that ``set_memory`` leaves a guest."""


def check_balloon(machine: Machine, mib: int) -> None:
    """What every driver asks before it blows up a balloon. Raises as ``Instance.set_memory``."""
    if not MIN_GUEST_MIB <= mib <= machine.memory_mib:
        raise InvalidInput(
            f"{mib} MiB cannot be what {machine.name} uses: its machine has {machine.memory_mib}",
            field="memory_mb",
            hint=f"{MIN_GUEST_MIB} to {machine.memory_mib} without a restart",
        )
    if machine.balloon < 0:
        raise WrongState(f"{machine.name} was started without a balloon", hint="restart it")


def place_disk(machine: Machine, disk: BlockDevice) -> Machine | None:
    """``machine`` with ``disk``; None when it has it. Raises WrongState when another device has its serial or its place."""
    if disk in machine.disks:
        return None
    if any(other.serial == disk.serial for other in machine.disks):
        raise WrongState(f"{machine.name} has another disk {disk.serial!r}", hint="remove that one first")
    _check_free(machine, disk.bus)
    return msgspec.structs.replace(machine, disks=(*machine.disks, disk))


def place_network(machine: Machine, network: NetworkDevice) -> Machine | None:
    """As ``place_disk``, of a card."""
    if network in machine.networks:
        return None
    if any(network.tap == other.tap or network.mac == other.mac for other in machine.networks):
        raise WrongState(f"{machine.name} has another card on {network.tap} or with {network.mac}", hint="remove that one first")
    _check_free(machine, network.bus)
    return msgspec.structs.replace(machine, networks=(*machine.networks, network))


def without_disk(machine: Machine, serial: str) -> Machine | None:
    """``machine`` without that disk; None when it has none."""
    left = tuple(disk for disk in machine.disks if disk.serial != serial)
    return None if left == machine.disks else msgspec.structs.replace(machine, disks=left)


def without_network(machine: Machine, tap_name: str) -> Machine | None:
    left = tuple(network for network in machine.networks if network.tap != tap_name)
    return None if left == machine.networks else msgspec.structs.replace(machine, networks=left)


def _check_free(machine: Machine, bus: int) -> None:
    if bus in {*(disk.bus for disk in machine.disks), *(network.bus for network in machine.networks), machine.balloon}:
        raise WrongState(f"place {bus} of {machine.name} is taken")


class Driver(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str:
        """The hypervisor package's own version, for the record and for keys of templates."""
        ...

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    def capabilities_of(self, machine: Machine) -> frozenset[Capability]:
        """What holds of a resolved machine, where one driver is several."""
        ...

    async def resolve(self, machine: Machine) -> Machine:
        """``machine`` with machine type, CPU model, version and the whole kernel command line filled in. No side effect."""
        ...

    async def launch(self, unit: Unit, machine: Machine, files: Files) -> Instance:
        """Start a resolved machine. Writes ``machine.json`` before anything runs. The unit's directories exist.

        Raises:
            WrongState: the unit's lock is held: something runs there already.
            HostError: the VM process did not start; the message carries the end of what it printed, and nothing is left.
        """
        ...

    async def restore(self, unit: Unit, machine: Machine, files: Files, saved: Path, base: Path | None = None) -> Instance:
        """Start ``machine`` as what lies in ``saved``, and leave it paused. Its shape is that of the machine that was saved;
        identity, disks and taps are its own. With ``machine.base`` its memory is a copy-on-write copy of the whole one
        in ``base`` (or in ``saved`` itself), shared with all others on the same base.

        Raises:
            WrongState: the unit's lock is held. NotRestorable: it can never be. HostError: it did not start; nothing is left.
        """
        ...

    def is_base_held(self, key: str) -> bool:
        """Whether the memory of base ``key`` is at hand for the next ``restore``."""
        ...

    async def release_bases(self, keep: AbstractSet[str]) -> None:
        """Let go of what is held in memory of every base but ``keep``; machines that run keep theirs."""
        ...

    async def adopt(self, unit: Unit) -> Instance | Ending | None:
        """Find again what runs in ``unit``: an Instance, the Ending of the last run when it is over, None when the unit
        never ran. Never mistakes another process for it (boot id, pid, start time), and waits for a launch that an earlier
        volantd had just begun to show itself."""
        ...
