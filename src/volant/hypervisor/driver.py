"""The Driver contract: how VMs are started, found again, watched and ended. Every driver passes tests/contract/hypervisor."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Literal, Protocol

import msgspec

from volant.hypervisor.machine import Files, Machine, Unit


class Capability(StrEnum):
    """What a driver may lack. Ask before use; nobody catches NotImplementedError."""

    PAUSE = "pause"
    SNAPSHOT = "snapshot"
    SHARED_MEMORY = "shared_memory"
    HOTPLUG = "hotplug"


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

    async def adopt(self, unit: Unit) -> Instance | Ending | None:
        """Find again what runs in ``unit``: an Instance, the Ending of the last run when it is over, None when the unit
        never ran. Never mistakes another process for it (boot id, pid, start time), and waits for a launch that an earlier
        volantd had just begun to show itself."""
        ...
