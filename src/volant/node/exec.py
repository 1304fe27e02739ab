"""Programs in a guest and the workload itself, as the door offers them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import msgspec

from volant.guest.exec import AttachStream, ExecStream
from volant.guest.link import AgentLink
from volant.guest.protocol import ExecRequest as GuestRequest
from volant.guest.protocol import Tty
from volant.node.door import Attached, AttachRequest, ExecRequest, ExecResult, Terminal


class LocalExec:
    """Implements door.ExecSession over one stream to the agent."""

    def __init__(self, stream: ExecStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[tuple[Literal["stdout", "stderr"], bytes]]:
        async for kind, content in self._stream:
            yield kind, content

    async def write_stdin(self, content: bytes) -> None:
        await self._stream.write_stdin(content)

    async def close_stdin(self) -> None:
        await self._stream.close_stdin()

    async def send_signal(self, number: int) -> None:
        await self._stream.send_signal(number)

    async def resize(self, rows: int, cols: int) -> None:
        await self._stream.resize(rows, cols)

    async def result(self) -> ExecResult:
        ended = await self._stream.result()
        return ExecResult(code=ended.code, signal=ended.signal)


@asynccontextmanager
async def open_exec(link: AgentLink, request: ExecRequest) -> AsyncIterator[LocalExec]:
    """Start a program through the agent; leaving the context hangs up on it."""
    wanted = GuestRequest(
        argv=request.argv, env=request.env, user=request.user, workdir=request.workdir, stdin=request.stdin,
        tty=_convert_size(request.tty), workload="main",
    )  # fmt: skip
    async with await link.open_exec(wanted) as stream:
        yield LocalExec(stream)


class LocalAttach(LocalExec):
    """Implements door.AttachSession."""

    def __init__(self, stream: AttachStream) -> None:
        super().__init__(stream)
        self.attached = Attached(tty=stream.has_tty, pid=stream.pid)


@asynccontextmanager
async def open_attach(link: AgentLink, request: AttachRequest) -> AsyncIterator[LocalAttach]:
    async with await link.open_attach(stdin=request.stdin, tty=_convert_size(request.tty), replay=request.replay) as stream:
        yield LocalAttach(stream)


def _convert_size(asked: Terminal | None) -> Tty | None:
    return None if asked is None else Tty(rows=asked.rows, cols=asked.cols, term=asked.term or msgspec.UNSET)
