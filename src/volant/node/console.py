"""Reading a serial console: the bounded log that the holder keeps, and what comes after."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from volant.core.clock import Clock

CHUNK_BYTES = 64 * 1024
FOLLOW_PERIOD_S = 0.2

Place = tuple[int, int]
"""Inode and offset."""


async def read_console(path: Path, clock: Clock, *, tail_bytes: int | None = None, follow: bool = False) -> AsyncIterator[bytes]:
    """The rotated and the current console log, at most the last ``tail_bytes``; then, with ``follow``, what is added.

    Following looks at the file a few times a second while somebody reads: the holder is another process and tells nobody. It
    survives rotation, and ends when the log is removed with its VM.
    """
    kept, place = await asyncio.to_thread(read_kept, path, tail_bytes)
    yield kept
    if not follow:
        return
    while path.parent.exists():
        fresh, place = await asyncio.to_thread(read_on, path, place)
        if fresh:
            yield fresh
        else:
            await clock.sleep(FOLLOW_PERIOD_S)


def read_kept(path: Path, tail_bytes: int | None = None) -> tuple[bytes, Place]:
    """What is kept, at most the last ``tail_bytes``, and the place at which to go on."""
    before = _read_file(path.with_name(path.name + ".1"))[0]
    now, place = _read_file(path)
    kept = before + now
    return (kept if tail_bytes is None else kept[max(0, len(kept) - tail_bytes) :]), place


def read_on(path: Path, place: Place) -> tuple[bytes, Place]:
    """What was added since ``place``, at most 64 KiB, and the place after it."""
    inode, offset = place
    try:
        with path.open("rb") as stream:
            found = os.fstat(stream.fileno())
            if found.st_ino != inode or found.st_size < offset:
                inode, offset = found.st_ino, 0
            stream.seek(offset)
            fresh = stream.read(CHUNK_BYTES)
    except FileNotFoundError:
        return b"", place
    return fresh, (inode, offset + len(fresh))


def _read_file(path: Path) -> tuple[bytes, Place]:
    try:
        with path.open("rb") as stream:
            content = stream.read()
            return content, (os.fstat(stream.fileno()).st_ino, len(content))
    except FileNotFoundError:
        return b"", (0, 0)
