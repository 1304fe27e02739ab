"""The way to a port of a guest: a socket where this host has a road to it, else a stream through its channel."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from volant.core.cards import is_reached_by_channel
from volant.core.errors import GuestUnreachable, Unavailable
from volant.core.ids import Uid
from volant.core.vm import VM
from volant.net.fabric import Fabric
from volant.node.door import PortStream

OpenPort = Callable[[Uid, int], AbstractAsyncContextManager[PortStream]]
"""A connection to a port inside a guest, made by its agent."""

CHANNEL_LIMIT_S = 10.0


class GuestWay:
    def __init__(self, fabric: Fabric, open_port: OpenPort | None = None) -> None:
        """``open_port`` is the way to a guest that this host has no other way to."""
        self._fabric = fabric
        self._open_port = open_port

    async def open(self, vm: VM, port: int, limit_s: float, way: AsyncExitStack) -> socket.socket | PortStream:
        """What leads to ``port`` of the guest, closed with ``way``.

        Raises:
            OSError (TimeoutError after ``limit_s``), VolantError: it cannot be had.
        """
        if is_reached_by_channel(vm):
            if self._open_port is None:
                raise Unavailable("nobody here has a way to a guest without a network card")
            # The agent has its own limit for an answer.
            async with asyncio.timeout(CHANNEL_LIMIT_S):
                return await way.enter_async_context(self._open_port(vm.uid, port))
        address = vm.status.addresses[0].ip
        if not address:
            raise GuestUnreachable("it has no address yet")
        connection = await self._connect(address, port, limit_s)
        way.callback(connection.close)
        return connection

    async def _connect(self, address: str, port: int, limit_s: float) -> socket.socket:
        connection = await self._fabric.open_connection_socket()
        try:
            async with asyncio.timeout(limit_s):
                await asyncio.get_running_loop().sock_connect(connection, (address, port))
        except BaseException:
            connection.close()
            raise
        return connection
