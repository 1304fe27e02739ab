"""rpm's database of the kind "ndb", which SUSE has and Debian's rpm does not read (rpm's lib/backend/ndb/rpmpkg.c).

Only its frame is read here. The package headers in it go unread into an SQLite database, which every rpm reads.
"""

from __future__ import annotations

import contextlib
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from volant.core.errors import InvalidInput

PAGES_MAX = 2048
"""Pages of slots, 256 in each: half a million packages."""
HEADER_MAX_BYTES = 64 * 1024 * 1024

_PAGE_BYTES = 4096
# Magic, version, generation, pages of slots; then, from the third slot on: magic, package, first block, blocks.
_FILE_HEAD = struct.Struct("<4sIII16x")
_SLOT = struct.Struct("<4sIII")
_BLOB_HEAD = struct.Struct("<4sIII")
_BLOCK_BYTES = 16


def convert_ndb(source: Path, target: Path, max_bytes: int) -> None:
    """Write the package headers of ``source`` to a new ``rpmdb.sqlite``; at most ``max_bytes`` of them.

    Raises:
        InvalidInput: it is no such database, or is damaged, or holds more.
    """
    left = max_bytes
    with source.open("rb") as stream, contextlib.closing(sqlite3.connect(target)) as database, database:
        database.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
        for number, header in _read_headers(stream):
            left -= len(header)
            if left < 0:
                raise InvalidInput(f"its packages take more than {max_bytes} bytes")
            try:
                database.execute("INSERT INTO Packages VALUES (?, ?)", (number, header))
            except sqlite3.IntegrityError as error:
                raise InvalidInput(f"it has two packages of the number {number}") from error


def _read_headers(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    magic, version, _generation, pages = _unpack(_FILE_HEAD, stream.read(_FILE_HEAD.size))
    if (magic, version) != (b"RpmP", 0) or not 1 <= pages <= PAGES_MAX:
        raise InvalidInput("it does not begin like a database")
    slots = stream.read(pages * _PAGE_BYTES - _FILE_HEAD.size)
    for at in range(0, len(slots) - len(slots) % _SLOT.size, _SLOT.size):
        magic, number, block, _blocks = _SLOT.unpack_from(slots, at)
        if magic != b"Slot":
            raise InvalidInput("its list of packages is damaged")
        if number == 0:
            continue
        stream.seek(block * _BLOCK_BYTES)
        magic, owner, _generation, length = _unpack(_BLOB_HEAD, stream.read(_BLOB_HEAD.size))
        if (magic, owner) != (b"BlbS", number) or length > HEADER_MAX_BYTES:
            raise InvalidInput(f"its package {number} is damaged")
        header = stream.read(length)
        if len(header) != length:
            raise InvalidInput(f"its package {number} ends early")
        yield number, header


def _unpack(layout: struct.Struct, content: bytes) -> tuple[bytes, int, int, int]:
    if len(content) != layout.size:
        raise InvalidInput("it ends early")
    magic, first, second, third = layout.unpack(content)
    return magic, first, second, third
