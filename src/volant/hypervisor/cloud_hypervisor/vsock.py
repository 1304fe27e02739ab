"""The agent of a guest behind Cloud Hypervisor's hybrid vsock (its docs/vsock.md, as Firecracker's): a stream to a port of the
guest is a connection to a UNIX socket that begins with ``CONNECT PORT`` and is answered with ``OK PORT``."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path

from volant.hypervisor.cloud_hypervisor.work import AGENT
from volant.hypervisor.machine import Machine

AGENT_VSOCK_PORT = 1024
"""docs/guest-protocol.md, section 1."""

CID = 3
"""The same for every guest: only its own VM process hears of it."""

_ANSWER_MAX_BYTES = 32


async def connect_vsock(
    work: Path, machine: Machine, port: int = AGENT_VSOCK_PORT
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A stream to ``port`` of the guest. The caller sets the limit of time.

    Raises:
        OSError, EOFError: nobody listens there, or not yet.
    """
    connection = _connect(work, machine)
    try:
        reader, writer = await asyncio.open_unix_connection(sock=connection)
    except BaseException:
        connection.close()
        raise
    try:
        writer.write(f"CONNECT {port}\n".encode())
        await writer.drain()
        answer = await _read_line(reader)
        if not answer.startswith(b"OK "):
            raise ConnectionRefusedError(f"the VM process answers {answer!r}")
    except BaseException:
        writer.transport.abort()
        raise
    return reader, writer


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    # Byte by byte, since what follows is the agent's.
    line = b""
    while not line.endswith(b"\n"):
        if len(line) >= _ANSWER_MAX_BYTES:
            raise ConnectionRefusedError(f"the VM process answers {line!r}")
        line += await reader.readexactly(1)
    return line.rstrip()


def _connect(work: Path, machine: Machine) -> socket.socket:
    # The directory is the process's own. A link there, or somebody else's socket, would have us talk to whom it likes.
    path = os.open(work / AGENT, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(path)
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != machine.host_uid:
            raise ConnectionRefusedError("what lies there is no socket of the VM process's own")
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.connect(f"/proc/self/fd/{path}")
        except OSError:
            connection.close()
            raise
        return connection
    finally:
        os.close(path)
