"""The listening UNIX socket: who may connect is decided by the file's owner and mode first, by credentials second."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from volant.core.errors import HostError, WrongState

GROUP = "volant"
MODE = 0o660


@contextmanager
def bind_socket(path: Path) -> Iterator[socket.socket]:
    """Listen at ``path``, which goes when the context is left. The group ``volant`` may connect where it exists.

    A socket that nobody listens on any more is replaced. The path may be longer than a socket address can hold.

    Raises:
        WrongState: somebody listens there, or something that is no socket lies there.
        HostError: the directory cannot be used.
    """
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        directory = os.open(path.parent, os.O_DIRECTORY | os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(f"cannot use {path.parent}: {error.strerror}") from error
    short = f"/proc/self/fd/{directory}/{path.name}"
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, directory)
        listening = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        _clear_stale(path, short)
        try:
            listening.bind(short)
        except OSError as error:
            raise HostError(f"cannot listen at {path}: {error.strerror}") from error
        # Only now is it ours to remove: before, it may be what somebody else listens on.
        undo.callback(path.unlink, missing_ok=True)
        os.chmod(path, MODE)  # noqa: PTH101  # pathlib has no pendant to chown, and both belong together
        with contextlib.suppress(KeyError, PermissionError):
            os.chown(path, -1, grp.getgrnam(GROUP).gr_gid)
        listening.listen(512)
        listening.setblocking(False)
        yield listening


@contextmanager
def bind_loopback(host: str, port: int) -> Iterator[socket.socket]:
    """Listen on TCP ``port`` of a loopback address (0: one that is free), until the context is left.

    Raises:
        HostError: somebody else listens there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except OSError as error:
            raise HostError(f"cannot listen at {host} port {port}: {error.strerror}", hint="choose another port") from error
        listening.listen(512)
        listening.setblocking(False)
        yield listening


def format_address(listening: socket.socket) -> str:
    """``127.0.0.1:7777`` of a listening TCP socket."""
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _clear_stale(path: Path, short: str) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise WrongState(f"{path} is there and is no socket", hint="move it away, or listen elsewhere")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(short)
        except OSError as error:
            if error.errno not in (errno.ECONNREFUSED, errno.ENOENT):
                raise WrongState(f"somebody may listen at {path}: {error.strerror}") from error
        else:
            raise WrongState(f"somebody listens at {path} already", hint="is another volantd running?")
    path.unlink()
