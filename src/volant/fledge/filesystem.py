"""An unpacked tree becomes one file that a guest mounts: the same tree gives the same bytes."""

from __future__ import annotations

import asyncio
import os
import stat
import uuid
from pathlib import Path

from volant.core.errors import CommandFailed, DiskFull, HostError
from volant.fledge.cache import Workspace
from volant.fledge.recipe import FilesystemSection
from volant.run import run

MKFS_TIMEOUT_S = 1800.0
VERSION_TIMEOUT_S = 10.0
NAME_MAX = 255
_COMPRESSION = {"lz4": ["-zlz4"], "lz4hc": ["-zlz4hc"], "none": []}


def settle_tree(root: Path, limit_ns: int, fixed_s: int) -> int:
    """Take out of an unpacked tree what would differ from build to build.

    All that is newer than ``limit_ns``, because an unpacker or a package's script made it just now, gets the time ``fixed_s``;
    the attributes of each file are put in the order of their names. Returns the newest time in the tree, in seconds rounded up.
    """
    newest_ns = 0
    waiting = [root]
    while waiting:
        path = waiting.pop()
        _sort_attributes(path)
        facts = path.lstat()
        if facts.st_mtime_ns > limit_ns:
            os.utime(path, ns=(fixed_s * 10**9, fixed_s * 10**9), follow_symlinks=False)
            newest_ns = max(newest_ns, fixed_s * 10**9)
        else:
            newest_ns = max(newest_ns, facts.st_mtime_ns)
        if stat.S_ISDIR(facts.st_mode):
            waiting.extend(path.iterdir())
    return -(-newest_ns // 10**9)


def _sort_attributes(path: Path) -> None:
    # mkfs writes them as the file system lists them, which is often the order in which they were set: newest last or first.
    names = os.listxattr(path, follow_symlinks=False)
    if names == sorted(names):
        return
    values = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
    for order in (sorted(names), sorted(names, reverse=True)):
        for name in order:
            os.removexattr(path, name, follow_symlinks=False)
        for name in order:
            os.setxattr(path, name, values[name], follow_symlinks=False)
        if os.listxattr(path, follow_symlinks=False) == sorted(names):
            return


async def tool_version() -> str:
    """The version line of the mkfs that ``make_filesystem`` would run."""
    printed = await run(["mkfs.erofs", "--version"], timeout_s=VERSION_TIMEOUT_S, check=False)
    return (printed.stdout + printed.stderr).decode("utf-8", "replace").split("\n")[0].strip()


async def make_filesystem(
    filesystem: FilesystemSection, root: Path, target: Path, *, identity: str, newest_s: int, workspace: Workspace
) -> None:
    """Write ``root`` as a file system to ``target``. Its UUID comes from ``identity``; no file's time is after ``newest_s``.

    Raises:
        CommandFailed: mkfs failed. DiskFull: there was no room.
    """
    fs_uuid = str(uuid.uuid5(uuid.NAMESPACE_OID, identity))
    try:
        # With SOURCE_DATE_EPOCH times are kept up to that time, and it is the file system's own.
        await run(
            ["mkfs.erofs", *_COMPRESSION[filesystem.compression], "-U", fs_uuid, target, root],
            timeout_s=MKFS_TIMEOUT_S, env={"SOURCE_DATE_EPOCH": str(newest_s)}, pass_fds=(workspace.lock_fd,),
        )  # fmt: skip
    except CommandFailed as error:
        if "No space left" in error.stderr_tail:
            raise DiskFull(
                f"there is no room for the root file system: {error}", hint="move the cache with --cache-dir"
            ) from error
        long_name = await asyncio.to_thread(_find_longest_name, root)
        if long_name is not None:
            raise HostError(
                f"the image has a file whose name is 255 bytes long, {long_name[:40]}…: this mkfs.erofs takes 254",
                hint="shorten the name, or install a newer erofs-utils",
            ) from error
        raise


def _find_longest_name(root: Path) -> str | None:
    """A name of 255 bytes, the most that Linux has: erofs-utils 1.5 cuts it and then fails to find the file."""
    waiting = [root]
    while waiting:
        for path in waiting.pop().iterdir():
            if len(os.fsencode(path.name)) >= NAME_MAX:
                return path.name
            if path.is_dir() and not path.is_symlink():
                waiting.append(path)
    return None
