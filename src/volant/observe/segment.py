"""One file of a log store: records that can be walked both ways, and a torn tail that is cut off.

A record is, big-endian: its whole length (4 bytes), a CRC-32 of what follows (4), sequence number (8), time in nanoseconds
(8), source (1; 0 for the marker that begins a run), flags (1), zero (2), lines missed before it (4), the offset of its
run's marker (4), the bytes, and its whole length again (4).
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from volant.core.log import LogRecord, LogSource

_HEAD = struct.Struct(">IIQQBBHII")
_LENGTH = struct.Struct(">I")
_CHECKED_FROM = 8
_OVERHEAD = _HEAD.size + _LENGTH.size
_MAX_RECORD_BYTES = 1_048_576
_MARKER = 0
_MAX_U32 = 0xFFFFFFFF
_NAME = re.compile(r"([0-9]{8,})\.log")


class Entry(NamedTuple):
    """``run_id`` is set for the marker that begins a run, ``record`` for a line. ``end`` is the offset behind it."""

    run_id: str
    record: LogRecord | None
    seq: int
    missed: int
    marker_at: int
    begin: int
    end: int


class Last(NamedTuple):
    run_id: str
    seq: int


def name_segment(number: int) -> str:
    return f"{number:08d}.log"


def list_segments(directory: Path) -> list[int]:
    """The numbers of the segments in ``directory``, oldest first; none when it does not exist."""
    try:
        names = [path.name for path in directory.iterdir()]
    except FileNotFoundError:
        return []
    return sorted(int(match.group(1)) for name in names if (match := _NAME.fullmatch(name)))


def encode_marker(run_id: str, seq: int, at: int) -> bytes:
    return _encode(seq, 0, _MARKER, 0, 0, at, run_id.encode())


def encode_line(record: LogRecord, *, missed: int, marker_at: int) -> bytes:
    return _encode(record.seq, record.time_ns, record.source, record.flags, min(missed, _MAX_U32), marker_at, record.data)


class SegmentWriter:
    """The newest segment, open for appending, everything behind its last whole record cut off."""

    def __init__(self, directory: Path, number: int) -> None:
        self.number = number
        self.marker_at = 0
        self.last: Last | None = None
        self._path = directory / name_segment(number)
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self.size = self._recover()
        except BaseException:
            os.close(self._fd)
            raise

    def append(self, content: bytes | bytearray) -> None:
        """Raises OSError when the disk did not take all of it; nothing of it is then kept."""
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            os.ftruncate(self._fd, self.size)
            raise
        self.size += len(content)

    def close(self) -> None:
        os.close(self._fd)

    def _recover(self) -> int:
        size = os.fstat(self._fd).st_size
        with self._path.open("rb") as stream:
            last = read_before(stream, size)
            if last is None and size:
                last = next(iter(deque(read_forwards(stream, 0), maxlen=1)), None)
                size = last.end if last is not None else 0
                os.ftruncate(self._fd, size)
            if last is not None:
                self.marker_at = last.marker_at
                marker = read_at(stream, last.marker_at)
                self.last = Last(marker.run_id if marker is not None else "", last.seq)
        return size


def read_forwards(stream: BinaryIO, offset: int) -> Iterator[Entry]:
    """Entries from ``offset`` on, up to the first that is not whole. One that is whole but damaged is passed over."""
    stream.seek(offset)
    while True:
        head = stream.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return
        length = _LENGTH.unpack_from(head)[0]
        if not _OVERHEAD <= length <= _MAX_RECORD_BYTES:
            return
        content = head + stream.read(length - _HEAD.size)
        if not _is_whole(content, length):
            return
        entry = _decode(content, offset)
        offset += length
        if entry is not None:
            yield entry


def read_at(stream: BinaryIO, offset: int) -> Entry | None:
    """The entry at ``offset``, None when there is no whole one."""
    return next(read_forwards(stream, offset), None)


def read_before(stream: BinaryIO, end: int) -> Entry | None:
    """The entry that ends at ``end``, None when there is no whole one."""
    if end < _OVERHEAD:
        return None
    stream.seek(end - _LENGTH.size)
    length = _LENGTH.unpack(stream.read(_LENGTH.size))[0]
    if not _OVERHEAD <= length <= min(end, _MAX_RECORD_BYTES):
        return None
    stream.seek(end - length)
    content = stream.read(length)
    return _decode(content, end - length) if _is_whole(content, length) else None


def _is_whole(content: bytes, length: int) -> bool:
    framed = _LENGTH.pack(length)
    return len(content) == length and content.startswith(framed) and content.endswith(framed)


def _encode(seq: int, time_ns: int, source: int, flags: int, missed: int, marker_at: int, data: bytes) -> bytes:
    length = _OVERHEAD + len(data)
    checked = _HEAD.pack(length, 0, seq, time_ns, source, flags, 0, missed, marker_at)[_CHECKED_FROM:] + data
    return b"".join((_LENGTH.pack(length), _LENGTH.pack(zlib.crc32(checked)), checked, _LENGTH.pack(length)))


def _decode(content: bytes, offset: int) -> Entry | None:
    length, checksum, seq, time_ns, source, flags, _, missed, marker_at = _HEAD.unpack_from(content)
    if zlib.crc32(content[_CHECKED_FROM : -_LENGTH.size]) != checksum:
        return None
    data = content[_HEAD.size : -_LENGTH.size]
    if source == _MARKER:
        return Entry(data.decode("utf-8", "replace"), None, seq, 0, offset, offset, offset + length)
    return Entry("", LogRecord(seq, time_ns, LogSource(source), flags, data), seq, missed, marker_at, offset, offset + length)
