"""A blob that is arriving: kept when the transfer breaks, written by one process at a time, verified whole at its end."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from volant.artifact.disk import explain_disk, finish
from volant.artifact.registry.documents import Descriptor
from volant.core.clock import Clock
from volant.core.errors import ChecksumMismatch, HostError

BATCH_BYTES = 1024 * 1024
LOCK_RETRY_S = 0.1

_ZEROS = bytes(BATCH_BYTES)
T = TypeVar("T")


class PartialBlob:
    """An open partial file. ``offset`` bytes of it are there. Long zeros become holes."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.offset = 0
        self._descriptor = descriptor
        self._hasher = hashlib.sha256()
        self._working: asyncio.Future[None] | None = None

    async def load(self, size: int) -> None:
        """Take up what is there of a blob of ``size`` bytes; what is longer than that is none of it."""
        await finish(asyncio.to_thread(self._load, size))

    async def write(self, batch: bytes) -> None:
        """Append. The writing goes on while the caller gets the next batch; ``settle`` waits for it."""
        await self.settle()
        self.offset += len(batch)
        self._working = asyncio.ensure_future(asyncio.to_thread(self._write, batch, self.offset))

    async def settle(self) -> None:
        if self._working is not None:
            working, self._working = self._working, None
            with explain_disk(self.path):
                await finish(working)

    async def verify(self, blob: Descriptor) -> None:
        """Raises ChecksumMismatch when it is not what ``blob`` says."""
        await self.settle()
        found = f"sha256:{self._hasher.hexdigest()}"
        if found != blob.digest or self.offset != blob.size:
            raise ChecksumMismatch(f"{self.offset} bytes came for {blob.digest}, and they are {found}", hint="try again later")

    async def publish(self, target: Path) -> None:
        """Give it its name, lastingly."""
        with explain_disk(target):
            await finish(asyncio.to_thread(self._publish, target))

    async def discard(self) -> None:
        """Begin anew."""
        with contextlib.suppress(HostError):
            await self.settle()
        os.truncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self.offset, self._hasher = 0, hashlib.sha256()

    def _load(self, size: int) -> None:
        if os.fstat(self._descriptor).st_size > size:
            os.truncate(self._descriptor, 0)
        while chunk := os.read(self._descriptor, BATCH_BYTES):
            self._hasher.update(chunk)
            self.offset += len(chunk)

    def _write(self, batch: bytes, end: int) -> None:
        self._hasher.update(batch)
        if len(batch) == BATCH_BYTES and batch == _ZEROS:
            os.truncate(self._descriptor, end)
            os.lseek(self._descriptor, end, os.SEEK_SET)
            return
        rest = memoryview(batch)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def _publish(self, target: Path) -> None:
        os.fsync(self._descriptor)
        target.parent.mkdir(parents=True, exist_ok=True)
        self.path.replace(target)
        directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


@asynccontextmanager
async def open_partial(directory: Path, blob: Descriptor, target: Path, clock: Clock) -> AsyncIterator[PartialBlob | None]:
    """The partial file of ``blob`` in ``directory`` (on ``target``'s file system), locked; None when ``target`` is there.

    Another process that fetches the same blob is waited for: it has a limit for how long nothing comes, so it ends.

    Raises:
        HostError, DiskFull: the directory cannot be written.
    """
    path = directory / f"{blob.digest.removeprefix('sha256:')}.partial"
    with explain_disk(path):
        await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
    while True:
        if is_there(target, blob):
            yield None
            return
        with explain_disk(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        if _take_lock(descriptor, path):
            if not is_there(target, blob):
                break
            # It came between the look and the lock, so this file is a new one.
            path.unlink(missing_ok=True)
            os.close(descriptor)
            continue
        os.close(descriptor)
        await clock.sleep(LOCK_RETRY_S)
    partial = PartialBlob(path, descriptor)
    try:
        with explain_disk(path):
            await partial.load(blob.size)
        yield partial
    finally:
        # An error was told already, or is of no interest any more: what lies here is checked when it is taken up.
        with contextlib.suppress(HostError):
            await partial.settle()
        if not partial.offset:
            path.unlink(missing_ok=True)
        os.close(descriptor)


def is_there(target: Path, blob: Descriptor) -> bool:
    """A file of the right size: it came by its name after it was verified."""
    try:
        return target.stat().st_size == blob.size
    except FileNotFoundError:
        return False


def _take_lock(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    # Whoever had it may have finished and given it its name meanwhile.
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
