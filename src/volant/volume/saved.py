"""Saved machines on disk: directories that are there whole or not at all, and that tell when they are damaged.

A driver fills a directory that nobody knows yet; publishing it writes down the digest of every file, waits for the disk, and
gives it its name. Templates, snapshots and sleeping VMs are all kept so.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path

import msgspec

from volant.core.errors import ChecksumMismatch, DiskFull, HostError, NotFound
from volant.sparse import find_data

SUMS = "sums.json"
"""Every file's digest. Written last, so that a directory with it is whole."""

USED = "used"
"""Its modification time says when the directory was last used."""

_NEW, _OLD = ".new.", ".old."

_BLOCK_BYTES = 65536
_ZEROS = bytes(_BLOCK_BYTES)


class Sum(msgspec.Struct, frozen=True):
    sha256: str
    size_bytes: int


class SavedEntry(msgspec.Struct, frozen=True, kw_only=True):
    """``used_at`` and ``created_at``: seconds since 1970. ``size_bytes``: what the files take on the disk."""

    name: str
    path: Path
    size_bytes: int
    created_at: float
    used_at: float


def begin_saved(path: Path) -> Path:
    """An empty directory beside ``path`` that is nobody's yet: to be filled, then published or discarded."""
    with _explain(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = path.with_name(f"{_NEW}{path.name}.{secrets.token_hex(4)}")
        unfinished.mkdir(mode=0o700)
    return unfinished


async def publish_saved(unfinished: Path, path: Path) -> int:
    """Make ``unfinished`` durable and give it the name ``path``, unless that is there already; return its size in bytes.

    Raises:
        DiskFull, HostError: nothing was published.
    """
    with _explain(path):
        size = await asyncio.to_thread(_finish, unfinished)
        try:
            await asyncio.to_thread(_rename, unfinished, path)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            await discard_saved(unfinished)
    return size


async def discard_saved(unfinished: Path) -> None:
    with _explain(unfinished):
        await asyncio.to_thread(shutil.rmtree, unfinished, ignore_errors=True)


def is_saved(path: Path) -> bool:
    return (path / SUMS).is_file()


async def verify_saved(path: Path) -> None:
    """Compare every file with its digest.

    Raises:
        NotFound: nothing is saved there. ChecksumMismatch: a file is damaged, or gone.
    """
    with _explain(path):
        await asyncio.to_thread(_verify, path)


async def remove_saved(path: Path) -> None:
    """From one moment to the next it is not there any more, after a crash of the host, too; then its room is given back."""
    gone = path.with_name(f"{_OLD}{path.name}.{secrets.token_hex(4)}")
    with _explain(path):
        try:
            await asyncio.to_thread(_rename, path, gone)
        except FileNotFoundError:
            return
        await asyncio.to_thread(shutil.rmtree, gone, ignore_errors=True)


async def clean_saved(directory: Path) -> None:
    """Remove what a killed volantd had begun to write or to remove in ``directory``. For its one owner, before anything else."""

    def clean() -> None:
        for entry in directory.iterdir() if directory.is_dir() else ():
            if entry.name.startswith((_NEW, _OLD)):
                shutil.rmtree(entry, ignore_errors=True)

    with _explain(directory):
        await asyncio.to_thread(clean)


async def copy_saved(source: Path, path: Path, leave_out: AbstractSet[str] = frozenset()) -> None:
    """Publish under ``path`` what lies in ``source``, but for some files; on one file system both share their bytes."""
    unfinished = begin_saved(path)
    try:
        await link_saved(source, unfinished, leave_out)
        await publish_saved(unfinished, path)
    except BaseException:
        await discard_saved(unfinished)
        raise


async def link_saved(source: Path, unfinished: Path, leave_out: AbstractSet[str] = frozenset()) -> None:
    """Put what lies in ``source`` into a directory that is not published yet."""
    with _explain(unfinished):
        await asyncio.to_thread(_link_files, source, unfinished, leave_out)


class SavedStore:
    """All saved machines in the directory ``root``, by name."""

    def __init__(self, root: Path) -> None:
        self.root = root

    async def prepare(self) -> None:
        with _explain(self.root):
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        await clean_saved(self.root)

    def path(self, name: str) -> Path:
        return self.root / name

    def find(self, name: str) -> Path | None:
        path = self.path(name)
        return path if is_saved(path) else None

    def mark_used(self, name: str, now: float) -> None:
        with _explain(self.root):
            used = self.path(name) / USED
            used.touch(mode=0o600)
            os.utime(used, (now, now))

    async def list_entries(self) -> list[SavedEntry]:
        with _explain(self.root):
            return await asyncio.to_thread(lambda: list(self._walk()))

    async def evict(self, limit_bytes: int, keep: AbstractSet[str]) -> list[SavedEntry]:
        """Remove those that were not used for longest, never one of ``keep``, until all take ``limit_bytes`` at most."""
        entries = sorted(await self.list_entries(), key=lambda entry: entry.used_at)
        total = sum(entry.size_bytes for entry in entries)
        gone = []
        for entry in entries:
            if total <= limit_bytes:
                break
            if entry.name not in keep:
                await remove_saved(entry.path)
                total -= entry.size_bytes
                gone.append(entry)
        return gone

    def _walk(self) -> Iterator[SavedEntry]:
        if not self.root.is_dir():
            return
        for path in sorted(self.root.iterdir()):
            if path.name.startswith(".") or not is_saved(path):
                continue
            try:
                created_at = (path / SUMS).stat().st_mtime
                used = path / USED
                yield SavedEntry(
                    name=path.name,
                    path=path,
                    size_bytes=measure_saved(path),
                    created_at=created_at,
                    used_at=used.stat().st_mtime if used.exists() else created_at,
                )
            except FileNotFoundError:
                continue  # removed meanwhile


def measure_saved(path: Path) -> int:
    """Bytes that the files take on the disk."""
    return sum(entry.stat().st_blocks * 512 for entry in path.iterdir() if entry.is_file())


def _finish(unfinished: Path) -> int:
    sums: dict[str, Sum] = {}
    for path in sorted(unfinished.iterdir()):
        if path.name in (SUMS, USED):
            continue
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
            sums[path.name] = Sum(_digest_content(descriptor), os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)
    descriptor = os.open(unfinished / SUMS, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, msgspec.json.encode(sums))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    _sync_directory(unfinished)
    return measure_saved(unfinished)


def _verify(path: Path) -> None:
    try:
        sums = msgspec.json.decode((path / SUMS).read_bytes(), type=dict[str, Sum])
    except FileNotFoundError as error:
        raise NotFound(f"nothing is saved in {path}") from error
    except msgspec.DecodeError as error:
        raise ChecksumMismatch(f"{path / SUMS} is damaged") from error
    for name, expected in sums.items():
        try:
            descriptor = os.open(path / name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise ChecksumMismatch(f"{path / name} is gone") from error
        try:
            found = _digest_content(descriptor)
        finally:
            os.close(descriptor)
        if found != expected.sha256:
            raise ChecksumMismatch(f"{path / name} is damaged")


def _digest_content(descriptor: int) -> str:
    """Over the file's size and its blocks that are not zeros, each with its place: a disk of a terabyte that holds a megabyte
    costs a megabyte, and where its holes are makes no difference."""
    digest = hashlib.sha256(os.fstat(descriptor).st_size.to_bytes(8, "big"))
    following = 0
    for begin, end in find_data(descriptor):
        # Two runs may share a block, which is read once.
        for place in range(max(following, begin - begin % _BLOCK_BYTES), end, _BLOCK_BYTES):
            block = os.pread(descriptor, _BLOCK_BYTES, place)
            if block != _ZEROS[: len(block)]:
                digest.update(place.to_bytes(8, "big") + block)
            following = place + _BLOCK_BYTES
    return digest.hexdigest()


def _rename(source: Path, target: Path) -> None:
    source.rename(target)
    _sync_directory(target.parent)


def _link_files(source: Path, target: Path, leave_out: AbstractSet[str]) -> None:
    for path in source.iterdir():
        if path.name in leave_out or path.name in (SUMS, USED):
            continue
        try:
            (target / path.name).hardlink_to(path)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
                raise
            shutil.copyfile(path, target / path.name)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explain(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"no room for {path}", hint=f"free some space on the file system of {path.parent}") from error
        raise HostError(f"{path}: {error.strerror}") from error
