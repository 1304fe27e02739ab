"""The Driver contract: how VMs are started, found again, watched and ended. Every driver passes tests/contract/hypervisor."""

from __future__ import annotations

import asyncio
from collections.abc import Set as AbstractSet
from enum import StrEnum
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from volant.core.errors import Unavailable
from volant.hypervisor.machine import Files, Machine, Unit


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


class Instance(Protocol):
    """One running VM process."""

    @property
    def machine(self) -> Machine: ...

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


class Driver(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str:
        """The hypervisor package's own version, for the record and for keys of templates."""
        ...

    @property
    def capabilities(self) -> frozenset[Capability]: ...

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
