"""The door of one VM: its published ports, those who come in by them, those who wait, and what wakes it."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Literal

import structlog

from volant.core.clock import Clock
from volant.core.errors import GuestUnreachable, VolantError
from volant.core.vm import VM
from volant.net.fabric import Fabric
from volant.net.pipe import Pipe
from volant.net.socket import reset_connection
from volant.node.door import PortStream
from volant.reconcile.guest_way import GuestWay, OpenPort
from volant.reconcile.listeners import Listeners, tell_unavailable
from volant.reconcile.power import change_power
from volant.reconcile.recorder import Note
from volant.store.cache import Cache
from volant.store.contract import Store
from volant.store.records import key_of

log = structlog.get_logger()

DoorState = Literal["open", "starting", "asleep", "closed"]

MAX_CONNECTIONS = 4096
HOLD_LIMIT_S = 120.0
REACH_LIMIT_S = 10.0
"""How long a guest that counts as ready may take to answer before the client is told that it does not."""

FIRST_ATTEMPT_S = 0.25
LONGEST_ATTEMPT_S = 2.0
ATTEMPT_AGAIN_S = 0.02
WAKE_AGAIN_S = 1.0
WAKE_WRITE_LIMIT_S = 15.0
CONNECTS_AT_ONCE = 64
"""Of a thousand that were held together the first are served while the last still wait, and no attempt ends in the crowd."""

_MAY_YET_ANSWER = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT, errno.EHOSTDOWN})
_ANSWERS_PERHAPS = frozenset({"Unhealthy", "AgentSilent"})


def judge_door(vm: VM) -> DoorState:
    """Whether who connects to ``vm`` is let in now, is held until it has started or been woken, or is turned away."""
    status, spec = vm.status, vm.spec
    if vm.deleting or spec.power in ("stopped", "parked"):
        return "closed"
    if spec.power == "suspended" or status.phase in ("Suspending", "Suspended"):
        return "asleep"
    if status.ready:
        return "open"
    if status.phase in ("Stopped", "Failed") and status.started_token == spec.restart_token:
        return "closed"
    # It runs, and what it says to who connects is more than we know.
    return "open" if status.phase == "Running" and status.reason in _ANSWERS_PERHAPS else "starting"


class Door:
    """Every connection is a task of the door's own, and what goes wrong with one ends that one."""

    def __init__(
        self,
        store: Store,
        cache: Cache,
        clock: Clock,
        fabric: Fabric,
        vm: VM,
        on_listen: Callable[[], None],
        open_port: OpenPort | None = None,
    ) -> None:
        """``open_port`` is the way to a guest that this host has no other way to."""
        self._store = store
        self._cache = cache
        self._clock = clock
        self._way = GuestWay(fabric, open_port)
        self.vm = vm
        self.state: DoorState = judge_door(vm)
        self.last_active = clock.monotonic()
        """When bytes last moved, or somebody came, on the monotonic clock."""
        self._settled = asyncio.Event()
        self._has_slept = self.state == "asleep"
        self._turns = asyncio.Semaphore(CONNECTS_AT_ONCE)
        self._waiting = 0
        self._connections = 0
        self._pipes: set[Pipe] = set()
        self._stopped_pipes: set[Pipe] = set()
        """Those that have something for a guest that sleeps."""
        self._wake: asyncio.Task[None] | None = None
        self._listeners = Listeners(
            fabric,
            clock,
            vm.name,
            wanted=lambda: self._wanted_ports().keys(),
            admit=self._admit,
            tell=self._tell_unavailable,
            on_listen=on_listen,
        )
        self._group: asyncio.TaskGroup | None = None
        self.update(vm)

    # What the keeper calls

    async def run(self) -> None:
        """Listen, and let in, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                await self._listeners.run()
        finally:
            self.leave()

    def update(self, vm: VM) -> None:
        """Take in what became of the VM."""
        before, self.vm, self.state = self.vm, vm, judge_door(vm)
        if self.state in ("open", "closed"):
            self._settled.set()
        else:
            self._settled.clear()
        if vm.status.phase == "Stopped" or before.status.last_end != vm.status.last_end:
            self._reset_pipes()  # their other end is gone, and nobody is left to say so
        if self.state == "asleep":
            self._has_slept = True
        elif self.state == "closed" and self._has_slept:
            self._has_slept = False
            self._reset_pipes()
        elif self.state == "open":
            self._has_slept = False
            stopped, self._stopped_pipes = self._stopped_pipes, set()
            for pipe in stopped:
                pipe.flow()
        if self._is_wanted():
            self.wake()
        self._listeners.refresh()

    def leave(self) -> None:
        """Close the ports at once, so that another VM may have them. The connections go with the task of ``run``."""
        self._group = None
        self._listeners.leave()

    def has_port(self, host_port: int) -> bool:
        return self._listeners.has_port(host_port)

    def wake(self) -> None:
        """Ask for the VM to run if it is asked to sleep; however many ask, it is written once."""
        if self._wake is None and self._group is not None and self.vm.spec.power == "suspended" and self.state == "asleep":
            self._wake = self._group.create_task(self._write_wake())

    # Ports

    def _wanted_ports(self) -> dict[int, int]:
        """The guest's port by the host's."""
        if self.vm.deleting or self.vm.spec.power == "parked":
            return {}
        return {port.host_port: port.port for port in self.vm.spec.ports or ()}

    async def _tell_unavailable(self, host_port: int, error: VolantError) -> None:
        await tell_unavailable(self._store, self._cache, self._clock, self.vm, host_port, error)

    # Connections

    def _admit(self, client: socket.socket, host_port: int) -> None:
        port = self._wanted_ports().get(host_port)
        if self._group is None or port is None or self.state == "closed" or self._connections >= MAX_CONNECTIONS:
            reset_connection(client)
            return
        client.setblocking(False)
        self.last_active = self._clock.monotonic()
        self._connections += 1
        task = self._group.create_task(self._serve(client, port))
        task.add_done_callback(lambda _: self._dismiss(client))

    def _dismiss(self, client: socket.socket) -> None:
        self._connections -= 1
        client.close()

    async def _serve(self, client: socket.socket, port: int) -> None:
        task = asyncio.current_task()
        assert task is not None
        pipe = Pipe(may_pass=self._may_pass, on_move=self._note_activity, on_leave=task.cancel)
        self._pipes.add(pipe)
        # Left after the pipe was closed, which may still have something to say to the guest.
        way = AsyncExitStack()
        try:
            await pipe.attach_client(client)
            async with asyncio.timeout(HOLD_LIMIT_S):
                guest = await self._reach(port, way)
            if guest is not None:
                if isinstance(guest, socket.socket):
                    await pipe.attach_guest(guest)
                else:
                    pipe.attach_stream(guest)
                await pipe.ended.wait()
        except (OSError, VolantError) as error:
            log.info("connection_failed", name=self.vm.name, port=port, error=str(error) or "it did not become ready in time")
        except Exception:  # the edge: a bug in one connection must not end the others
            log.exception("connection_bug", name=self.vm.name, port=port)
        finally:
            self._pipes.discard(pipe)
            self._stopped_pipes.discard(pipe)
            await pipe.close()
            await way.aclose()

    def _may_pass(self, pipe: Pipe, has_bytes: bool) -> bool:
        """A guest that sleeps is given nothing: to deliver it late would cost the kernel's wait before it sends again."""
        if not self._has_slept:
            return True
        self._stopped_pipes.add(pipe)
        if has_bytes:
            self.wake()
        return False

    def _note_activity(self) -> None:
        self.last_active = self._clock.monotonic()

    def _reset_pipes(self) -> None:
        for pipe in self._pipes:
            if pipe.has_guest:
                pipe.reset()

    # The way to the guest

    async def _reach(self, port: int, way: AsyncExitStack) -> socket.socket | PortStream | None:
        """What leads to the guest's port, when it can be had, and is closed with ``way``; ``None`` when the VM is not to run.

        Raises:
            OSError, VolantError: it is there and does not let anybody in.
        """
        give_up: float | None = None
        attempt_s = FIRST_ATTEMPT_S
        while await self._wait_open():
            try:
                async with self._turns:
                    return await self._way.open(self.vm, port, attempt_s, way)
            except (OSError, GuestUnreachable) as error:
                if isinstance(error, OSError) and not isinstance(error, TimeoutError) and error.errno not in _MAY_YET_ANSWER:
                    raise
                now = self._clock.monotonic()
                if self.state != "open":
                    give_up = None  # it went to sleep before it could answer
                elif give_up is None:
                    give_up = now + REACH_LIMIT_S
                elif now >= give_up:
                    raise
            attempt_s = min(2 * attempt_s, LONGEST_ATTEMPT_S)
            await self._clock.sleep(ATTEMPT_AGAIN_S)
        return None

    async def _wait_open(self) -> bool:
        """Wake it if need be, and return when it lets in; False when it will not."""
        self._waiting += 1
        try:
            while self.state != "open":
                if self.state == "closed":
                    return False
                self.wake()
                await self._settled.wait()
        finally:
            self._waiting -= 1
        return True

    def _is_wanted(self) -> bool:
        return bool(self._waiting) or any(pipe.holds_bytes for pipe in self._stopped_pipes)

    async def _write_wake(self) -> None:
        note = Note("Normal", "Waking", "somebody connects to a published port; it is being woken")
        try:
            # It may be asked to sleep once more before this is through.
            while self.state == "asleep" and self.vm.spec.power == "suspended" and self._is_wanted():
                try:
                    async with asyncio.timeout(WAKE_WRITE_LIMIT_S):
                        woken = await change_power(
                            self._store, key_of(self.vm), self.vm.uid,
                            expected="suspended", wanted="running", note=note, cache=self._cache, clock=self._clock,
                        )  # fmt: skip
                except (VolantError, TimeoutError) as error:
                    log.warning("wake_failed", name=self.vm.name, error=str(error) or "the registry did not answer")
                    woken = False
                if not woken:
                    await self._clock.sleep(WAKE_AGAIN_S)
        finally:
            self._wake = None
