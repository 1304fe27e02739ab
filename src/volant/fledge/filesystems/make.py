"""An unpacked tree becomes one file that a guest mounts: the same tree gives the same bytes."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from volant.core.errors import CommandFailed, HostError
from volant.fledge.filesystems.btrfs import make_btrfs
from volant.fledge.filesystems.census import walk_tree
from volant.fledge.filesystems.choice import COMPRESSIONS, REPEATABLE, FilesystemChoice, Order, check_choice
from volant.fledge.filesystems.erofs import make_erofs
from volant.fledge.filesystems.ext4 import make_ext4
from volant.fledge.filesystems.settled import report_full, report_missing
from volant.fledge.filesystems.squashfs import make_squashfs
from volant.fledge.filesystems.xfs import make_xfs
from volant.run import run

__all__ = [
    "COMPRESSIONS", "REPEATABLE", "FilesystemChoice", "check_choice", "make_filesystem", "read_tool_version", "settle_tree",
]  # fmt: skip

VERSION_TIMEOUT_S = 10.0

_MAKERS: dict[str, Callable[[Order], Awaitable[None]]] = {
    "erofs": make_erofs, "squashfs": make_squashfs, "ext4": make_ext4, "xfs": make_xfs, "btrfs": make_btrfs,
}  # fmt: skip
_VERSIONS = {
    "erofs": ("mkfs.erofs", "--version"), "squashfs": ("mksquashfs", "-version"), "ext4": ("mke2fs", "-V"),
    "xfs": ("mkfs.xfs", "-V"), "btrfs": ("mkfs.btrfs", "--version"),
}  # fmt: skip


def settle_tree(root: Path, limit_ns: int, fixed_s: int) -> int:
    """Take out of an unpacked tree what would differ from build to build.

    All that is newer than ``limit_ns``, because an unpacker or a package's script made it just now, gets the time ``fixed_s``.
    Returns the newest time in the tree, in seconds rounded up. What else differs, settle hides from mkfs.
    """
    newest_ns = 0
    for path, facts in walk_tree(root):
        if facts.st_mtime_ns > limit_ns:
            os.utime(path, ns=(fixed_s * 10**9, fixed_s * 10**9), follow_symlinks=False)
            newest_ns = max(newest_ns, fixed_s * 10**9)
        else:
            newest_ns = max(newest_ns, facts.st_mtime_ns)
    return -(-newest_ns // 10**9)


async def read_tool_version(choice: FilesystemChoice) -> str:
    """The version line of the mkfs that ``make_filesystem`` would run. Raises HostError: it is not installed."""
    command = _VERSIONS[choice.type]
    try:
        printed = await run(command, timeout_s=VERSION_TIMEOUT_S, check=False)
    except CommandFailed as error:
        if error.exit_status == 127:
            raise report_missing(command[0]) from error
        raise
    return (printed.stdout + printed.stderr).decode("utf-8", "replace").split("\n")[0].strip()


async def make_filesystem(
    choice: FilesystemChoice, root: Path, target: Path, *, identity: str, newest_s: int, lock_fd: int
) -> None:
    """Write ``root`` as a file system to ``target``. Its UUID comes from ``identity``; no file's time is after ``newest_s``.

    Times become whole seconds but in an xfs, and where the format has no number for a time, the nearest one that it has.
    Every program that is run inherits ``lock_fd``.

    Raises:
        InvalidInput: ``choice`` cannot be. DiskFull: there was no room.
        HostError: the tree has what this file system cannot hold, or a program is missing or failed.
    """
    check_choice(choice)
    order = _make_order(choice, root, target, identity, newest_s, lock_fd)
    try:
        await _MAKERS[choice.type](order)
        if choice.preallocate:
            await asyncio.to_thread(_fill_holes, order.target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise report_full(order) from error
        raise HostError(f"{order.target.name} cannot be made: {error}") from error


def _make_order(choice: FilesystemChoice, root: Path, target: Path, identity: str, newest_s: int, lock_fd: int) -> Order:
    return Order(choice, root.absolute(), target.absolute(), identity, newest_s, lock_fd)


def _fill_holes(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.posix_fallocate(descriptor, 0, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)
