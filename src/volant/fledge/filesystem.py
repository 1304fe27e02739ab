"""An unpacked tree becomes one file that a guest mounts: the same tree gives the same bytes."""

from __future__ import annotations

import os
import stat
import uuid
from pathlib import Path

from volant.core.errors import CommandFailed, DiskFull
from volant.fledge.cache import Workspace
from volant.fledge.recipe import FilesystemSection
from volant.run import run

MKFS_TIMEOUT_S = 1800.0
VERSION_TIMEOUT_S = 10.0
_EROFS_COMPRESSION = {"": ["-zlz4"], "lz4": ["-zlz4"], "lz4hc": ["-zlz4hc"], "none": []}
_MIB = 1024 * 1024
_EXT4_BLOCK = 4096


def clamp_times(root: Path, limit_ns: int, fixed_s: int) -> int:
    """Give all that is newer than ``limit_ns`` the time ``fixed_s``: what an unpacker or a package's script made just now
    would differ from build to build. Returns the newest time in the tree afterwards, in whole seconds, rounded up."""
    newest_ns = 0
    waiting = [root]
    while waiting:
        path = waiting.pop()
        facts = path.lstat()
        if facts.st_mtime_ns > limit_ns:
            os.utime(path, ns=(fixed_s * 10**9, fixed_s * 10**9), follow_symlinks=False)
            newest_ns = max(newest_ns, fixed_s * 10**9)
        else:
            newest_ns = max(newest_ns, facts.st_mtime_ns)
        if stat.S_ISDIR(facts.st_mode):
            waiting.extend(path.iterdir())
    return -(-newest_ns // 10**9)


def measure_tree(root: Path) -> tuple[int, int]:
    """``(bytes, inodes)`` that the tree takes in blocks of 4 KiB; each hard link counts once."""
    size = count = 0
    seen: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        path = waiting.pop()
        facts = path.lstat()
        if facts.st_nlink > 1 and not stat.S_ISDIR(facts.st_mode):
            if (facts.st_dev, facts.st_ino) in seen:
                continue
            seen.add((facts.st_dev, facts.st_ino))
        count += 1
        size += -(-facts.st_size // _EXT4_BLOCK) * _EXT4_BLOCK
        if stat.S_ISDIR(facts.st_mode):
            waiting.extend(path.iterdir())
    return size, count


async def tool_version(filesystem: FilesystemSection) -> str:
    """The version line of the mkfs that ``make_filesystem`` would run."""
    command = ["mkfs.erofs", "--version"] if filesystem.type == "erofs" else ["mke2fs", "-V"]
    printed = await run(command, timeout_s=VERSION_TIMEOUT_S, check=False)
    lines = (printed.stdout + printed.stderr).decode("utf-8", "replace").split("\n")
    return lines[0].strip()


async def make_filesystem(
    filesystem: FilesystemSection, root: Path, target: Path, *, identity: str, newest_s: int, workspace: Workspace
) -> None:
    """Write ``root`` as a file system to ``target``. Its UUID comes from ``identity``; no file's time is
    after ``newest_s``.

    Raises:
        CommandFailed: mkfs failed. DiskFull: there was no room.
    """
    fs_uuid = str(uuid.uuid5(uuid.NAMESPACE_OID, identity))
    try:
        if filesystem.type == "erofs":
            # With SOURCE_DATE_EPOCH times are kept up to that time, and it is the file system's own.
            await run(
                ["mkfs.erofs", *_EROFS_COMPRESSION[filesystem.compression], "-U", fs_uuid, target, root],
                timeout_s=MKFS_TIMEOUT_S, env={"SOURCE_DATE_EPOCH": str(newest_s)}, pass_fds=(workspace.lock_fd,),
            )  # fmt: skip
            return
        size, inodes = measure_tree(root)
        wanted = filesystem.size_buffer_mb
        spare = wanted * _MIB if wanted is not None else min(max(size // 4, 64 * _MIB), 1024 * _MIB)
        # Tables, the journal's absence allowed for: 256 bytes an inode, one bitmap block a group, and some.
        inodes = inodes + inodes // 8 + 64
        blocks = -(-(size + spare + inodes * 256 + 8 * _MIB) // _EXT4_BLOCK)
        await run(
            ["mke2fs", "-q", "-F", "-t", "ext4", "-b", str(_EXT4_BLOCK), "-N", str(inodes), "-m", "0", "-O", "^has_journal",
             "-U", fs_uuid, "-E", f"hash_seed={fs_uuid},lazy_itable_init=0,root_owner=0:0", "-d", root, target, str(blocks)],
            timeout_s=MKFS_TIMEOUT_S, env={"E2FSPROGS_FAKE_TIME": str(max(newest_s, 1))}, pass_fds=(workspace.lock_fd,),
        )  # fmt: skip
    except CommandFailed as error:
        if "No space left" in error.stderr_tail:
            raise DiskFull(
                f"there is no room for the root file system: {error}", hint="free some, or move the cache: --cache-dir"
            ) from error
        raise
