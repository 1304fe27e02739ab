"""VMs' own disks: sparse raw files with an empty ext4 inside, which take on the host only what a guest has written."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from volant.core.errors import CommandFailed, DiskFull, HostError, InvalidInput, NotFound
from volant.run import run
from volant.sparse import find_data

MIB = 1024 * 1024
LABEL = "volant"
MKFS_TIMEOUT_S = 120.0
SMALLEST_JOURNAL_MIB = 4
LARGEST_JOURNAL_MIB = 64

FICLONE = 0x40049409
"""linux/fs.h: make two files share their blocks until one is written."""


class Disks(Protocol):
    async def ensure_disk(self, path: Path, size_mib: int) -> None:
        """Make the disk at ``path``, or grow the one that is there; its content is never touched.

        It is root's and mode 0600: a VM process gets it as a descriptor. A grown disk's file system is grown by its guest:
        the host parses nothing that a guest wrote. When this raises, or the host dies meanwhile, there is no disk at ``path``
        or the old one, never half of one.

        Raises:
            InvalidInput: the disk that is there is larger. DiskFull: the host has no room. HostError: it refuses.
        """
        ...

    async def ensure_blank(self, path: Path, size_mib: int) -> None:
        """As ``ensure_disk``, with nothing on it at all."""
        ...

    async def ensure_copy(self, source: int, path: Path, size_mib: int | None) -> None:
        """Make the disk at ``path`` with the content of the descriptor ``source``, which stays the caller's, unless there is one.
        ``size_mib`` is what it has at least. Shares blocks as ``copy_disk`` does; never half a disk.

        Raises:
            DiskFull, HostError.
        """
        ...

    async def copy_disk(self, source: Path, path: Path) -> int:
        """Make a disk at ``path`` with the content of ``source``, which nobody writes to meanwhile; replace one that is there.
        Return the bytes that it takes. Shares blocks where the file system can, and copies only what was written elsewhere.

        When this raises, or the host dies meanwhile, what was at ``path`` before still is.

        Raises:
            NotFound: there is no ``source``. DiskFull, HostError.
        """
        ...

    async def open_disk(self, path: Path) -> int:
        """A descriptor of the caller's for reading and writing, not inherited by programs that are started.

        Raises:
            NotFound: there is no such disk.
        """
        ...

    async def remove_disk(self, path: Path) -> None:
        """Remove the disk and what a killed ``ensure_disk`` left of it; do nothing when there is none."""
        ...


async def make_ext4(path: Path) -> None:
    """Fill ``path``, a file of zeros, with an empty file system: 4 KiB blocks, nothing reserved, ``/`` root's and 0755.

    Raises:
        CommandFailed: mkfs.ext4 failed.
    """
    size_mib = (_measure(path) or 0) // MIB
    journal_mib = max(SMALLEST_JOURNAL_MIB, min(LARGEST_JOURNAL_MIB, size_mib // 64))
    # Said to be zeros already, inode tables are written neither here nor by the guest's kernel later.
    extended = "assume_storage_prezeroed=1,lazy_journal_init=1,nodiscard,root_owner=0:0"
    command = ["mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-L", LABEL, "-J", f"size={journal_mib}", "-E", extended]
    await run([*command, path], timeout_s=MKFS_TIMEOUT_S)


class HostDisks:
    """Implements Disks. ``before`` is called with each step's name before it and may raise: create, format, copy, sync,
    rename, grow, open, remove."""

    def __init__(
        self,
        make_filesystem: Callable[[Path], Awaitable[None]] = make_ext4,
        *,
        durable: bool = True,
        before: Callable[[str], None] = lambda step: None,
    ) -> None:
        self._make_filesystem = make_filesystem
        self._durable = durable
        self.before = before

    async def ensure_disk(self, path: Path, size_mib: int) -> None:
        await self._ensure(path, size_mib, self._make_filesystem)

    async def ensure_blank(self, path: Path, size_mib: int) -> None:
        await self._ensure(path, size_mib, _leave_blank)

    async def ensure_copy(self, source: int, path: Path, size_mib: int | None) -> None:
        unfinished = _unfinished(path)
        with _explain(path, size_mib or 0):
            unfinished.unlink(missing_ok=True)
            if _measure(path) is not None:
                return
            try:
                self.before("copy")
                await asyncio.to_thread(_copy_open, source, unfinished)
                if size_mib is not None and (_measure(unfinished) or 0) < size_mib * MIB:
                    os.truncate(unfinished, size_mib * MIB)
                await self._publish(unfinished, path)
            finally:
                unfinished.unlink(missing_ok=True)

    async def _ensure(self, path: Path, size_mib: int, make_filesystem: Callable[[Path], Awaitable[None]]) -> None:
        if size_mib < 1:
            raise InvalidInput(f"a disk of {size_mib} MiB cannot be", field="disk_mb")
        with _explain(path, size_mib):
            _unfinished(path).unlink(missing_ok=True)  # a volantd that was killed at it may have left one
            have = _measure(path)
            if have is None:
                await self._make(path, size_mib * MIB, make_filesystem)
            elif have > size_mib * MIB:
                raise InvalidInput(
                    f"the disk has {have // MIB} MiB and cannot shrink to {size_mib}",
                    field="disk_mb",
                    hint="make another VM with a smaller disk",
                )
            elif have < size_mib * MIB:
                self.before("grow")
                os.truncate(path, size_mib * MIB)

    async def copy_disk(self, source: Path, path: Path) -> int:
        if _measure(source) is None:
            raise NotFound(f"there is no disk {source}")
        unfinished = _unfinished(path)
        with _explain(path, (_measure(source) or 0) // MIB):
            unfinished.unlink(missing_ok=True)
            try:
                self.before("copy")
                await asyncio.to_thread(copy_sparse, source, unfinished)
                await self._publish(unfinished, path)
            finally:
                unfinished.unlink(missing_ok=True)
            return _measure_blocks(path)

    async def open_disk(self, path: Path) -> int:
        self.before("open")
        try:
            return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError as error:
            raise NotFound(f"there is no disk {path}") from error
        except OSError as error:
            raise HostError(f"disk {path} cannot be opened: {error.strerror}") from error

    async def remove_disk(self, path: Path) -> None:
        self.before("remove")
        with _explain(path, 0):
            for each in (_unfinished(path), path):
                # Giving back a large file's blocks takes the file system a while.
                await asyncio.to_thread(each.unlink, missing_ok=True)

    async def _make(self, path: Path, size_bytes: int, make_filesystem: Callable[[Path], Awaitable[None]]) -> None:
        unfinished = _unfinished(path)
        try:
            self.before("create")
            _create_sparse(unfinished, size_bytes)
            self.before("format")
            await make_filesystem(unfinished)
            await self._publish(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)

    async def _publish(self, unfinished: Path, path: Path) -> None:
        self.before("sync")
        if self._durable:
            await asyncio.to_thread(_sync, unfinished, os.O_RDWR)
        self.before("rename")
        await asyncio.to_thread(unfinished.rename, path)
        if self._durable:
            await asyncio.to_thread(_sync, path.parent, os.O_RDONLY | os.O_DIRECTORY)


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def _measure(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _measure_blocks(path: Path) -> int:
    return path.stat().st_blocks * 512


def _create_sparse(path: Path, size_bytes: int) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.ftruncate(descriptor, size_bytes)
    finally:
        os.close(descriptor)


def copy_sparse(source: Path, target: Path) -> None:
    """A copy that takes no more room than ``source``: its blocks are shared, or its holes stay holes. Raises OSError."""
    reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        _copy_open(reading, target)
    finally:
        os.close(reading)


async def _leave_blank(path: Path) -> None:
    return


def _copy_open(source: int, target: Path) -> None:
    writing = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if not _share_blocks(source, writing):
            _copy_data(source, writing)
    finally:
        os.close(writing)


def _share_blocks(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError:
        return False  # most file systems cannot; what the others say is said by the copy, too
    return True


def _copy_data(source: int, target: int) -> None:
    os.ftruncate(target, os.fstat(source).st_size)
    for begin, end in find_data(source):
        at = begin
        while at < end:
            copied = os.copy_file_range(source, target, end - at, at, at)
            if copied == 0:
                raise OSError(errno.EIO, "the disk became shorter")
            at += copied


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explain(path: Path, size_mib: int) -> Iterator[None]:
    try:
        yield
    except CommandFailed as error:
        if os.strerror(errno.ENOSPC) in error.stderr_tail:
            raise _disk_full(path, size_mib) from error
        raise HostError(
            f"disk {path} cannot be given a file system: {error}", hint="e2fsprogs 1.47 or newer is needed"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(path, size_mib) from error
        if error.errno == errno.EFBIG:
            raise HostError(f"disk {path}: the host's file system takes no file of {size_mib} MiB") from error
        raise HostError(f"disk {path}: {error.strerror}") from error


def _disk_full(path: Path, size_mib: int) -> DiskFull:
    found = os.statvfs(path.parent)
    free_mib = found.f_bavail * found.f_frsize // MIB
    return DiskFull(
        f"no room for a disk of {size_mib} MiB at {path}: {free_mib} MiB are free",
        hint=f"free some space on the file system of {path.parent}",
    )
