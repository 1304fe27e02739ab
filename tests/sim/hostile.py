"""What stands in the place of a guest's agent and means harm: it speaks the protocol as far as a test wants, and no further."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

from volant.core.clock import HostClock
from volant.guest.document import digest_document
from volant.guest.frame import Flag, FrameDecoder, FrameType, encode_data, encode_window_update
from volant.guest.preamble import NONCE_BYTES, PREAMBLE_BYTES, encode_answer
from volant.guest.simulated import SimulatedGuest
from volant.guest.simulated_types import CAPABILITIES

HASTE = 8.0


class FastClock(HostClock):
    """Durations pass ``HASTE`` times as fast, so that what waits for an answer that never comes waits a second of the test's."""

    def __init__(self) -> None:
        self._began = super().now()

    def now(self) -> datetime:
        return self._began + (super().now() - self._began) * HASTE

    def monotonic(self) -> float:
        return super().monotonic() * HASTE

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / HASTE)


def encode(content: object) -> bytes:
    """A message of the protocol, length first."""
    body = json.dumps(content).encode()
    return len(body).to_bytes(4, "big") + body


def record(kind: int, content: bytes, length: int | None = None) -> bytes:
    return bytes([kind]) + (len(content) if length is None else length).to_bytes(4, "big") + content


class Impostor:
    """One session. Tests replace what it does by assigning to its class's hooks in a subclass."""

    def __init__(self, guest: Harmful, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.guest = guest
        self.reader = reader
        self.writer = writer
        self.kinds: dict[int, str] = {}
        self._held: dict[int, bytes] = {}

    def put(self, stream: int, data: bytes, flags: int = 0) -> None:
        self.writer.write(encode_data(stream, data, flags))

    async def serve(self) -> None:
        await self.at("connected")
        preamble = await self.reader.readexactly(PREAMBLE_BYTES)
        await self.at("preamble")
        self.writer.write(encode_answer(preamble[-NONCE_BYTES:]))
        await self.at("answered")
        decoder = FrameDecoder()
        while data := await self.reader.read(65536):
            for frame in decoder.feed(data):
                if frame.type == FrameType.PING and frame.flags & Flag.SYN:
                    self.writer.write(b"\x00\x02\x00\x02" + bytes(4) + frame.value.to_bytes(4, "big"))
                elif frame.type == FrameType.DATA:
                    if frame.payload:
                        self.writer.write(encode_window_update(frame.stream_id, len(frame.payload)))
                    await self._take(frame.stream_id, frame.payload)
            await self.writer.drain()

    async def at(self, stage: str) -> None:
        """Called at every stage: connected, preamble, answered, hello, configured, logs, exec, shutdown, …"""
        if stage == self.guest.leaves_at and self.guest.may_leave():
            self.writer.transport.abort()
            raise ConnectionResetError

    async def _take(self, stream: int, payload: bytes) -> None:
        held = self._held.get(stream, b"") + payload
        while len(held) >= 4 and len(held) - 4 >= (length := int.from_bytes(held[:4], "big")):
            content = json.loads(held[4 : 4 + length])
            held = held[4 + length :]
            if stream not in self.kinds:
                self.kinds[stream] = content["open"]
                await self._open(stream, content["open"])
            elif self.kinds[stream] == "control":
                await self._answer(stream, content)
            else:
                held = b""
        self._held[stream] = held if self.kinds.get(stream, "control") == "control" else b""

    async def _open(self, stream: int, kind: str) -> None:
        await self.at(kind)
        if kind == "control":
            self.put(stream, encode(self.guest.hello()))
            await self.at("hello")
            if self.guest.is_configured:
                await self._report(stream)
        elif kind == "logs" and self.guest.logs_honestly:
            self.put(stream, encode({"ok": {"oldest": 1, "next": 1}}))
        else:
            self.guest.spawn(self.guest.on_open(self, stream, kind))

    async def _answer(self, stream: int, request: Mapping[str, Any]) -> None:
        kind = request["type"]
        await self.at(kind)
        if kind in ("configure", "renew"):
            self.guest.take(request["document"])
        ok = self.guest.answers.get(kind, {})
        if ok is not None:
            self.put(stream, encode({"re": request["id"], "ok": ok}))
        if kind == "configure":
            await self._report(stream)

    async def _report(self, stream: int) -> None:
        self.put(stream, encode({"type": "workload", "workload": "main", "state": "running", "pid": 7, "restarts": 0}))
        self.put(stream, encode({"type": "health", "workload": "main", "state": "healthy", "message": ""}))
        await self.at("reported")
        self.guest.spawn(self.guest.on_ready(self, stream))


OnOpen = Callable[[Impostor, int, str], Awaitable[None]]
OnReady = Callable[[Impostor, int], Awaitable[None]]


async def say_nothing(*_: Any) -> None:
    """The harm of an agent that answers nothing."""


class Harmful:
    """A guest whose agent is an impostor; the agent of a simulated machine."""

    def __init__(self, guest: SimulatedGuest) -> None:
        self.guest = guest
        self.is_configured = False
        self.on_open: OnOpen = say_nothing
        """What it does with a stream that is opened."""
        self.on_ready: OnReady = say_nothing
        """What it does on the control stream once its workload is said to be healthy."""
        self.answers: dict[str, Any] = {
            "stats": {"memory_total_kb": 1, "memory_available_kb": 1, "load1": 0.0, "cpu_ms": 1, "uptime_ms": 1}
        }
        """The ``ok`` for a request; None for no answer."""
        self.hello_with: dict[str, Any] = {}
        self.logs_honestly = True
        self.leaves_at = ""
        self.leaves = 1 << 30
        self.sessions = 0
        self._digest = ""
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sessions += 1
        try:
            await Impostor(self, reader, writer).serve()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            writer.transport.abort()

    def spawn(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            with contextlib.suppress(OSError):  # volantd has had enough of it
                await work

        task = asyncio.ensure_future(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def may_leave(self) -> bool:
        self.leaves -= 1
        return self.leaves >= 0

    def take(self, document: str) -> None:
        self.is_configured = True
        self._digest = digest_document(document.encode())

    def hello(self) -> dict[str, Any]:
        return {
            "type": "hello", "version": 1, "agent": "kestrel/9.9.9", "boot_id": "5f1c3f9a", "uptime_ms": 1,
            "state": "configured" if self.is_configured else "waiting", "config_digest": self._digest, "timeline": {},
            "capabilities": list(CAPABILITIES), "max_streams": 2**31, **self.hello_with,
        }  # fmt: skip


async def pour(session: Impostor, stream: int, pieces: AsyncIterator[bytes]) -> None:
    """Write on without heed of any window."""
    async for piece in pieces:
        session.put(stream, piece)
        await session.writer.drain()
        await asyncio.sleep(0)
