"""Files of a workload's root, read and written through the channel (docs/guest-protocol.md, section 4.6)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

import msgspec

from volant.core.errors import GuestUnreachable, InvalidInput, VolantError
from volant.guest.breach import Breach
from volant.guest.file_records import (
    MAX_RECORD_BYTES,
    FileDecoder,
    FileEntry,
    FileItem,
    FilesEnd,
    FilesFailed,
    FileType,
    check_path,
    encode_entry,
    encode_record,
)
from volant.guest.protocol import build_error, clean_text
from volant.guest.stream import Stream


class FileReader:
    """Iterate for entries, each file's entry followed by its content in pieces; then ``end`` says how much it was.

    What is not read stays in the guest: 256 KiB wait here at most. Close it, or use it as a context.
    """

    def __init__(self, stream: Stream, path: str, first: bytes = b"") -> None:
        self.end: FilesEnd | None = None
        self._stream = stream
        self._path = path
        self._first = first
        self._decoder = FileDecoder()
        self._waiting: deque[FileItem] = deque()

    async def __aenter__(self) -> FileReader:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __aiter__(self) -> AsyncIterator[FileEntry | bytes]:
        return self

    async def __anext__(self) -> FileEntry | bytes:
        """Raises what the guest said went wrong, and GuestUnreachable when the link went down or it broke the protocol."""
        while self.end is None:
            if not self._waiting:
                self._waiting.extend(await _receive(self._stream, self._decoder, self._take_first()))
                continue
            item = self._waiting.popleft()
            if isinstance(item, FilesEnd):
                self.end = item
                self._stream.finish()
            elif isinstance(item, FilesFailed):
                self.close()
                raise _failure(item, f"{clean_text(self._path)} was not read whole")
            else:
                return item
        raise StopAsyncIteration

    def close(self) -> None:
        if self.end is None:
            self._stream.reset("the copy was given up")

    def _take_first(self) -> bytes:
        first, self._first = self._first, b""
        return first


class FileWriter:
    """Entries in, each file's followed by exactly its ``size`` bytes; ``finish`` returns when the guest has them all.

    Close it, or use it as a context: what was begun and not finished leaves whole files and no halves.
    """

    def __init__(self, stream: Stream, path: str, first: bytes = b"") -> None:
        self._stream = stream
        self._doing = f"not all was copied to {clean_text(path)}"
        self._left = 0
        self._over = asyncio.ensure_future(self._read_end(first))

    async def __aenter__(self) -> FileWriter:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def write_entry(self, entry: FileEntry) -> None:
        """Raises InvalidInput for an entry that leads out of the directory or is too long, and what the guest says went wrong."""
        assert self._left == 0, "the file before it is not whole"
        try:
            check_path(entry.path)
            record = encode_entry(entry)
        except (Breach, ValueError, UnicodeEncodeError) as error:
            raise InvalidInput(f"{self._doing}: {error}", field="path") from error
        self._left = entry.size if entry.type == "file" else 0
        await self._write(record)

    async def write_content(self, content: bytes) -> None:
        """Waits while the guest does not take it."""
        assert len(content) <= self._left, "a file has more content than its entry said"
        self._left -= len(content)
        for at in range(0, len(content), MAX_RECORD_BYTES):
            await self._write(encode_record(FileType.CONTENT, content[at : at + MAX_RECORD_BYTES]))

    async def finish(self, timeout_s: float) -> FilesEnd:
        """Raises GuestUnreachable when the guest has not said within ``timeout_s`` that it has everything."""
        await self._write(encode_record(FileType.END, msgspec.json.encode({"entries": 0, "bytes": 0})))
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(self._over)
        except TimeoutError as error:
            raise GuestUnreachable(f"{self._doing}: the guest's agent did not say that it has everything") from error

    async def close(self) -> None:
        self._stream.reset("the copy was given up")
        self._over.cancel()
        await asyncio.gather(self._over, return_exceptions=True)

    async def _write(self, record: bytes) -> None:
        try:
            await self._stream.write(record)
        except GuestUnreachable:
            # What the guest said ended the stream under us, if it said anything.
            if self._over.done():
                self._over.result()
            raise

    async def _read_end(self, first: bytes) -> FilesEnd:
        decoder = FileDecoder()
        try:
            while not (items := await _receive(self._stream, decoder, first)):
                first = b""
            match items[0]:
                case FilesEnd() as end:
                    self._stream.finish()
                    return end
                case FilesFailed() as failed:
                    raise _failure(failed, self._doing)
                case _:
                    raise GuestUnreachable(f"{self._doing}: the guest's agent sent what was to be sent to it")
        finally:
            self._stream.reset("the guest's agent ended the copy")


async def _receive(stream: Stream, decoder: FileDecoder, first: bytes) -> list[FileItem]:
    data = first or await stream.read()
    if not data:
        stream.finish()
        raise GuestUnreachable("the guest's agent ended a copy without saying how it went")
    try:
        return decoder.feed(data)
    except Breach as breach:
        stream.reset(str(breach))
        raise GuestUnreachable(str(breach)) from breach


def _failure(failed: FilesFailed, doing: str) -> VolantError:
    where = clean_text(failed.path)
    return build_error(failed.error, f"{doing}: {where}" if where else doing)
