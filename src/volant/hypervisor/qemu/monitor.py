"""The connection to a VM process's monitor (QMP). It comes and goes; whether the VM lives is for pidfds to say."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import msgspec
from qemu.qmp import ConnectError, ExecuteError, QMPClient, QMPError, Runstate

from volant.core.errors import HostError, Unavailable
from volant.hypervisor.socket import QMP, connect_socket

ANSWER_TIMEOUT_S = 5.0
BACKOFF_FIRST_S = 0.05
BACKOFF_CAP_S = 2.0

ENDED_STATES = frozenset({"shutdown", "guest-panicked", "internal-error"})
"""Run states (QEMU's QMP reference, RunState) that a guest never leaves by itself."""

_EVENTS = frozenset({"SHUTDOWN", "STOP"})


class Stop(msgspec.Struct, frozen=True):
    """The guest has stopped for good. ``reason`` is the SHUTDOWN event's, empty when nobody was there to hear it."""

    status: str
    reason: str


class Monitor:
    """One VM process's monitor. QEMU serves one client at a time, so there is one of these per process, and one user of it."""

    def __init__(self, sockets: Path) -> None:
        self._sockets = sockets
        self._client: QMPClient | None = None
        self._reason = ""
        self._connecting = asyncio.Lock()
        self._executing = asyncio.Lock()

    async def connect(self) -> None:
        """Be connected, with the greeting read. The caller sets the limit of time.

        Raises:
            Unavailable: nobody answers there.
        """
        async with self._connecting:
            await self._connect()

    async def _connect(self) -> None:
        if self._client is not None and self._client.runstate is Runstate.RUNNING:
            return
        await self.close()
        client = QMPClient()
        # Listeners keep what they hear for ever, and a guest can cause events as it likes: hear few.
        client.events.names = set(_EVENTS)
        try:
            connection = connect_socket(self._sockets, QMP)
        except OSError as error:
            raise Unavailable(f"the monitor cannot be reached: {error.strerror}") from error
        try:
            await client.connect(connection)
        except ConnectError as error:
            raise Unavailable(f"the monitor does not answer: {error}") from error
        finally:
            if client.runstate is not Runstate.RUNNING:
                connection.close()
        self._client = client

    async def query_status(self) -> str:
        """The run state. Raises Unavailable."""
        answer = await self.execute("query-status")
        return str(answer["status"])

    async def execute(self, command: str, arguments: dict[str, object] | None = None, *, descriptor: int | None = None) -> Any:
        """Give one command and return its answer, connecting first when necessary; ``descriptor`` is passed along.

        Raises:
            Unavailable: the process does not answer. HostError: it refuses, and says why.
        """
        async with self._executing:
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    await self.connect()
                    assert self._client is not None
                    if descriptor is not None:
                        self._client.send_fd_scm(descriptor)
                    return await self._client.execute(command, arguments)
            except ExecuteError as error:
                raise HostError(f"the VM process refused {command}: {error}") from error
            except TimeoutError as error:
                raise Unavailable(f"the monitor did not answer {command} within {ANSWER_TIMEOUT_S:g} s") from error
            except (QMPError, EOFError, OSError) as error:
                raise Unavailable(f"the monitor did not answer {command}: {error}") from error

    async def wait_stopped(self) -> Stop:
        """Return once the guest has stopped for good; goes on over lost connections for as long as it takes."""
        delay_s = BACKOFF_FIRST_S
        while True:
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    await self.connect()
                    status = await self.query_status()
                if status in ENDED_STATES:
                    return Stop(status, self._reason)
                delay_s = BACKOFF_FIRST_S
                await self._wait_change()
                if self._reason:
                    return Stop("shutdown", self._reason)
            except (Unavailable, TimeoutError):
                await asyncio.sleep(delay_s)
                delay_s = min(BACKOFF_CAP_S, delay_s * 2)

    async def close(self) -> None:
        """Leave the place free for the next client."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(QMPError, EOFError, OSError):
                await client.disconnect()

    async def _wait_change(self) -> None:
        client = self._client
        assert client is not None

        async def listen() -> None:
            # Noted in the step that takes it from the queue, so that no cancellation can lose it.
            self._note(await client.events.get())

        async with asyncio.TaskGroup() as group:
            tasks = {group.create_task(listen()), group.create_task(_wait_disconnected(client))}
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()

    def _note(self, event: Any) -> None:
        data = event.get("data") or {}
        # A process that was told to end by a signal ends, and its pidfd says so.
        if event["event"] == "SHUTDOWN" and data.get("guest"):
            self._reason = str(data.get("reason", ""))


async def _wait_disconnected(client: QMPClient) -> None:
    while client.runstate is Runstate.RUNNING:
        await client.runstate_changed()
