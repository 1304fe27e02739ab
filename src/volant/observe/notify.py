"""What systemd is told of volantd (sd_notify(3)), when it is systemd that started it."""

from __future__ import annotations

import os
import socket

import structlog

log = structlog.get_logger()


def notify_manager(state: str, *, environment: str | None = None) -> bool:
    """Send ``READY=1`` or ``STOPPING=1`` to the service manager. False when there is none, or it does not listen.

    ``environment`` is the value of ``NOTIFY_SOCKET``: a path, or an abstract name that begins with ``@``.
    """
    address = os.environ.get("NOTIFY_SOCKET", "") if environment is None else environment
    if not address.startswith(("/", "@")):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.setblocking(False)
        try:
            channel.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError as error:
            log.warning("manager_not_told", error=str(error))
            return False
    return True
