"""The only door to subprocesses: ``run`` for what ends soon, ``spawn`` for what lasts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

import msgspec

from volant.core.errors import CommandFailed

STDERR_TAIL = 8192
"""Bytes of stderr that an error carries."""

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_PASSED_ON = (
    "PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip

_FAKEROOT = ("FAKEROOTKEY", "FAKED_MODE", "FAKEROOT_FD_BASE", "LD_PRELOAD", "LD_LIBRARY_PATH")
"""What makes a program see the owners that fakeroot pretends, and tell it of files that it removes."""


class Completed(msgspec.Struct, frozen=True):
    exit_status: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        return self.stdout.decode("utf-8", "replace")


def build_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """A built environment, not an inherited one: the few variables that tools need, then ``extra``."""
    passed_on = (*_PASSED_ON, *_FAKEROOT) if "FAKEROOTKEY" in os.environ else _PASSED_ON
    environment = {name: os.environ[name] for name in passed_on if name in os.environ}
    # A root shell by plain `su` lacks the directories where mkfs and nft lie.
    environment["PATH"] = ":".join(filter(None, (environment.get("PATH"), SYSTEM_PATH)))
    environment["LC_ALL"] = "C.UTF-8"
    environment.update(extra or {})
    return environment


async def run(
    command: Sequence[str | os.PathLike[str]],
    *,
    timeout_s: float,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    pass_fds: Sequence[int] = (),
    check: bool = True,
) -> Completed:
    """Run ``command`` to its end and return what it printed. stdin is closed unless given.

    A command that is cancelled or outlives ``timeout_s`` is killed with its whole process group.

    Raises:
        CommandFailed: it is not installed, did not end in time, or (with ``check``) did not exit with 0.
    """
    words = tuple(os.fspath(word) for word in command)
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=build_environment(env),
            cwd=cwd,
            pass_fds=pass_fds,
            start_new_session=True,
        )
    except (FileNotFoundError, PermissionError) as error:
        raise CommandFailed(words, 127, str(error), hint=f"install the package that brings {words[0]}") from error
    try:
        async with asyncio.timeout(timeout_s):
            stdout, stderr = await process.communicate(stdin)
    except TimeoutError as error:
        raise CommandFailed(words, None, f"no end after {timeout_s:g} s") from error
    finally:
        if process.returncode is None:
            _kill_group(process.pid)
            await process.wait()
            process._transport.close()  # type: ignore[attr-defined]  # asyncio leaves the pipes of a killed process open
    assert process.returncode is not None
    if check and process.returncode != 0:
        raise CommandFailed(words, process.returncode, stderr[-STDERR_TAIL:].decode("utf-8", "replace"))
    return Completed(process.returncode, stdout, stderr)


def spawn(
    command: Sequence[str | os.PathLike[str]],
    *,
    pass_fds: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
    stdout: int = subprocess.DEVNULL,
    stderr: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start what lasts: own session, inherited descriptors as numbered, no limit, outlives us.

    Raises:
        CommandFailed: it is not installed.
    """
    words = tuple(os.fspath(word) for word in command)
    try:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=build_environment(env),
            pass_fds=tuple(pass_fds),
            start_new_session=True,
            cwd="/",
        )
    except (FileNotFoundError, PermissionError) as error:
        raise CommandFailed(words, 127, str(error)) from error


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
