"""Records on file streams (docs/guest-protocol.md, section 4.6). Pure."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Annotated, Literal

import msgspec

from volant.guest.breach import Breach
from volant.guest.message import convert_message, decode_body

HEAD_BYTES = 5
MAX_RECORD_BYTES = 65_531
MAX_PATH_BYTES = 4_096
MAX_SIZE = 2**53
"""Bytes of one file, as far as JSON's numbers are exact."""

_HEAD = struct.Struct(">BI")

Text = Annotated[str, msgspec.Meta(max_length=MAX_PATH_BYTES)]
Id = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]


class FileType(IntEnum):
    ENTRY = 0
    CONTENT = 1
    END = 2


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """``path`` is relative to what was asked for, ``.`` the thing itself; ``mode`` the permission bits, ``size`` a file's bytes,
    ``target`` a link's, which nobody has checked."""

    path: Text
    type: Literal["file", "directory", "symlink", "fifo"]
    mode: Annotated[int, msgspec.Meta(ge=0, le=0o7777)] = 0o644
    uid: Id = 0
    gid: Id = 0
    mtime_ns: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] = 0
    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_SIZE)] = 0
    target: Text = ""


class FilesEnd(msgspec.Struct, frozen=True, kw_only=True):
    """``skipped`` sockets and devices; ``torn`` files that shrank while they were read and were padded with zeros."""

    entries: Annotated[int, msgspec.Meta(ge=0)] = 0
    bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    skipped: Annotated[int, msgspec.Meta(ge=0)] = 0
    torn: Annotated[int, msgspec.Meta(ge=0)] = 0


class FilesFailed(msgspec.Struct, frozen=True, kw_only=True):
    """The other side gave up at ``path``."""

    error: dict[str, object]
    path: str = ""


FileItem = FileEntry | bytes | FilesEnd | FilesFailed


def check_path(path: str) -> None:
    """Raises Breach for a path that is not relative, or leads out, or that no file system takes."""
    if path == ".":
        return
    parts = path.split("/")
    if "\0" in path or len(path.encode()) > MAX_PATH_BYTES or any(part in ("", ".", "..") for part in parts):
        raise Breach(f"an entry has the path {path[:100]!r}, which does not lie below what was asked for")


def encode_record(kind: FileType, data: bytes) -> bytes:
    if len(data) > MAX_RECORD_BYTES:
        raise ValueError(f"a file record has at most {MAX_RECORD_BYTES} bytes")
    return _HEAD.pack(kind, len(data)) + data


def encode_entry(entry: FileEntry) -> bytes:
    content: dict[str, object] = {
        "path": entry.path,
        "type": entry.type,
        "mode": entry.mode,
        "uid": entry.uid,
        "gid": entry.gid,
        "mtime_ns": entry.mtime_ns,
    }
    if entry.type == "file":
        content["size"] = entry.size
    if entry.type == "symlink":
        content["target"] = entry.target
    return encode_record(FileType.ENTRY, msgspec.json.encode(content))


class FileDecoder:
    """Bytes in, items out: entries, the content of the last entry in pieces, and how it ended."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._left = 0
        self.is_ended = False

    def feed(self, data: bytes) -> list[FileItem]:
        """The items that ``data`` completes. Raises Breach for what may not be."""
        held = self._held
        held += data
        found: list[FileItem] = []
        at = 0
        while len(held) - at >= HEAD_BYTES:
            kind, length = _HEAD.unpack_from(held, at)
            if length > MAX_RECORD_BYTES:
                raise Breach(f"a file record of {length} bytes was announced, more than {MAX_RECORD_BYTES}")
            end = at + HEAD_BYTES + length
            if len(held) < end:
                break
            item = self._read(kind, bytes(held[at + HEAD_BYTES : end]))
            if item != b"":
                found.append(item)
            at = end
        del held[:at]
        return found

    @property
    def incomplete_bytes(self) -> int:
        return len(self._held)

    def _read(self, kind: int, content: bytes) -> FileItem:
        if self.is_ended:
            raise Breach("a file record follows the last")
        if kind == FileType.CONTENT:
            if len(content) > self._left:
                raise Breach("a file has more content than its entry said")
            self._left -= len(content)
            return content
        if kind == FileType.END:
            return self._read_end(decode_body(content))
        if kind != FileType.ENTRY:
            raise Breach(f"a file record of type {kind} came")
        if self._left:
            raise Breach("an entry came before the file before it was whole")
        entry = convert_message(decode_body(content), FileEntry)
        check_path(entry.path)
        if "\0" in entry.target or (entry.type == "symlink") != bool(entry.target) or (entry.type != "file" and entry.size):
            raise Breach("an entry is not as its type says")
        self._left = entry.size
        return entry

    def _read_end(self, content: dict[str, object]) -> FilesEnd | FilesFailed:
        self.is_ended = True
        error = content.get("error")
        if error is None:
            if self._left:
                raise Breach("the end came before the last file was whole")
            return convert_message(content, FilesEnd)
        if not isinstance(error, dict):
            raise Breach("the end of a file stream names no error")
        return FilesFailed(error=error, path=str(error.get("path", ""))[:MAX_PATH_BYTES])
