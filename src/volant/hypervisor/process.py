"""Processes that cannot be mistaken for others: a pidfd, opened only when pid, start time and the host's boot agree."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
from pathlib import Path

import msgspec

from volant.core.errors import HostError

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class ProcessRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``process.json`` as the holder writes it. Start times are clock ticks after boot (proc(5), /proc/PID/stat, field 22)."""

    pid: int
    start_time: int
    holder_pid: int
    holder_start_time: int
    boot_id: str


class ExitRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``exit.json`` as the holder writes it; one of the first three is set."""

    code: int | None = None
    signal: int | None = None
    error: str = ""
    at_unix_ns: int = 0


def read_boot_id() -> str:
    """What is different after every boot of the host."""
    return BOOT_ID.read_text().strip()


def read_start_time(pid: int) -> int | None:
    """Clock ticks after boot; None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name in parentheses and may hold anything.
    return int(text.rpartition(")")[2].split()[19])


class Process:
    """One process, ours or adopted. ``close`` gives back the descriptor and touches nothing else."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self._pidfd = pidfd
        self._dead = asyncio.Event()
        self._is_watched = False
        self.wait_status: int | None = None
        """As os.waitstatus_to_exitcode gives it; known only of our own children, once they are dead."""

    @property
    def is_dead(self) -> bool:
        if not self._dead.is_set():
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            if poll.poll(0):
                self._settle()
        return self._dead.is_set()

    async def wait_dead(self) -> None:
        """Return once the process has ended. May be awaited by many and cancelled."""
        if self.is_dead:
            return
        if not self._is_watched:
            asyncio.get_running_loop().add_reader(self._pidfd, self._settle)
            self._is_watched = True
        await self._dead.wait()

    def kill(self) -> None:
        """SIGKILL; nothing when it is dead already.

        Raises:
            HostError: the kernel refuses.
        """
        if self.is_dead:
            return
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        except ProcessLookupError:
            return
        except PermissionError as error:
            raise HostError(f"process {self.pid} cannot be ended: {error.strerror}") from error

    def close(self) -> None:
        if self._pidfd >= 0:
            self._unwatch()
            os.close(self._pidfd)
            self._pidfd = -1

    def _settle(self) -> None:
        self._unwatch()
        # Of a child of ours a zombie would stay; what an earlier volantd started is init's to reap.
        with contextlib.suppress(ChildProcessError):
            ended = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
            if ended is not None:
                self.wait_status = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        self._dead.set()

    def _unwatch(self) -> None:
        if self._is_watched:
            self._is_watched = False
            asyncio.get_running_loop().remove_reader(self._pidfd)


def open_process(pid: int, start_time: int | None = None) -> Process | None:
    """The process ``pid``, provided that it began at ``start_time``; None when that one is gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    except OSError as error:
        raise HostError(f"process {pid} cannot be watched: {error.strerror}") from error
    # In this order: once the descriptor is open the pid cannot pass to another process unnoticed.
    if start_time is not None and read_start_time(pid) != start_time:
        os.close(pidfd)
        return None
    return Process(pid, pidfd)
