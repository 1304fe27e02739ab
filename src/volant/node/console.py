"""Reading a serial console: the bounded log that the holder keeps, and what comes after."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from volant.core.clock import Clock

CHUNK_BYTES = 64 * 1024
FOLLOW_PERIOD_S = 0.2


async def read_console(path: Path, clock: Clock, *, tail_bytes: int | None = None, follow: bool = False) -> AsyncIterator[bytes]:
    """The rotated and the current console log, at most the last ``tail_bytes``; then, with ``follow``, what is added.

    Following looks at the file a few times a second while somebody reads: the holder is another process and tells nobody. It
    survives rotation, and ends when the log is removed with its VM.
    """
    kept = await asyncio.to_thread(_read_all, path)
    yield kept if tail_bytes is None else kept[max(0, len(kept) - tail_bytes) :]
    if not follow:
        return
    place = await asyncio.to_thread(_place_at_end, path)
    while path.parent.exists():
        fresh, place = await asyncio.to_thread(_read_on, path, place)
        if fresh:
            yield fresh
        else:
            await clock.sleep(FOLLOW_PERIOD_S)


Place = tuple[int, int]
"""Inode and offset."""


def _read_all(path: Path) -> bytes:
    parts = []
    for part in (path.with_name(path.name + ".1"), path):
        try:
            parts.append(part.read_bytes())
        except FileNotFoundError:
            continue
    return b"".join(parts)


def _place_at_end(path: Path) -> Place:
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_ino, found.st_size


def _read_on(path: Path, place: Place) -> tuple[bytes, Place]:
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
