"""Files of a guest as a tar archive, both ways, as the door offers them."""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

from volant.core.errors import GuestUnreachable, InvalidInput
from volant.core.tar import END, Member, TarDecoder, encode_member, padding
from volant.guest.file_records import FileEntry
from volant.guest.files import FileReader, FileWriter
from volant.guest.link import AgentLink
from volant.node.door import FileStat, FilesWritten

T = TypeVar("T")

STALL_S = 120.0
"""How long a guest may take for one piece."""

FINISH_S = 120.0
CHUNK_BYTES = 64 * 1024


class LocalFiles:
    """Implements door.FilesReader over one stream to the agent."""

    def __init__(self, reader: FileReader, name: str, first: FileEntry) -> None:
        self.stat = FileStat(
            name=name,
            type=first.type,
            mode=first.mode,
            uid=first.uid,
            gid=first.gid,
            mtime_ns=first.mtime_ns,
            size=first.size,
            target=first.target,
        )
        self.skipped = self.torn = 0
        self._reader = reader
        self._name = name
        self._first = first

    async def __aiter__(self) -> AsyncIterator[bytes]:
        waiting = bytearray(encode_member(self._member(self._first)))
        left = self._first.size
        while (item := await _patiently(anext(self._reader, None))) is not None:
            if isinstance(item, bytes):
                waiting += item
                left -= len(item)
                if not left:
                    waiting += padding(len(waiting))
            else:
                left = item.size
                waiting += encode_member(self._member(item))
            if len(waiting) >= CHUNK_BYTES:
                # Whole blocks, so that the padding of a file is known from what waits.
                whole = len(waiting) - len(waiting) % 512
                yield bytes(waiting[:whole])
                del waiting[:whole]
        if self._reader.end is not None:
            self.skipped, self.torn = self._reader.end.skipped, self._reader.end.torn
        yield bytes(waiting) + END

    def _member(self, entry: FileEntry) -> Member:
        return Member(
            name=self._name if entry.path == "." else f"{self._name}/{entry.path}",
            type=entry.type,
            mode=entry.mode,
            uid=entry.uid,
            gid=entry.gid,
            mtime_ns=entry.mtime_ns,
            size=entry.size,
            target=entry.target,
        )


@asynccontextmanager
async def read_files(link: AgentLink, path: str) -> AsyncIterator[LocalFiles]:
    """What is at ``path``, under the last part of its name."""
    check_guest_path(path)
    async with await link.read_files(path) as reader:
        first = await _patiently(anext(reader, None))
        if not isinstance(first, FileEntry) or first.path != ".":
            raise GuestUnreachable(f"the guest's agent did not say what {path} is")
        yield LocalFiles(reader, posixpath.basename(posixpath.normpath(path)) or "root", first)


async def write_files(
    link: AgentLink, path: str, content: AsyncIterator[bytes], *, owner: tuple[int, int] | None = None
) -> FilesWritten:
    """Make what the tar archive ``content`` holds below the directory ``path``; ``owner`` instead of the archive's owners."""
    check_guest_path(path)
    decoder = TarDecoder()
    async with await link.write_files(path) as writer:
        async for chunk in content:
            await _take(writer, decoder, chunk, owner)
        decoder.finish()
        end = await writer.finish(FINISH_S)
    return FilesWritten(entries=end.entries, bytes=end.bytes)


def check_guest_path(path: str) -> None:
    """Raises InvalidInput for a path that is not absolute, or no path."""
    if not path.startswith("/") or "\0" in path or len(path.encode("utf-8", "surrogateescape")) > 4096:
        raise InvalidInput(f"{path[:100]!r} is no absolute path in the guest", field="path", hint="begin it with /")


async def _take(writer: FileWriter, decoder: TarDecoder, chunk: bytes, owner: tuple[int, int] | None) -> None:
    for item in decoder.feed(chunk):
        if isinstance(item, bytes):
            await _patiently(writer.write_content(item))
            continue
        uid, gid = owner or (item.uid, item.gid)
        entry = FileEntry(
            path=item.name, type=item.type, mode=item.mode, uid=uid, gid=gid, mtime_ns=item.mtime_ns, size=item.size,
            target=item.target,
        )  # fmt: skip
        await _patiently(writer.write_entry(entry))


async def _patiently(work: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(STALL_S):
            return await work
    except TimeoutError as error:
        raise GuestUnreachable(f"the guest's agent did not go on with the copy for {STALL_S:g} s") from error
