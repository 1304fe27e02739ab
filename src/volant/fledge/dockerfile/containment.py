"""Programs that run what others wrote, in namespaces of their own: when they end, nothing that they started or mounted stays."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from volant.core.errors import HostError, TimedOut
from volant.run import spawn

LINE_MAX_BYTES = 4096
TAIL_LINES = 20
KILL_TIMEOUT_S = 30.0

Report = Callable[[str], None]
"""Takes one line of output at a time, as it is printed."""

_ESCAPE = re.compile(r"\x1b(?:\[[0-9;:?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)?|[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]")
_LINE_END = re.compile(rb"[\r\n]")

# The name of the machine and the caller's umask would show in what is made.
_SETTLE = 'umask 022; hostname fledge || exit; [ "$0" = online ] || ip link set lo up || exit; exec "$@"'


_CAP_SYS_ADMIN = 21


class Contained(msgspec.Struct, frozen=True):
    """How it ended, and the last lines it printed."""

    exit_status: int
    tail: tuple[str, ...]


def may_contain() -> bool:
    """Whether this process may make namespaces: asks the kernel, because under fakeroot everyone looks like root."""
    status = Path("/proc/self/status").read_text()
    capabilities = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(capabilities.split()[1], 16) >> _CAP_SYS_ADMIN & 1)


async def run_contained(
    command: Sequence[str | os.PathLike[str]],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    is_online: bool = True,
    report: Report | None = None,
) -> Contained:
    """Run ``command`` in PID, mount, IPC and UTS namespaces of its own, and without a network unless ``is_online``.

    What it prints, on either stream, goes to ``report`` line by line, without control characters. When this returns or raises,
    all that it started is dead and all that it mounted is gone; when fledge itself is killed, the kernel kills it too.

    Raises:
        CommandFailed: util-linux is missing. TimedOut: no end after ``timeout_s``. HostError: it cannot be killed.
    """
    tail: deque[str] = deque(maxlen=TAIL_LINES)

    def say(line: str) -> None:
        tail.append(line)
        if report is not None:
            report(line)

    network = [] if is_online else ["--net"]
    read_fd, write_fd = os.pipe()
    try:
        process = spawn(
            ["setpriv", "--pdeathsig", "KILL",
             "unshare", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc", "--ipc", "--uts", *network,
             "sh", "-c", _SETTLE, "online" if is_online else "offline", *command],
            stdout=write_fd, stderr=write_fd, env=env, pass_fds=pass_fds,
        )  # fmt: skip
    except BaseException:
        os.close(read_fd)
        raise
    finally:
        os.close(write_fd)
    try:
        async with asyncio.timeout(timeout_s):
            await _read_lines(read_fd, say)
            await _wait(process)
    except TimeoutError as error:
        raise TimedOut(f"{os.fspath(command[0])} did not end in {timeout_s:g} s", hint="give it more time") from error
    finally:
        if process.returncode is None:
            await _kill(process)
    return Contained(process.returncode, tuple(tail))


async def _read_lines(read_fd: int, say: Report) -> None:
    """Until every holder of the pipe's other end is gone. A line ends with CR too, as progress bars have it."""
    reader = asyncio.StreamReader(limit=1 << 16)
    pipe = os.fdopen(read_fd, "rb", buffering=0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        rest = b""
        while chunk := await reader.read(1 << 16):
            *lines, rest = _LINE_END.split(rest + chunk)
            for line in lines:
                _say_line(line, say)
            while len(rest) > LINE_MAX_BYTES:
                _say_line(rest[:LINE_MAX_BYTES], say)
                rest = rest[LINE_MAX_BYTES:]
        _say_line(rest, say)
    finally:
        transport.close()


def _say_line(line: bytes, say: Report) -> None:
    text = _ESCAPE.sub("", line[:LINE_MAX_BYTES].decode("utf-8", "replace")).rstrip()
    if text:
        say(text)


async def _wait(process: subprocess.Popen[bytes]) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    descriptor = os.pidfd_open(process.pid)
    try:
        loop.add_reader(descriptor, ended.set)
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    process.wait()


async def _kill(process: subprocess.Popen[bytes]) -> None:
    # The kernel lets the namespace's first process be reaped when all others in it are dead, and unshare waits for that one.
    # So killing the first and waiting for unshare is to wait for all.
    children = _read_children(process.pid)
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if not children:
        process.kill()
    try:
        async with asyncio.timeout(KILL_TIMEOUT_S):
            await _wait(process)
    except TimeoutError as error:
        raise HostError(f"process {process.pid} cannot be killed", hint="look for a disk or a mount that hangs") from error


def _read_children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return []
