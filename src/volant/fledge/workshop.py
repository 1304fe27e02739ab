"""What every step of a build works with: the cache, the store of results, and a voice."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from volant.artifact.images import ImageShelf
from volant.artifact.store import ArtifactStore
from volant.core.ids import Digest
from volant.fledge.cache import Cache
from volant.fledge.content import CHUNK, FileRecord
from volant.fledge.progress import Progress

BUILDING = "building-"
"""What a build that runs holds, it holds under this and its pid."""


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """``update_lock`` asks the archive for newer packages than those that are locked."""

    cache: Cache
    store: ArtifactStore
    shelf: ImageShelf
    progress: Progress
    update_lock: bool = False
    made: set[str] = field(default_factory=set)
    """The sha256 of what this build put into the store, and so has just read."""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """The directories are there, what killed builds left is gone, and what is kept inside the block stays until its end.

        Raises:
            HostError: they cannot be written.
        """
        await self.cache.open()
        await self.store.prepare()
        for owner in filter(_is_abandoned, await self.store.list_owners()):
            await self.store.release_all(owner)
        try:
            async with self.cache.removing_aside():
                yield
        finally:
            await self.store.release_all(_owner())

    async def keep(self, record: FileRecord) -> None:
        """Nobody removes it while this build runs."""
        await self.store.hold(_digest(record), owner=_owner())

    async def keep_made(self, path: Path, record: FileRecord) -> None:
        """Move a file that was made here into the store."""
        await self.keep(record)
        await self.store.take(path, _digest(record))
        self.made.add(record.sha256)

    async def keep_copy(self, path: Path, record: FileRecord) -> None:
        """Copy a file of the cache into the store."""
        await self.keep(record)
        if not self.store.has(_digest(record)):
            await self.store.put(_read_pieces(path), _digest(record))

    async def keep_bytes(self, content: bytes, record: FileRecord) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            yield content

        await self.keep(record)
        if not self.store.has(_digest(record)):
            await self.store.put(pieces(), _digest(record))


def make_workshop(cache: Cache, store_root: Path, progress: Progress, *, update_lock: bool = False) -> Workshop:
    store = ArtifactStore(store_root, owner="fledge")
    return Workshop(cache=cache, store=store, shelf=ImageShelf(store_root, store), progress=progress, update_lock=update_lock)


def default_store_directory(cache_directory: Path | None) -> Path:
    """``$VOLANT_STORE``, else beside a cache that was named, else volantd's own for root and ``~/.local/share/volant/artifacts``
    for others."""
    if os.environ.get("VOLANT_STORE"):
        return Path(os.environ["VOLANT_STORE"])
    if cache_directory is not None:
        return cache_directory / "artifacts"
    if os.geteuid() == 0:
        return Path("/var/lib/volant/artifacts")
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local/share") / "volant/artifacts"


def _owner() -> str:
    return f"{BUILDING}{os.getpid()}"


def _is_abandoned(owner: str) -> bool:
    pid = owner.removeprefix(BUILDING)
    return owner.startswith(BUILDING) and pid.isdecimal() and not Path(f"/proc/{pid}").exists()


def _digest(record: FileRecord) -> Digest:
    return Digest(f"sha256:{record.sha256}")


async def _read_pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as stream:
        while piece := stream.read(CHUNK):
            yield piece
