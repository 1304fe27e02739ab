"""The guest's side of the protocol for a simulated guest, over any pair of streams (docs/guest-protocol.md)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, cast

from volant.core.clock import Clock
from volant.core.errors import GuestUnreachable
from volant.guest.breach import Breach, SessionOver
from volant.guest.deadline import race, within
from volant.guest.frame import Flag, GoAwayCode, encode_window_update
from volant.guest.message import MessageDecoder, decode_body, encode_message
from volant.guest.preamble import PreambleDetector, encode_answer
from volant.guest.records import encode_log
from volant.guest.session import Session
from volant.guest.simulated import SimulatedGuest
from volant.guest.simulated_attach import run_attach
from volant.guest.simulated_exec import run_exec
from volant.guest.simulated_files import run_files
from volant.guest.simulated_port import run_connection
from volant.guest.simulated_types import Machinelike, Refusal
from volant.guest.stream import Stream

READ_BYTES = 4_096
"""What one read of a virtio-serial port returns at most."""

HOLD_S = 0.1
"""How long a read that may be the beginning of a preamble waits for the rest."""

MAX_FREEZE_MS = 60_000

_LOG_BATCH = 64
_MEMBERS = {"configure": "document", "renew": "document", "clock": "unix_ns", "shutdown": "grace_ms", "freeze": "timeout_ms"}
"""What each request must have."""

ServeConnection = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class _NewSession(Exception):
    """A preamble came: the session before it is dropped."""

    def __init__(self, nonce: bytes, first: bytes) -> None:
        super().__init__()
        self.nonce = nonce
        self.first = first


class SimulatedAgent:
    """Serves connections to one guest, one at a time; the guest's state outlives them. Call it with a connection's streams."""

    def __init__(self, guest: SimulatedGuest) -> None:
        self.guest = guest

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it closes. A power-off that was begun is carried through all the same."""
        guest = self.guest
        try:
            # As with a port that the guest has not opened yet: what the host writes stays where it is.
            transport = cast(asyncio.Transport, writer.transport)
            transport.pause_reading()
            await guest.clock.sleep(guest.ready_at_s - guest.clock.monotonic())
            transport.resume_reading()
            await _Connection(guest, reader, writer).serve()
        except OSError:
            pass
        finally:
            writer.transport.abort()
        while guest.state == "stopping" and not guest.powered_off:
            await guest.clock.sleep(guest.next_due_s or 0.0)
            guest.catch_up()


class AgentFactory(Protocol):
    def __call__(self, machine: Machinelike, saved: Mapping[str, Any] | None = None) -> SimulatedAgent: ...


def make_agent_factory(clock: Clock, make_guest: Callable[[Machinelike], SimulatedGuest] | None = None) -> AgentFactory:
    """What a simulated driver needs: for each machine that it powers on, an agent that serves connections.

    With ``saved``, which another agent's ``guest.save()`` gave, the guest goes on from there instead of booting. The driver
    sets ``agent.guest.on_power_off`` when it wants to hear of a power-off.
    """

    def make_agent(machine: Machinelike, saved: Mapping[str, Any] | None = None) -> SimulatedAgent:
        guest = make_guest(machine) if make_guest is not None else SimulatedGuest(clock)
        if saved is not None:
            guest.load(saved)
        return SimulatedAgent(guest)

    return make_agent


