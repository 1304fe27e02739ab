"""A program run in a guest beside its workload, or the workload itself (docs/guest-protocol.md, sections 4.2 and 4.4)."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Literal, Self

from volant.core.errors import GuestUnreachable, WrongState
from volant.guest.breach import Breach
from volant.guest.protocol import AttachStarted, Exit
from volant.guest.records import MAX_SIGNAL, ExecDecoder, ExecType, encode_exec, encode_size
from volant.guest.stream import Stream

STDIN_BYTES = 16_384
"""Bytes of one stdin record: small, so that a signal does not wait long behind it."""

Output = tuple[Literal["stdout", "stderr"], bytes]
_OUTPUTS: dict[ExecType, Literal["stdout", "stderr"]] = {ExecType.STDOUT: "stdout", ExecType.STDERR: "stderr"}


class ExecStream:
    """Iterate for (kind, bytes) until the program has ended; then ``result`` says how. Close it, or use it as a context.

    Output that is not read stays in the guest: the program blocks on its pipe once 256 KiB wait here.
    """

    def __init__(self, stream: Stream, pid: int, first: bytes = b"", *, has_tty: bool = False) -> None:
        self.pid = pid
        self.has_tty = has_tty
        self._stream = stream
        self._decoder = ExecDecoder("guest")
        self._waiting: deque[Output] = deque()
        self._stdin_open = True
        self._first = first

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __aiter__(self) -> AsyncIterator[Output]:
        return self

    async def __anext__(self) -> Output:
        while not self._waiting:
            if self._decoder.end is not None:
                raise StopAsyncIteration
            await self._receive()
        return self._waiting.popleft()

    async def result(self) -> Exit:
        """How the program ended. Output that was not iterated over is passed over.

        Raises:
            GuestUnreachable: the link went down before the end was known.
        """
        while (ended := self._decoder.end) is None:
            self._waiting.clear()
            await self._receive()
        return ended

    async def write_stdin(self, content: bytes) -> None:
        """Send to the program's stdin; waits while the program does not read. One writer at a time.

        Raises:
            WrongState: stdin is closed or the program has ended.
            GuestUnreachable: the link is down.
        """
        for at in range(0, len(content), STDIN_BYTES):
            await self._send(ExecType.STDIN, content[at : at + STDIN_BYTES])

    async def close_stdin(self) -> None:
        """End of file on the program's stdin. Does nothing when it is closed or the program has ended. At a terminal it is only
        typed, as its key is, and more may follow."""
        if self._stdin_open and self._decoder.end is None:
            with contextlib.suppress(WrongState):
                await self._send(ExecType.STDIN, b"")
            self._stdin_open = self.has_tty

    async def send_signal(self, number: int) -> None:
        """Send signal ``number`` to the program's process group. Does nothing when it has ended."""
        if not 1 <= number <= MAX_SIGNAL:
            raise ValueError(f"{number} is no signal")
        if self._decoder.end is None:
            with contextlib.suppress(WrongState):
                await self._send(ExecType.SIGNAL, bytes([number]))

    async def resize(self, rows: int, cols: int) -> None:
        """The program's terminal has another size now, 1 to 9,999 each. Does nothing when it has ended, or has no terminal."""
        if self._decoder.end is None and self.has_tty:
            with contextlib.suppress(WrongState):
                await self._send(ExecType.RESIZE, encode_size(rows, cols))

    def close(self) -> None:
        """Let go of the stream. A program that still runs gets SIGHUP, and SIGKILL 2 s later."""
        if self._decoder.end is None:
            self._stream.reset("the exec was closed")
        else:
            self._stream.finish()

    async def _send(self, kind: ExecType, data: bytes) -> None:
        if kind is ExecType.STDIN and not self._stdin_open:
            raise WrongState("stdin of the program is closed")
        try:
            if self._decoder.end is None:
                await self._stream.write(encode_exec(kind, data))
        except GuestUnreachable:
            # The program ending is what closed the stream under a waiting writer.
            if self._decoder.end is None:
                raise
        if self._decoder.end is not None:
            raise WrongState("the program has ended")

    async def _receive(self) -> None:
        data, self._first = self._first or await self._stream.read(), b""
        if not data:
            self._stream.finish()
            raise GuestUnreachable("the guest's agent closed the exec without saying how the program ended")
        try:
            records = self._decoder.feed(data)
        except Breach as breach:
            self._stream.reset(str(breach))
            raise GuestUnreachable(str(breach)) from breach
        self._waiting.extend((_OUTPUTS[kind], content) for kind, content in records if kind in _OUTPUTS and content)
        if self._decoder.end is not None:
            self._stream.finish()


class AttachStream(ExecStream):
    """The workload's own output and input. ``result`` comes when it has ended for good; closing ends nothing. A reader that is
    too slow loses output in the middle."""

    def __init__(self, stream: Stream, started: AttachStarted, first: bytes = b"") -> None:
        super().__init__(stream, started.pid or 0, first, has_tty=started.tty)
