"""Files on their way from the web: what came of one stays when it breaks off, for the next attempt, of a later volantd too."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path

from volant.artifact.disk import explain_disk
from volant.artifact.holds import hex_of
from volant.artifact.registry.documents import Descriptor
from volant.artifact.registry.download import gather
from volant.artifact.registry.partial import PartialBlob
from volant.core.errors import ChecksumMismatch, HostError
from volant.core.ids import Digest

KEPT_S = 86400.0
"""What broke off and was not taken up for so long is removed."""

Open = Callable[[int], AsyncGenerator[bytes, None]]
"""The content from an offset on, unverified."""


async def fetch_resumed(directory: Path, digest: Digest, content: Open, max_bytes: int) -> Path:
    """Bring ``content`` into ``directory``; returns where it lies, whole and verified. One caller a digest at a time.

    Raises:
        ChecksumMismatch: it is not what ``digest`` says; nothing of it is kept. DiskFull: no room. Else what ``content`` raises,
        with what came kept.
    """
    async with _open_partial(directory, digest, max_bytes) as partial:
        is_resumed = partial.offset > 0
        try:
            await _append(partial, digest, content)
        except ChecksumMismatch:
            await partial.discard()
            if not is_resumed:
                raise
            # What lay there may be at fault, not what came.
            try:
                await _append(partial, digest, content)
            except ChecksumMismatch:
                await partial.discard()
                raise
        return partial.path


async def sweep_partials(directory: Path, now_s: float | None = None) -> None:
    """Remove what nobody took up. Never raises: what cannot be removed now can be later."""
    with suppress(OSError):
        await asyncio.to_thread(_sweep, directory, (time.time() if now_s is None else now_s) - KEPT_S)


async def _append(partial: PartialBlob, digest: Digest, content: Open) -> None:
    async with aclosing(gather(content(partial.offset))) as batches:
        async for batch in batches:
            await partial.write(batch)
    await partial.settle()
    await partial.verify(Descriptor(digest=digest, size=partial.offset))


@asynccontextmanager
async def _open_partial(directory: Path, digest: Digest, max_bytes: int) -> AsyncIterator[PartialBlob]:
    path = directory / f"{hex_of(digest)}.partial"
    with explain_disk(path):
        descriptor = await asyncio.to_thread(_open, path)
    partial = PartialBlob(path, descriptor)
    try:
        with explain_disk(path):
            await partial.load(max_bytes)
        yield partial
    finally:
        with suppress(HostError):
            await partial.settle()
        if not partial.offset:
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _open(path: Path) -> int:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _sweep(directory: Path, before_s: float) -> None:
    for path in directory.iterdir():
        if path.stat().st_mtime < before_s:
            path.unlink(missing_ok=True)
