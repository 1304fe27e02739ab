"""Moving a program's bytes between a WebSocket and the guest: exec and attach (docs/guest-protocol.md, section 4.2)."""

from __future__ import annotations

import asyncio

from volant.api.conversation import FIRST_MESSAGE_S, Socket, both, read_bytes, send_bytes
from volant.core.errors import Malformed
from volant.node.door import ExecResult, ExecSession

STDIN, STDOUT, STDERR, RESIZE, SIGNAL = b"\0", b"\1", b"\2", b"\4", b"\6"
_MAX_SIDE = 9_999


async def pass_through(socket: Socket, session: ExecSession, *, tty: bool) -> ExecResult:
    """Until the program has ended. Raises HungUp, Malformed, or what the session raises."""
    await both(_listen(socket, session, tty), _send_output(socket, session))
    async with asyncio.timeout(FIRST_MESSAGE_S):
        return await session.result()


async def _send_output(socket: Socket, session: ExecSession) -> None:
    async for source, content in session:
        await send_bytes(socket, (STDOUT if source == "stdout" else STDERR) + content)


async def _listen(socket: Socket, session: ExecSession, tty: bool) -> None:
    open_stdin = True
    while True:
        content = await read_bytes(socket)
        if not content:
            raise Malformed("a message begins with its type")
        kind, rest = content[:1], content[1:]
        if kind == STDIN:
            if open_stdin and rest:
                await session.write_stdin(rest)
            elif open_stdin:
                open_stdin = tty  # there it is a key like others
                await session.close_stdin()
        elif kind == SIGNAL and len(rest) == 1 and 1 <= rest[0] <= 64:
            await session.send_signal(rest[0])
        elif kind == RESIZE and len(rest) == 4:
            rows, cols = int.from_bytes(rest[:2], "big"), int.from_bytes(rest[2:], "big")
            if not (1 <= rows <= _MAX_SIDE and 1 <= cols <= _MAX_SIDE):
                raise Malformed(f"a terminal of {rows} rows and {cols} columns")
            await session.resize(rows, cols)
        else:
            raise Malformed(f"a message of type {kind[0]} cannot be read")
