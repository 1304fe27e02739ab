"""What every keeper of files does about threads that are cancelled and disks that are full."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from volant.core.errors import DiskFull, HostError

T = TypeVar("T")


async def finish(work: Awaitable[T]) -> T:
    """Wait for work in a thread, also when cancelled: what it uses is about to be closed."""
    working = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        raise


@contextmanager
def explain_disk(path: Path) -> Iterator[None]:
    """OSError as DiskFull or HostError that names ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            directory = next(parent for parent in path.parents if parent.exists())
            found = os.statvfs(directory)
            raise DiskFull(
                f"no room for {path}: {found.f_bavail * found.f_frsize // 1024**2} MiB are free",
                hint=f"free some space on the file system of {directory}",
            ) from error
        raise HostError(f"{path}: {error.strerror}") from error
