"""Copying to and from a simulated guest."""

from __future__ import annotations

from typing import Any

import msgspec

from volant.guest.file_records import (
    MAX_RECORD_BYTES,
    FileDecoder,
    FileEntry,
    FilesEnd,
    FilesFailed,
    FileType,
    encode_entry,
    encode_record,
)
from volant.guest.message import encode_message
from volant.guest.simulated import SimulatedGuest
from volant.guest.simulated_tree import NotDirectory, NotThere
from volant.guest.simulated_types import Refusal
from volant.guest.stream import Stream


async def run_files(guest: SimulatedGuest, stream: Stream, opening: dict[str, Any], first: bytes) -> None:
    """Answer a read_files or write_files stream from its opening to its end. Raises Refusal."""
    path = opening.get("path")
    if not isinstance(path, str) or not path.startswith("/"):
        raise Refusal("malformed", "path")
    if guest.workload is None:
        raise Refusal("not_configured", "the guest has no workload yet")
    try:
        found = guest.files.find(path, follow=opening["open"] == "write_files")
    except NotThere as error:
        raise Refusal("not_found", f"{error} is not there") from error
    except NotDirectory as error:
        raise Refusal("not_a_directory", f"{error} is no directory") from error
    if opening["open"] == "read_files":
        await stream.write(encode_message({"ok": {}}))
        await _read(guest, stream, path)
        return
    if found.entry.type != "directory":
        raise Refusal("not_a_directory", f"{path} is no directory")
    await stream.write(encode_message({"ok": {}}))
    await _write(guest, stream, path, first)


async def _read(guest: SimulatedGuest, stream: Stream, path: str) -> None:
    entries = size = 0
    for below, file in list(guest.files.walk(path)):
        await stream.write(encode_entry(msgspec.structs.replace(file.entry, path=below)))
        for at in range(0, len(file.content), MAX_RECORD_BYTES):
            await stream.write(encode_record(FileType.CONTENT, file.content[at : at + MAX_RECORD_BYTES]))
        entries, size = entries + 1, size + len(file.content)
    await stream.write(encode_record(FileType.END, msgspec.json.encode({"entries": entries, "bytes": size})))
    stream.finish()


async def _write(guest: SimulatedGuest, stream: Stream, path: str, first: bytes) -> None:
    decoder, entry, content = FileDecoder(), None, bytearray()
    entries = size = 0
    data = first or await stream.read()
    while data:
        for item in decoder.feed(data):
            if isinstance(item, bytes):
                content += item
                size += len(item)
            elif isinstance(item, FileEntry):
                entry, content, entries = item, bytearray(), entries + 1
            if isinstance(item, (FilesEnd, FilesFailed)):
                end: dict[str, Any] = {"entries": entries, "bytes": size}
                await stream.write(encode_record(FileType.END, msgspec.json.encode(end)))
                stream.finish()
                return
            if entry is not None and len(content) == entry.size:
                try:
                    guest.files.put(path, entry, bytes(content))
                except (NotThere, NotDirectory) as error:
                    code = "not_found" if isinstance(error, NotThere) else "not_a_directory"
                    told = {"code": code, "message": f"{error} will not hold it", "path": entry.path}
                    await stream.write(encode_record(FileType.END, msgspec.json.encode({"error": told})))
                    stream.finish()
                    return
                entry = None
        data = await stream.read()
    stream.reset()
