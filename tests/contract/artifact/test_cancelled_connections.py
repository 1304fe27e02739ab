"""A download that is given up leaves no connection behind."""

from __future__ import annotations

import asyncio
import gc

import httpx2

from volant.artifact.registry.connection import Connections
from volant.artifact.registry.settings import RegistrySettings


async def test_a_request_that_is_cancelled_while_tls_begins_closes_its_connection() -> None:
    greeted, closed = asyncio.Event(), asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(5)  # TLS has begun (RFC 8446, section 5.1: the head of its first record)
        greeted.set()
        while await reader.read(4096):
            pass
        closed.set()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    connections = Connections(RegistrySettings())
    url = httpx2.URL(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")

    async def ask() -> None:
        async with connections.send("GET", url, {}, None):
            raise AssertionError("nobody answered")

    gc.disable()  # it would close what was left behind, some day
    try:
        asking = asyncio.create_task(ask())
        async with asyncio.timeout(20):
            await greeted.wait()
            asking.cancel()
            await asyncio.wait({asking})
            await closed.wait()
    finally:
        gc.enable()
        await connections.close()
        server.close()
        await server.wait_closed()
    assert asking.cancelled()
