"""Every stream to a guest's agent but ``control``: how it is opened, in its turn and within a time."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from volant.core.clock import Clock
from volant.core.errors import GuestUnreachable, WrongState
from volant.guest.breach import Breach
from volant.guest.deadline import within
from volant.guest.exec import AttachStream, ExecStream
from volant.guest.files import FileReader, FileWriter
from volant.guest.logs import LogStream
from volant.guest.message import MessageDecoder, convert_message, decode_body, encode_message
from volant.guest.port import PortConnection
from volant.guest.protocol import (
    AttachStarted,
    ExecRequest,
    ExecStarted,
    GuestBusy,
    LogRange,
    OpenAttach,
    OpenConnect,
    Opened,
    OpenFiles,
    OpenLogs,
    Tty,
    build_error,
    clean_text,
)
from volant.guest.session import Session
from volant.guest.state import MAIN, AgentState
from volant.guest.stream import Stream
from volant.guest.turns import TURN_S, Kind, busy

T = TypeVar("T")

REQUEST_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 15.0
"""The guest gives a connection 10 s."""

BUSY_FIRST_S = 0.02
BUSY_CAP_S = 0.5


class StreamOpener:
    """What a link that keeps a session can open on it. The link sets ``_session`` and ``_greeted``."""

    clock: Clock
    _session: Session | None
    _greeted: asyncio.Event
    _state: AgentState
    _next_state: AgentState

    async def open_exec(self, request: ExecRequest, *, timeout_s: float = REQUEST_TIMEOUT_S) -> ExecStream:
        """Start a program in the guest.

        Raises:
            InvalidInput: no such program or user. NotFound: no such workload. WrongState: the guest is not configured, or its
            agent too old. Unavailable: no turn came within 10 s. GuestUnreachable: the link is or went down, or no answer came.
        """
        doing = f"{request.argv[0] if request.argv else 'the program'} was not run in the guest"
        if request.tty is not None:
            self._require("tty", "give a program a terminal", doing)
        stream, answer, rest = await self._open_patiently("exec", encode_message(request.opening()), timeout_s, doing)
        pid = _convert_or_reset(stream, answer, ExecStarted, doing).pid
        return ExecStream(stream, pid, rest, has_tty=request.tty is not None)

    async def open_attach(
        self,
        *,
        stdin: bool = False,
        tty: Tty | None = None,
        replay: bool = False,
        workload: str = MAIN,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> AttachStream:
        """The workload's output from now on (with ``replay``: and what the guest still has of it, when it can be talked with)
        and, with ``stdin``, its input; ``tty`` is the size of its terminal, if it has one.

        Raises:
            Forbidden: the workload has no stdin. Unavailable: somebody else writes to it. Others as of open_exec.
        """
        doing = "the workload was not attached to"
        self._require("attach", "let anybody attach", doing)
        opening = encode_message(OpenAttach(workload=workload, stdin=stdin, tty=tty, replay=replay))
        stream, answer, rest = await self._open("attach", opening, timeout_s, doing)
        return AttachStream(stream, _convert_or_reset(stream, answer, AttachStarted, doing), rest)

    async def read_files(self, path: str, *, timeout_s: float = REQUEST_TIMEOUT_S) -> FileReader:
        """What is at ``path`` of the workload's root, and all below. Errors as of open_exec; NotFound: nothing is there."""
        doing = f"{clean_text(path)} was not read"
        self._require("files", "copy files", doing)
        opening = encode_message(OpenFiles(open="read_files", path=path))
        stream, answer, rest = await self._open("files", opening, timeout_s, doing)
        _convert_or_reset(stream, answer, Opened, doing)
        return FileReader(stream, path, rest)

    async def write_files(self, path: str, *, timeout_s: float = REQUEST_TIMEOUT_S) -> FileWriter:
        """Make files below ``path``, a directory of the workload's root. Errors as of read_files."""
        doing = f"nothing was copied to {clean_text(path)}"
        self._require("files", "copy files", doing)
        opening = encode_message(OpenFiles(open="write_files", path=path))
        stream, answer, rest = await self._open("files", opening, timeout_s, doing)
        _convert_or_reset(stream, answer, Opened, doing)
        return FileWriter(stream, path, rest)

    async def open_logs(
        self, *, after: int = 0, follow: bool = True, workload: str = MAIN, timeout_s: float = REQUEST_TIMEOUT_S
    ) -> LogStream:
        """Read the guest's ring of log lines beginning after sequence number ``after``. Errors as of open_exec."""
        doing = "the guest's log was not opened"
        opening = encode_message(OpenLogs(workload=workload, after=after, follow=follow))
        stream, answer, rest = await self._open("logs", opening, timeout_s, doing)
        return LogStream(stream, _convert_or_reset(stream, answer, LogRange, doing), after, rest)

    async def open_port(self, port: int, *, host: str = "127.0.0.1", timeout_s: float = CONNECT_TIMEOUT_S) -> PortConnection:
        """A TCP connection to ``host``, a literal address as the guest sees it, and ``port``.

        Raises:
            Unavailable: nobody listens there, or the guest cannot reach it. WrongState: the agent is too old. Others as of
            open_exec.
        """
        where = f"port {port} of the guest" if host == "127.0.0.1" else f"{host}:{port}, from the guest,"
        doing = f"{where} was not reached"
        self._require("connect", "open ports", doing)
        stream, answer, rest = await self._open("connect", encode_message(OpenConnect(host=host, port=port)), timeout_s, doing)
        _convert_or_reset(stream, answer, Opened, doing)
        return PortConnection(stream, rest)

    def _require(self, capability: str, ability: str, doing: str) -> None:
        """Raises WrongState when the agent that answered said that it lacks ``capability``."""
        hello = self._next_state.hello
        if hello is not None and self._greeted.is_set() and capability not in hello.capabilities:
            raise WrongState(
                f"{doing}: its agent, {clean_text(hello.agent)}, is too old to {ability}: build its plugin again",
                hint="fledge build takes the agent of this version, volar plugins install brings it here",
            )

    async def _open_patiently(
        self, kind: Kind, opening: bytes, timeout_s: float, doing: str
    ) -> tuple[Stream, dict[str, Any], bytes]:
        """As ``_open``, and asks again for a while when the guest says that it is busy just now."""
        begun_s, pause_s = self.clock.monotonic(), BUSY_FIRST_S
        while True:
            try:
                return await self._open(kind, opening, timeout_s, doing)
            except GuestBusy as error:
                if self.clock.monotonic() - begun_s + pause_s > TURN_S:
                    raise busy(doing, error.message.removeprefix(f"{doing}: ")) from error
            await self.clock.sleep(pause_s)
            pause_s = min(BUSY_CAP_S, pause_s * 1.5)

    async def _open(self, kind: Kind, opening: bytes, timeout_s: float, doing: str) -> tuple[Stream, dict[str, Any], bytes]:
        session = self._session
        if session is None or not self._greeted.is_set():
            raise GuestUnreachable(f"{doing}: {self._state.reason or 'the link is just coming up'}")
        stream = await session.open_in_turn(kind, doing)
        try:
            answer, rest = await within(self.clock, timeout_s, _read_answer(stream, opening))
        except TimeoutError as error:
            stream.reset()
            raise GuestUnreachable(f"{doing}: the guest's agent did not answer within {timeout_s:g} s") from error
        except (Breach, GuestUnreachable) as error:
            stream.reset()
            raise GuestUnreachable(f"{doing}: {error}") from error
        except BaseException:
            stream.reset()
            raise
        finally:
            session.settle(kind)
        if "error" in answer:
            stream.reset()
            raise build_error(answer["error"], doing)
        return stream, answer, rest


async def _read_answer(stream: Stream, opening: bytes) -> tuple[dict[str, Any], bytes]:
    await stream.write(opening)
    decoder = MessageDecoder()
    while (body := decoder.next_body()) is None:
        data = await stream.read()
        if not data:
            raise Breach("the guest's agent closed the stream without an answer")
        decoder.feed(data)
    return decode_body(body), decoder.take_rest()


def convert_answer(answer: object, type_: type[T], doing: str) -> T:
    try:
        return convert_message(answer, type_)
    except Breach as breach:
        raise GuestUnreachable(f"{doing}: {breach}") from breach


def _convert_or_reset(stream: Stream, answer: dict[str, Any], type_: type[T], doing: str) -> T:
    try:
        return convert_answer(answer.get("ok"), type_, doing)
    except GuestUnreachable:
        stream.reset()
        raise
