"""Clients that ask and then read nothing, very many of them: volantd keeps little for each, and nobody else waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import gc
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from volant.core.patch import merge_patch
from volant.guest.file_records import FileEntry
from volant.guest.frame import WINDOW_BYTES
from volant.node.door import ExecRequest

from .host import World
from .talking import Talk, talk

MANY = 120
READ_S = 30.0
A_CLIENT_BYTES = 1 << 20
"""What each may cost: a window of 256 KiB towards the guest, as much that is on its way, and what Python adds."""

A_WATCHER_BYTES = 1 << 19
"""The same where no stream to the guest is held."""

CHUNK = b"x" * 60_000


def resident_bytes() -> int:
    """What is held, without what was given back to the allocator only."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def ask(path: str, accept: str = "*/*") -> bytes:
    return f"GET /api/v1/{path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n".encode()


def open_socket(path: str) -> bytes:
    """A WebSocket's handshake (RFC 6455)."""
    return (
        f"GET /api/v1/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    ).encode()


def say(content: object) -> bytes:
    """A WebSocket's message, masked by zeros."""
    text = json.dumps(content).encode()
    assert len(text) < 126
    return bytes([0x81, 0x80 | len(text)]) + bytes(4) + text


class Deaf:
    """Connections to the API on which something was asked, and of which only the first bytes are ever read."""

    def __init__(self, at: Talk) -> None:
        self._path = at.address.removeprefix("unix://")
        self._open: list[socket.socket] = []

    async def ask(self, request: bytes, count: int, status: bytes, then: bytes = b"") -> None:
        """Returns once each was answered with ``status`` and has said ``then``."""
        loop = asyncio.get_running_loop()
        for _ in range(count):
            one = socket.socket(socket.AF_UNIX)
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            self._open.append(one)
            await loop.sock_connect(one, self._path)
            await loop.sock_sendall(one, request)
        async with asyncio.timeout(READ_S):
            for one in self._open[-count:]:
                head = await loop.sock_recv(one, 12)
                assert head == b"HTTP/1.1 " + status, head
                while then and not head.endswith(b"\r\n\r\n"):
                    head += await loop.sock_recv(one, 1)
                await loop.sock_sendall(one, then)

    def close(self) -> None:
        for one in self._open:
            one.close()


@contextlib.contextmanager
def deaf(at: Talk) -> Iterator[Deaf]:
    made = Deaf(at)
    try:
        yield made
    finally:
        made.close()


async def check_others(at: Talk) -> None:
    async with asyncio.timeout(READ_S):
        async with at.plane.node.open_exec(at.vm.uid, ExecRequest(argv=("echo", "on time"))) as session:
            assert b"".join([content async for _, content in session]) == b"on time\n"
        assert (await at.plane.intents.vms.get("web")).status.ready


async def check_stalled(at: Talk, count: int) -> None:
    """So many streams come to stand, because nobody takes what they bring; meanwhile others are served."""
    session = at.plane.node._runs[at.vm.uid].link._session  # type: ignore[union-attr]
    assert session is not None
    async with asyncio.timeout(READ_S):
        while sum(stream._receive_window < WINDOW_BYTES // 2 for stream in session._streams.values()) < count:
            await check_others(at)


async def check_freed(at: Talk) -> None:
    """What the deaf held goes when they do."""
    session = at.plane.node._runs[at.vm.uid].link._session  # type: ignore[union-attr]
    assert session is not None
    async with asyncio.timeout(READ_S):
        while len(session._streams) > 2:  # control, and the log's
            await check_others(at)


async def test_followers_of_a_log(world: World) -> None:
    async with talk(world) as at:
        with deaf(at) as clients:
            at.guest.log(b"the first")
            await clients.ask(ask("vms/web/logs?follow=true"), MANY, b"200")
            before = resident_bytes()

            def read() -> bool:
                lines = at.client.vms.logs("web", follow=True)
                return any(line["text"] == "the last" for line in lines)

            reading = asyncio.create_task(at.off(read, READ_S))
            for number in range(200):
                at.guest.log(b"%d " % number + b"y" * 10_000)
                await check_others(at)
            at.guest.log(b"the last")
            assert await reading
            assert resident_bytes() - before < MANY * A_WATCHER_BYTES
        await check_freed(at)


async def test_programs_that_print_for_nobody(world: World) -> None:
    async with talk(world) as at:
        before = resident_bytes()
        with deaf(at) as clients:
            await clients.ask(open_socket("vms/web/exec"), MANY, b"101", say({"argv": ["yes"]}))
            await check_stalled(at, MANY)
            assert resident_bytes() - before < MANY * A_CLIENT_BYTES
        await check_freed(at)


async def test_ports_that_pour(world: World) -> None:
    async def pour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while True:
                writer.write(CHUNK)
                await writer.drain()

    async with talk(world) as at:
        at.guest.ports[80] = pour
        before = resident_bytes()
        with deaf(at) as clients:
            await clients.ask(open_socket("vms/web/ports/80"), MANY, b"101")
            await check_stalled(at, MANY)
            # Both ends of each connection are in this process: the guest's window and the host's.
            assert resident_bytes() - before < 2 * MANY * A_CLIENT_BYTES
        await check_freed(at)


async def test_copies_that_nobody_takes(world: World) -> None:
    async with talk(world) as at:
        at.guest.files.put("/srv", FileEntry(path="big", type="file", size=8_000_000), bytes(8_000_000))
        before = resident_bytes()
        with deaf(at) as clients:
            await clients.ask(ask("vms/web/files?path=/srv/big"), 12, b"200")
            await check_stalled(at, 12)
            assert resident_bytes() - before < 12 * 4 * A_CLIENT_BYTES
        await check_freed(at)


@pytest.mark.parametrize("path", ["events", "vms?watch=true", "vms/web/watch"])
async def test_watchers_of_what_changes(world: World, path: str) -> None:
    async with talk(world) as at:
        with deaf(at) as clients:
            await clients.ask(ask(path, "text/event-stream"), MANY, b"200")
            before = resident_bytes()
            for number in range(150):
                patch = {"env": {"PADDING": f"{number} " + "z" * 4_000}}
                await at.plane.intents.configuration.edit("web", functools.partial(merge_patch, patch=patch))
            await check_others(at)
            assert resident_bytes() - before < MANY * A_WATCHER_BYTES


async def test_readers_of_a_console(world: World) -> None:
    async with talk(world) as at:
        console = at.plane.node.places.console(at.vm.uid)
        console.write_bytes(b"boot\n")
        with deaf(at) as clients:
            await clients.ask(open_socket("vms/web/console"), MANY, b"101")
            before = resident_bytes()
            with console.open("ab") as log:
                for _ in range(50):
                    log.write(CHUNK)
                    log.flush()
                    await check_others(at)
            assert resident_bytes() - before < MANY * A_WATCHER_BYTES


ACCEPTED_BYTES = 4 << 20
"""More than every buffer on the way to a guest that reads nothing, together."""


@pytest.mark.parametrize(
    ("path", "first"),
    [
        ("vms/web/exec", {"argv": ["sleep", "1000"], "stdin": True}),
        ("vms/web/ports/80", None),
    ],
)
async def test_who_only_talks_is_held_back_by_whom_it_talks_to(world: World, path: str, first: object) -> None:
    async def ignore(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    message = b"\x82\xfe" + (0xF000).to_bytes(2, "big") + bytes(4) + bytes(0xF000)
    async with talk(world) as at:
        at.guest.ports[80] = ignore
        with deaf(at) as clients:
            await clients.ask(open_socket(path), 1, b"101", b"" if first is None else say(first))
            (one,) = clients._open
            sent = refused = 0
            rest = b""
            async with asyncio.timeout(READ_S):
                while refused < 20:
                    rest = rest or message
                    try:
                        taken = one.send(rest)
                        rest, sent, refused = rest[taken:], sent + taken, 0
                    except BlockingIOError:
                        refused += 1
                        await check_others(at)
                    assert sent < ACCEPTED_BYTES, f"{path}: all of it is taken, and nobody wants it"
