"""Talking to a serial console: many read, one types.

What is read comes from the log that the holder keeps, which holds every byte before the holder's socket passes it on; the
socket says when there is more, and takes what is typed. So nobody who is slow loses anything but what the log itself drops.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from volant.core.clock import Clock
from volant.core.errors import GuestUnreachable, WrongState
from volant.core.ids import Uid
from volant.guest.deadline import race
from volant.node.console import FOLLOW_PERIOD_S, read_kept, read_on

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial = Callable[[], Awaitable[Connection | None]]
"""Connects to the holder; None while nothing runs there."""

WRITE_S = 10.0
REDIAL_S = 1.0
IDLE_S = 5.0


class ConsoleSession:
    """Implements door.ConsoleSession."""

    def __init__(self, line: ConsoleLine, path: Path, tail_bytes: int | None) -> None:
        self.taken_over = ""
        """Why it may type no longer."""
        self._line = line
        self._path = path
        self._tail_bytes = tail_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        kept, place = await asyncio.to_thread(read_kept, self._path, self._tail_bytes)
        if kept:
            yield kept
        while self._path.parent.exists():
            if self.taken_over:
                raise WrongState(self.taken_over)
            arrivals = self._line.arrivals
            fresh, place = await asyncio.to_thread(read_on, self._path, place)
            if fresh:
                yield fresh
            else:
                await self._line.wait_more(arrivals)

    async def write(self, content: bytes) -> None:
        """Raises WrongState for who is not the writer, GuestUnreachable when the guest does not take it."""
        if self.taken_over:
            raise WrongState(self.taken_over)
        if self._line.writer is not self:
            raise WrongState("the console was opened for reading only", hint="open it with write=true")
        await self._line.write(content)


class ConsoleLine:
    """The console of one VM while anybody has it open."""

    def __init__(self, dial: Dial, clock: Clock) -> None:
        self.writer: ConsoleSession | None = None
        self.sessions = 0
        self.following: asyncio.Task[None] | None = None
        self.arrivals = 0
        """Rises whenever there may be more to read."""
        self._dial = dial
        self._clock = clock
        self._arrived = asyncio.Event()
        self._typist: asyncio.StreamWriter | None = None
        self._typing = asyncio.Lock()

    async def follow(self) -> None:
        """Task body: keep a connection to the holder, and say when something comes on it."""
        while True:
            connection = await self._dial()
            if connection is None:
                await self._clock.sleep(REDIAL_S)
                continue
            reader, self._typist = connection
            self._tell()
            try:
                while await reader.read(65_536):
                    self._tell()
            except OSError:
                pass
            finally:
                self._typist.transport.abort()
                self._typist = None
                self._tell()
            await self._clock.sleep(FOLLOW_PERIOD_S)

    async def wait_more(self, seen: int) -> None:
        """Until something came since ``arrivals`` was ``seen``, or it is time to look at the log all the same."""
        if self.arrivals != seen:
            return
        with contextlib.suppress(TimeoutError):
            await race(self._wait(), self._clock.sleep(FOLLOW_PERIOD_S if self._typist is None else IDLE_S))

    def take_over(self, session: ConsoleSession, *, force: bool) -> None:
        """Make ``session`` the one that types. Raises WrongState while another is, unless ``force``."""
        if self.writer is not None:
            if not force:
                raise WrongState(
                    "somebody else types at this console", hint="read it without --interactive, or take over with --force"
                )
            self.writer.taken_over = "somebody else took over this console"
        self.writer = session
        self._tell()

    async def write(self, content: bytes) -> None:
        try:
            async with asyncio.timeout(WRITE_S), self._typing:
                while self._typist is None:
                    await self.wait_more(self.arrivals)
                self._typist.write(content)
                await self._typist.drain()
        except TimeoutError as error:
            why = "the VM does not run" if self._typist is None else "the guest does not read its console"
            raise GuestUnreachable(f"nothing was typed: {why}") from error
        except OSError as error:
            raise GuestUnreachable(f"nothing was typed: {error}") from error

    def _tell(self) -> None:
        self.arrivals += 1
        arrived, self._arrived = self._arrived, asyncio.Event()
        arrived.set()

    async def _wait(self) -> None:
        await self._arrived.wait()


class Consoles:
    """The lines of all VMs of a host whose consoles are open now."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lines: dict[Uid, ConsoleLine] = {}

    @contextlib.asynccontextmanager
    async def open(
        self, uid: Uid, path: Path, dial: Dial, *, write: bool, force: bool, tail_bytes: int | None
    ) -> AsyncIterator[ConsoleSession]:
        """Raises WrongState when ``write`` is wanted and another types, unless ``force``."""
        line = self._lines.get(uid)
        if line is None:
            line = self._lines[uid] = ConsoleLine(dial, self._clock)
        session = ConsoleSession(line, path, tail_bytes)
        line.sessions += 1
        try:
            if write:
                line.take_over(session, force=force)
            if line.following is None:
                line.following = asyncio.create_task(line.follow(), name="console")
            yield session
        finally:
            line.sessions -= 1
            if line.writer is session:
                line.writer = None
            if not line.sessions:
                self._lines.pop(uid, None)
                if line.following is not None:
                    line.following.cancel()
                    await asyncio.gather(line.following, return_exceptions=True)
