"""A writer of initramfs archives: cpio's "newc" format as the Linux kernel reads it
(Documentation/driver-api/early-userspace/buffer-format.rst). Owner root, time zero, inodes counted from 1: the same
entries give the same bytes."""

from __future__ import annotations

import stat
from typing import BinaryIO

_TRAILER = "TRAILER!!!"
_ARCHIVE_BLOCK = 512


class CpioWriter:
    """Entries are written in the order of the calls; a directory comes before what lies in it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._offset = 0
        self._inode = 0

    def add_directory(self, path: str, mode: int = 0o755) -> None:
        self._add(path, stat.S_IFDIR | mode, links=2)

    def add_file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        self._add(path, stat.S_IFREG | mode, content)

    def add_symlink(self, path: str, target: str) -> None:
        self._add(path, stat.S_IFLNK | 0o777, target.encode())

    def add_character_device(self, path: str, major: int, minor: int, mode: int = 0o600) -> None:
        self._add(path, stat.S_IFCHR | mode, device=(major, minor))

    def finish(self) -> None:
        """Write the trailer, padded to a whole block."""
        self._inode = -1
        self._add(_TRAILER, 0)
        self._pad(_ARCHIVE_BLOCK)

    def _add(self, path: str, mode: int, content: bytes = b"", *, links: int = 1, device: tuple[int, int] = (0, 0)) -> None:
        name = path.strip("/").encode() + b"\0"
        self._inode += 1
        fields = (self._inode, mode, 0, 0, links, 0, len(content), 0, 0, *device, len(name), 0)
        self._write(b"070701" + b"".join(b"%08X" % field for field in fields) + name)
        self._pad(4)
        self._write(content)
        self._pad(4)

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self._offset += len(data)

    def _pad(self, boundary: int) -> None:
        self._write(bytes(-self._offset % boundary))
