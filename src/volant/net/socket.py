"""TCP sockets of a network namespace: those that listen to its outside, and those that connect to guests."""

from __future__ import annotations

import errno
import socket
import struct

from volant.core.errors import HostError, InUse

BACKLOG = 4096
"""The kernel takes the lesser of this and net.core.somaxconn, which is 4096 too unless somebody changed it."""

_LINGER_NOT = struct.pack("ii", 1, 0)


def listen(port: int, host: str = "0.0.0.0") -> int:
    """The descriptor of a TCP socket that listens on ``port`` and does not block. ``host`` is one of the host's addresses.

    Raises:
        InUse: somebody listens there already. HostError: the host refuses.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        # Connections of an earlier volantd that linger do not keep the port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise InUse(
                f"port {port} of the host is used by another program", hint=f"ss -ltnp 'sport = :{port}' shows which"
            ) from error
        raise HostError(f"port {port} of the host cannot be listened on: {error.strerror}") from error
    return listener.detach()


def make_connection_socket() -> int:
    """The descriptor of a TCP socket that is not connected and does not block. Raises HostError."""
    try:
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise HostError(f"no socket can be had to reach a guest with: {error.strerror}") from error
    return made.detach()


def adopt_socket(descriptor: int) -> socket.socket:
    """The socket of one of the descriptors made here, which is its owner from now on."""
    adopted = socket.socket(fileno=descriptor)
    adopted.setblocking(False)
    return adopted


def reset_connection(connection: socket.socket) -> None:
    """Close it so that the other end sees a reset, not an orderly end."""
    set_reset_on_close(connection)
    connection.close()


def set_reset_on_close(connection: socket.socket) -> None:
    """What its closing will be: socket(7), SO_LINGER of no time."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
