"""The agents that are put to the same questions: the simulated one, and kestrel built for this host."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from volant.core.clock import HostClock
from volant.guest.document import Document, Restart, Root, Workload, encode_document
from volant.guest.link import AgentLink
from volant.guest.preamble import NONCE_BYTES, ZERO_SECRET, encode_answer, encode_preamble
from volant.guest.simulated import SimulatedGuest
from volant.guest.simulated_agent import SimulatedAgent
from volant.guest.state import AgentState
from volant.run import spawn

KESTREL_TEST = Path(__file__).parents[3] / "build" / "native" / "x86_64" / "kestrel-test"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
LINE = "line %d"


class Agent:
    """One guest of the kind under test, and a link to it."""

    def __init__(self) -> None:
        self.secret = secrets.token_bytes(32)
        self.clock = HostClock()
        self.states: list[AgentState] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.off = asyncio.Event()
        self.link = AgentLink(self.connect, self.secret, on_change=self.states.append, clock=self.clock, client="volantd/test")

    async def open(self) -> Streams:
        """A connection to the agent's port."""
        raise NotImplementedError

    def argv(self, lines: int) -> tuple[str, ...]:
        """A workload that logs ``lines`` lines and then goes on."""
        raise NotImplementedError

    def started(self, lines: int) -> None:
        """The workload of ``argv(lines)`` was handed over."""

    async def connect(self) -> Streams:
        reader, writer = await self.open()
        self.writers.append(writer)
        return reader, writer

    @property
    def console(self) -> bytes:
        """What it left on its console; asked once it is off."""
        raise NotImplementedError

    def document(self, lines: int = 0, **workload: object) -> bytes:
        return self.document_of(Workload(argv=self.argv(lines), restart=Restart(policy="never"), **workload))  # type: ignore[arg-type]  # a test's own

    def document_of(self, told: Workload) -> bytes:
        return encode_document(
            Document(
                channel_secret=self.secret.hex(),
                entropy="0" * 128,
                unix_ns=1_790_000_000_000_000_000,
                hostname="web",
                machine_id="0" * 32,
                root=Root(writable="none"),
                workloads=(told,),
            )
        )

    async def connected(self) -> AgentState:
        return await self.link.wait_for(lambda state: state.connected, 10.0)

    async def configured(self, lines: int = 0) -> AgentState:
        await self.connected()
        await self.link.configure(self.document(lines))
        self.started(lines)
        return await self.link.wait_for(lambda state: state.workload is not None and state.workload.state == "running", 10.0)

    async def cut(self) -> None:
        """The connection breaks; returns when the link has noticed."""
        self.writers[-1].transport.abort()
        await self.link.wait_for(lambda state: not state.connected, 10.0)

    @contextlib.asynccontextmanager
    async def raw_session(self, secret: bytes = ZERO_SECRET) -> AsyncIterator[Streams]:
        """A session that the test speaks itself, just begun."""
        reader, writer = await self.open()
        try:
            await begin(reader, writer, secret)
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, secret: bytes) -> bytes:
    """Begin a session; return what was read, which ends with the answer.

    A preamble that shares a read with bytes before it begins nothing, so it is written again until it stands alone.
    """
    nonce = secrets.token_bytes(NONCE_BYTES)
    reading = asyncio.ensure_future(reader.readuntil(encode_answer(nonce)))
    try:
        for _ in range(40):
            writer.write(encode_preamble(secret, nonce))
            done, _ = await asyncio.wait([reading], timeout=0.25)
            if done:
                return reading.result()
        raise AssertionError("no preamble was answered")
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


class Simulated(Agent):
    def __init__(self) -> None:
        super().__init__()
        self.guest = SimulatedGuest(self.clock, on_power_off=self.off.set)
        self._tasks: list[asyncio.Future[None]] = []

    async def open(self) -> Streams:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_unix_connection(sock=theirs)
        self._tasks.append(asyncio.ensure_future(SimulatedAgent(self.guest)(reader, writer)))
        return await asyncio.open_unix_connection(sock=ours)

    def argv(self, lines: int) -> tuple[str, ...]:
        return ("/bin/sh", "-c", "exec sleep 1000")

    def started(self, lines: int) -> None:
        for number in range(lines):
            self.guest.log(LINE % number)

    @property
    def console(self) -> bytes:
        return self.guest.farewell

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
            assert ended is None or isinstance(ended, asyncio.CancelledError), ended


class KestrelTest(Agent):
    def __init__(self, directory: Path, *, program: Path = KESTREL_TEST) -> None:
        super().__init__()
        self._path = directory / "agent.sock"
        self._console = directory / "console"
        with socket.socket(socket.AF_UNIX) as listener, self._console.open("wb") as console:
            listener.bind(str(self._path))
            listener.listen()
            self._process = spawn(
                [program, "--listen-fd", str(listener.fileno())],
                pass_fds=(listener.fileno(),),
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
                stderr=console,
            )
        self._watching = asyncio.ensure_future(self._watch())

    async def open(self) -> Streams:
        return await asyncio.open_unix_connection(str(self._path))

    def argv(self, lines: int) -> tuple[str, ...]:
        script = f'i=0; while [ $i -lt {lines} ]; do echo "{LINE.replace("%d", "$i")}"; i=$((i+1)); done; exec sleep 1000'
        return ("/bin/sh", "-c", script)

    @property
    def console(self) -> bytes:
        return self._console.read_bytes()

    async def _watch(self) -> None:
        await asyncio.to_thread(self._process.wait)
        self.off.set()

    async def close(self) -> None:
        if not self.off.is_set():
            self._process.send_signal(signal.SIGKILL)
        await self._watching


async def make_agent(kind: str, directory: Path) -> Simulated | KestrelTest:
    if kind == "simulated":
        return Simulated()
    if not KESTREL_TEST.exists():
        pytest.skip("kestrel-test is not built: make -C native test-agent")
    return KestrelTest(directory)
