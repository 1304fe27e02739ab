"""The published ports of one owner: who listens there, what cannot be had yet, and those who come in."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from typing import Any

import structlog

from volant.core.clock import Clock, format_time
from volant.core.errors import AlreadyExists, NotFound, StaleRevision, VolantError
from volant.core.resource import Resource
from volant.net.fabric import Fabric
from volant.reconcile.pause import wait_change
from volant.reconcile.recorder import Note, event_operation
from volant.store.cache import Cache
from volant.store.contract import Store

log = structlog.get_logger()

LISTEN_AGAIN_S = 3.0
ACCEPT_AGAIN_S = 0.5
ACCEPTS_A_TURN = 256
"""So that a flood at one port leaves the loop to others in between."""

_DESCRIPTORS_SPENT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Listeners:
    """Listens on the ports that are wanted, for as long as ``run`` runs, and hands over every connection."""

    def __init__(
        self,
        fabric: Fabric,
        clock: Clock,
        name: str,
        *,
        wanted: Callable[[], AbstractSet[int]],
        admit: Callable[[socket.socket, int], None],
        tell: Callable[[int, VolantError], Awaitable[None]],
        on_listen: Callable[[], None] = lambda: None,
    ) -> None:
        """``wanted`` gives the host's ports; ``admit`` takes a connection over, with the port that it came by; ``tell`` is
        told once why a port cannot be had; ``on_listen`` is called for every port that was opened."""
        self._fabric = fabric
        self._clock = clock
        self._name = name
        self._wanted = wanted
        self._admit = admit
        self._tell = tell
        self._on_listen = on_listen
        self._listeners: dict[int, socket.socket] = {}
        self._told: set[int] = set()
        self._changed = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Listen, and let in, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                while True:
                    self._changed.clear()
                    if await self._open():
                        await self._changed.wait()
                    else:
                        await wait_change(self._changed, self._clock, LISTEN_AGAIN_S)
        finally:
            self.leave()

    def refresh(self) -> None:
        """What is wanted may have changed: what is not wanted any more is closed at once."""
        if self._wanted() != self._listeners.keys():
            self._close_unwanted()
            self._changed.set()

    def leave(self) -> None:
        """Close the ports at once, so that another may have them."""
        self._group = None
        for host_port in list(self._listeners):
            self._close(host_port)

    def has_port(self, host_port: int) -> bool:
        return host_port in self._listeners

    async def _open(self) -> bool:
        """False when a port could not be had."""
        complete = True
        for host_port in sorted(self._wanted() - self._listeners.keys()):
            try:
                listener = await self._fabric.open_listener(host_port)
            except VolantError as error:
                complete = False
                if host_port not in self._told:
                    self._told.add(host_port)
                    await self._tell(host_port, error)
                continue
            self._told.discard(host_port)
            self._listeners[host_port] = listener
            asyncio.get_running_loop().add_reader(listener, self._accept, listener, host_port)
            self._on_listen()
        self._close_unwanted()
        return complete

    def _close_unwanted(self) -> None:
        for host_port in sorted(self._listeners.keys() - self._wanted()):
            self._close(host_port)

    def _close(self, host_port: int) -> None:
        listener = self._listeners.pop(host_port)
        asyncio.get_running_loop().remove_reader(listener)
        listener.close()

    def _accept(self, listener: socket.socket, host_port: int) -> None:
        for _ in range(ACCEPTS_A_TURN):
            try:
                client, _ = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno not in _DESCRIPTORS_SPENT:
                    continue  # that one connection ended before it was taken (accept(2))
                log.warning("accept_failed", name=self._name, port=host_port, error=str(error))
                asyncio.get_running_loop().remove_reader(listener)
                if self._group is not None:
                    self._group.create_task(self._accept_again(listener, host_port))
                return
            self._admit(client, host_port)

    async def _accept_again(self, listener: socket.socket, host_port: int) -> None:
        await self._clock.sleep(ACCEPT_AGAIN_S)
        if self._listeners.get(host_port) is listener:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener, host_port)


async def tell_unavailable(
    store: Store, cache: Cache, clock: Clock, about: Resource[Any, Any], host_port: int, error: VolantError
) -> None:
    """Write an event about the resource whose ``host_port`` cannot be listened on."""
    log.warning("port_unavailable", name=about.name, port=host_port, error=str(error))
    message = f"{error}; it is tried again every {LISTEN_AGAIN_S:g} s" + (f" ({error.hint})" if error.hint else "")
    note = Note("Warning", "PortUnavailable", message)
    try:
        await store.transact([event_operation(cache, about, note, format_time(clock.now()))])
    except (AlreadyExists, NotFound, StaleRevision):
        pass  # it was told a moment ago, and the cache has not seen that
    except VolantError as failure:
        log.warning("event_failed", name=about.name, error=str(failure))
