"""The part of a node's door that reaches inside a guest: programs, the workload, the console, ports and files."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from volant.core.clock import Clock
from volant.core.errors import WrongState
from volant.core.ids import Uid
from volant.guest.link import AgentLink
from volant.hypervisor.socket import CONSOLE, connect_socket
from volant.node.console import read_console
from volant.node.console_line import Connection, Consoles
from volant.node.door import (
    AttachRequest,
    AttachSession,
    ConsoleSession,
    ExecRequest,
    ExecSession,
    FilesReader,
    FilesWritten,
    PortStream,
)
from volant.node.exec import open_attach, open_exec
from volant.node.files import read_files, write_files
from volant.node.run import Run
from volant.node.unit import Places


class TalkingNode(ABC):
    """Implements its part of NodeDoor for a node that says which Run a VM has."""

    places: Places

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._consoles = Consoles(clock)

    @abstractmethod
    def _find_running(self, uid: Uid) -> Run:
        """Raises WrongState when it does not run."""

    @asynccontextmanager
    async def open_exec(self, uid: Uid, request: ExecRequest) -> AsyncIterator[ExecSession]:
        async with open_exec(self._find_link(uid, "run a program"), request) as session:
            yield session

    @asynccontextmanager
    async def open_attach(self, uid: Uid, request: AttachRequest) -> AsyncIterator[AttachSession]:
        async with open_attach(self._find_link(uid, "let anybody attach"), request) as session:
            yield session

    @asynccontextmanager
    async def open_port(self, uid: Uid, port: int, *, host: str = "127.0.0.1") -> AsyncIterator[PortStream]:
        async with await self._find_link(uid, "open a port").open_port(port, host=host) as connection:
            yield connection

    @asynccontextmanager
    async def read_files(self, uid: Uid, path: str) -> AsyncIterator[FilesReader]:
        async with read_files(self._find_link(uid, "copy files"), path) as reader:
            yield reader

    async def write_files(
        self, uid: Uid, path: str, content: AsyncIterator[bytes], *, owner: tuple[int, int] | None = None
    ) -> FilesWritten:
        return await write_files(self._find_link(uid, "copy files"), path, content, owner=owner)

    def read_console(self, uid: Uid, *, tail_bytes: int | None = None, follow: bool = False) -> AsyncIterator[bytes]:
        return read_console(self.places.console(uid), self._clock, tail_bytes=tail_bytes, follow=follow)

    @asynccontextmanager
    async def open_console(
        self, uid: Uid, *, write: bool = False, force: bool = False, tail_bytes: int | None = None
    ) -> AsyncIterator[ConsoleSession]:
        if write:
            self._find_running(uid)

        async def dial() -> Connection | None:
            with contextlib.suppress(OSError):
                return await asyncio.open_unix_connection(sock=connect_socket(self.places.unit(uid).sockets, CONSOLE))
            return None

        path = self.places.console(uid)
        async with self._consoles.open(uid, path, dial, write=write, force=force, tail_bytes=tail_bytes) as session:
            yield session

    def _find_link(self, uid: Uid, what: str) -> AgentLink:
        """The link to the agent of a guest that runs. Raises WrongState."""
        run = self._find_running(uid)
        if run.paused:
            raise WrongState("the VM is paused", hint="volar vms resume NAME")
        if not run.instance.machine.has_agent:
            raise WrongState(f"the VM's guest has no agent that could {what}", hint="volar vms console shows what it prints")
        return run.link