class _Connection:
    """One connection; also the source that its sessions read from, which is where preambles are noticed."""

    def __init__(self, guest: SimulatedGuest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._guest = guest
        self._reader = reader
        self._writer = writer
        self._detector = PreambleDetector()
        self._begun: _NewSession | None = None

    async def read(self, max_bytes: int, /) -> bytes:
        while True:
            if self._begun is not None:
                begun, self._begun = self._begun, None
                raise begun
            try:
                reading = self._reader.read(min(max_bytes, READ_BYTES))
                data = await (within(self._guest.clock, HOLD_S, reading) if self._detector.is_holding else reading)
            except TimeoutError:
                return self._detector.release()
            if not data:
                return b""
            before, nonce, first = self._detector.feed(data, self._guest.secret)
            if nonce is not None:
                self._begun = _NewSession(nonce, first)
            if before:
                return before

    async def serve(self) -> None:
        begun = await self._await_preamble()
        while begun is not None:
            begun = await self._serve_session(begun) or await self._await_preamble()

    async def _await_preamble(self) -> _NewSession | None:
        """The next preamble, everything before it discarded; None when the connection has closed."""
        try:
            while await self.read(READ_BYTES):
                pass
        except _NewSession as begun:
            return begun
        return None

    async def _serve_session(self, begun: _NewSession) -> _NewSession | None:
        if self._guest.misbehaviour == "silent":
            return None
        self._writer.write(encode_answer(begun.nonce))
        following: list[_NewSession] = []
        code: GoAwayCode | None = None
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.TaskGroup() as tasks:
                    served = _ServedSession(self._guest, self, self._writer, tasks)
                    stack.callback(lambda: served.session.drop("the session ended", code))
                    tasks.create_task(served.session.receive(begun.first))
                    tasks.create_task(misbehave(self._guest, self._writer))
            except* _NewSession as group:
                following = [e for e in group.exceptions if isinstance(e, _NewSession)]
            except* Breach:
                code = GoAwayCode.PROTOCOL_ERROR
            except* (SessionOver, GuestUnreachable, OSError):
                # The host went away: there is nobody to tell.
                code = None
        return following[0] if following else None


class _ServedSession:
    """The streams of one session."""

    def __init__(
        self, guest: SimulatedGuest, source: _Connection, writer: asyncio.StreamWriter, tasks: asyncio.TaskGroup
    ) -> None:
        self._guest = guest
        self._tasks = tasks
        self._control_id: int | None = None
        self.session = Session(source, writer, guest.clock, accept=self._accept, max_streams=guest.max_streams)

    def _accept(self, stream: Stream) -> None:
        self._tasks.create_task(self._serve_stream(stream))

    async def _serve_stream(self, stream: Stream) -> None:
        decoder = MessageDecoder()
        try:
            opening = await _read_message(stream, decoder)
            if opening is None:
                stream.reset()
                return
            kind = opening.get("open")
            if (kind == "control") == (self._control_id is not None):
                raise Breach("the first stream of a session is control, and there is one")
            if kind == "control":
                self._control_id = stream.id
                await self._serve_control(stream, decoder)
            elif kind == "exec":
                self._check_workload(opening)
                await run_exec(self._guest, stream, opening, decoder.take_rest())
            elif kind == "attach":
                self._check_workload(opening)
                await run_attach(self._guest, stream, opening, decoder.take_rest())
            elif kind in ("read_files", "write_files"):
                await run_files(self._guest, stream, opening, decoder.take_rest())
            elif kind == "connect":
                await run_connection(self._guest, stream, opening, decoder.take_rest())
            elif kind == "logs":
                self._check_workload(opening)
                await self._serve_logs(stream, opening)
            else:
                raise Refusal("unknown_stream", f"no stream is called {kind!r}")
        except Refusal as refusal:
            await stream.write(encode_message(_error(refusal)))
            stream.finish()
        except GuestUnreachable:
            if stream.id == self._control_id and self.session.over is None:
                raise Breach("the host reset the control stream") from None
            # The host reset the stream, or the session is over and says so elsewhere.
            stream.reset()

    def _check_workload(self, opening: dict[str, Any]) -> None:
        if self._guest.workload is None:
            raise Refusal("not_configured", "the guest has no workload yet")
        if opening.get("workload") != self._guest.workload.name:
            raise Refusal("no_such_workload", f"no workload is called {opening.get('workload')!r}")

    async def _serve_control(self, stream: Stream, decoder: MessageDecoder) -> None:
        await stream.write(encode_message(self._guest.hello()))
        talking = self._tasks.create_task(self._send_notices(stream))
        try:
            while (request := await _read_message(stream, decoder)) is not None:
                answer = self._answer(request)
                await stream.write(encode_message(answer))
        finally:
            talking.cancel()
        raise Breach("the host closed the control stream")

    async def _send_notices(self, stream: Stream) -> None:
        guest = self._guest
        sent: list[dict[str, Any]] = []
        while True:
            guest.catch_up()
            if guest.misbehaviour == "flood_notices":
                guest.flood_notice()
            seen = guest.version
            notices = list(guest.notices())
            for notice in notices:
                if notice not in sent:
                    await stream.write(encode_message(notice))
            sent = notices
            due_s = guest.next_due_s
            if guest.misbehaviour == "flood_notices":
                await asyncio.sleep(0)
            elif due_s is None:
                await guest.wait_changed(seen)
            else:
                with contextlib.suppress(TimeoutError):
                    await race(guest.wait_changed(seen), guest.clock.sleep(due_s))

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        number = request.get("id")
        if type(number) is not int or number < 1:
            raise Breach("a control message of the host has no number")
        try:
            return {"re": number, "ok": self._obey(request)}
        except Refusal as refusal:
            return {"re": number, **_error(refusal)}

    def _obey(self, request: dict[str, Any]) -> dict[str, Any]:
        guest = self._guest
        match request:
            case {"type": "configure", "document": str(document)}:
                guest.configure(document.encode())
            case {"type": "renew", "document": str(document)}:
                guest.renew(document.encode())
            case {"type": "freeze", "timeout_ms": int(timeout_ms)} if (
                type(timeout_ms) is int and 1 <= timeout_ms <= MAX_FREEZE_MS
            ):
                return {"frozen": guest.freeze(timeout_ms / 1000)}
            case {"type": "thaw"}:
                return {"thawed": guest.freezer.thaw()}
            case {"type": "sync"}:
                pass
            case {"type": "clock", "unix_ns": int(unix_ns)}:
                guest.set_clock(unix_ns)
            case {"type": "shutdown", "grace_ms": int()}:
                guest.shut_down()
            case {"type": "stats"}:
                return guest.use.stats(guest.uptime_ms)
            case _:
                member = _MEMBERS.get(str(request.get("type")), "type")
                raise Refusal("malformed", f"{member}: not as specified in a request {request.get('type')!r}")
        return {}

    async def _serve_logs(self, stream: Stream, opening: dict[str, Any]) -> None:
        guest = self._guest
        after, follow = opening.get("after"), opening.get("follow")
        if type(after) is not int or after < 0 or type(follow) is not bool:
            raise Refusal("malformed", "after or follow")
        oldest, next_ = guest.logged.range
        await stream.write(encode_message({"ok": {"oldest": oldest, "next": next_}}))
        while True:
            seen = guest.version
            records = guest.logged.read(after, _LOG_BATCH)
            for record in records:
                await stream.write(encode_log(record))
                after = record.seq
            if guest.misbehaviour == "flood_logs":
                guest.log(b"flood " * 100)
            elif not records:
                if not follow:
                    stream.finish()
                    return
                await guest.wait_changed(seen)


async def misbehave(guest: SimulatedGuest, writer: asyncio.StreamWriter) -> None:
    """Task body: break the protocol as the guest was told to, from the moment that it was told."""
    while True:
        seen = guest.version
        match guest.misbehaviour:
            case "garbage":
                await _pour(writer, bytes(range(256)) * 16)
            case "lying_length":
                writer.write(b"\x00\x00\x00\x00\x00\x00\x00\x01\xff\xff\xff\xff")
            case "endless_message":
                await _pour(writer, b"\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01\x00\x00" + b"\x00\x00\xff\xff" + b"[" * 65_532)
            case "flood_pings":
                await _pour(writer, b"\x00\x02\x00\x01\x00\x00\x00\x00\x00\x00\x00\x07" * 256)
            case "silent":
                raise SessionOver("silent from here on")
            case "opens_streams":
                writer.write(encode_window_update(2, 0, Flag.SYN))
        await guest.wait_changed(seen)


async def _pour(writer: asyncio.StreamWriter, data: bytes) -> None:
    while True:
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(0)


async def _read_message(stream: Stream, decoder: MessageDecoder) -> dict[str, Any] | None:
    while (body := decoder.next_body()) is None:
        data = await stream.read()
        if not data:
            return None
        decoder.feed(data)
    return decode_body(body)


def _error(refusal: Refusal) -> dict[str, Any]:
    return {"error": {"code": refusal.code, "message": refusal.message}}
