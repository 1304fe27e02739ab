"""A unit's UNIX sockets, whatever the length of its path: a socket's address holds 108 bytes, a descriptor's is short."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

QMP = "qmp.sock"
AGENT = "agent.sock"
CONSOLE = "console.sock"
NAMES = (QMP, AGENT, CONSOLE)

_BACKLOG = 8


@contextmanager
def _short_path(directory: Path) -> Iterator[str]:
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def bind_socket(directory: Path, name: str) -> socket.socket:
    """A listening stream socket at ``directory/name``, which must not exist yet. Raises OSError."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short_path(directory) as short:
            listener.bind(f"{short}/{name}")
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def connect_socket(directory: Path, name: str) -> socket.socket:
    """A connection to ``directory/name``, non-blocking. Raises OSError, as BlockingIOError when too many wait there."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        with _short_path(directory) as short:
            connection.connect(f"{short}/{name}")
    except OSError:
        connection.close()
        raise
    return connection


def remove_sockets(directory: Path) -> None:
    for name in NAMES:
        (directory / name).unlink(missing_ok=True)
