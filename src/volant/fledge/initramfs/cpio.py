"""Initramfs archives: cpio's "newc" format as the Linux kernel reads it
(Documentation/driver-api/early-userspace/buffer-format.rst). One time for all entries, inodes counted from 1: the same entries
give the same bytes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

import msgspec

from volant.core.errors import InvalidInput

FILE_MAX_BYTES = 0xFFFFFFFF
"""A size has eight hexadecimal digits."""

PATH_MAX_BYTES = 4095
"""The kernel passes over an entry with a longer name, and says nothing."""

TIME_MAX_S = 0xFFFFFFFF

_MAGIC = b"070701"
_HEAD_BYTES = 110
_FIELDS = 13
_TRAILER = b"TRAILER!!!"
_ARCHIVE_BLOCK = 512


class ArchiveEntry(msgspec.Struct, frozen=True):
    """One entry as it was read: ``mode`` holds the kind too, ``content`` is a file's bytes or a link's target."""

    path: bytes
    mode: int
    content: bytes


class CpioWriter:
    """Entries are written in the order of the calls; a directory comes before what lies in it. Paths are relative to the root.

    Every call raises InvalidInput for a path that the kernel would pass over.
    """

    def __init__(self, stream: BinaryIO, *, time_s: int = 0) -> None:
        if not 0 <= time_s <= TIME_MAX_S:
            raise InvalidInput(f"the time {time_s} does not fit into an initramfs", hint="it counts seconds from 1970 to 2106")
        self._stream = stream
        self._time_s = time_s
        self._offset = 0
        self._inode = 0

    def add_directory(self, path: str | bytes, mode: int = 0o755, *, owner: tuple[int, int] = (0, 0)) -> None:
        self._head(path, stat.S_IFDIR | mode, self._next_inode(), owner=owner, links=2)

    def add_file(self, path: str | bytes, content: bytes, mode: int = 0o644, *, owner: tuple[int, int] = (0, 0)) -> None:
        self._head(path, stat.S_IFREG | mode, self._next_inode(), owner=owner, size_bytes=len(content))
        self._write(content)
        self._pad(4)

    def add_symlink(self, path: str | bytes, target: str | bytes, *, owner: tuple[int, int] = (0, 0)) -> None:
        content = os.fsencode(target)
        self._head(path, stat.S_IFLNK | 0o777, self._next_inode(), owner=owner, size_bytes=len(content))
        self._write(content)
        self._pad(4)

    def add_character_device(self, path: str | bytes, major: int, minor: int, mode: int = 0o600) -> None:
        self.add_special([path], stat.S_IFCHR | mode, device=(major, minor))

    def add_special(
        self, paths: Sequence[str | bytes], mode: int, *, owner: tuple[int, int] = (0, 0), device: tuple[int, int] = (0, 0)
    ) -> None:
        """A device or a named pipe under each of its names, whose directories were written. ``mode`` holds the kind."""
        inode = self._next_inode()
        for path in paths:
            self._head(path, mode, inode, owner=owner, links=len(paths), device=device)

    def add_stream(
        self, paths: Sequence[bytes], mode: int, content: Iterable[bytes], size_bytes: int, *, owner: tuple[int, int]
    ) -> None:
        """A file of ``size_bytes`` under each of its names, whose directories were written; the content lies with the last.

        Raises:
            InvalidInput: ``content`` is of another size.
        """
        inode = self._next_inode()
        for path in paths[:-1]:
            self._head(path, stat.S_IFREG | mode, inode, owner=owner, links=len(paths))
        self._head(paths[-1], stat.S_IFREG | mode, inode, owner=owner, links=len(paths), size_bytes=size_bytes)
        left = size_bytes
        for chunk in content:
            left -= len(chunk)
            if left < 0:
                break
            self._write(chunk)
        if left != 0:
            raise InvalidInput(f"{_show(paths[-1])} changed while it was read", hint="build again while nobody writes there")
        self._pad(4)

    def finish(self) -> None:
        """Write the trailer, padded to a whole block."""
        self._write_head(_TRAILER, 0, 0, owner=(0, 0), links=1, size_bytes=0, device=(0, 0), time_s=0)
        self._pad(_ARCHIVE_BLOCK)

    def _next_inode(self) -> int:
        self._inode += 1
        return self._inode

    def _head(
        self, path: str | bytes, mode: int, inode: int, *, owner: tuple[int, int], links: int = 1, size_bytes: int = 0,
        device: tuple[int, int] = (0, 0),
    ) -> None:  # fmt: skip
        name = os.fsencode(path).strip(b"/")
        if len(name) > PATH_MAX_BYTES:
            raise InvalidInput(
                f"{_show(name)} is {len(name)} bytes long, and the kernel reads {PATH_MAX_BYTES}", hint="give it a shorter path"
            )
        if name == _TRAILER:
            raise InvalidInput(f"a file is called /{_show(name)}, which ends an initramfs", hint="give it another name")
        if size_bytes > FILE_MAX_BYTES:
            raise InvalidInput(
                f"{_show(name)} is {size_bytes} bytes large, and an initramfs holds files below 4 GiB",
                hint='strategy = "oci_rootfs" puts them on a disk',
            )
        self._write_head(name, mode, inode, owner=owner, links=links, size_bytes=size_bytes, device=device, time_s=self._time_s)

    def _write_head(
        self, name: bytes, mode: int, inode: int, *, owner: tuple[int, int], links: int, size_bytes: int, device: tuple[int, int],
        time_s: int,
    ) -> None:  # fmt: skip
        fields = (inode, mode, *owner, links, time_s, size_bytes, 0, 0, *device, len(name) + 1, 0)
        self._write(_MAGIC + b"".join(b"%08X" % field for field in fields) + name + b"\0")
        self._pad(4)

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self._offset += len(data)

    def _pad(self, boundary: int) -> None:
        self._write(bytes(-self._offset % boundary))


def read_archive(content: bytes) -> Iterator[ArchiveEntry]:
    """The entries of one uncompressed archive, in their order.

    Raises:
        InvalidInput: it is no such archive, or not whole.
    """
    position = 0
    while True:
        head = content[position : position + _HEAD_BYTES]
        if head[: len(_MAGIC)] != _MAGIC or len(head) != _HEAD_BYTES:
            raise InvalidInput(f"what should be an initramfs has no entry at byte {position}")
        digits = head[len(_MAGIC) :]
        try:
            fields = [int(digits[8 * i : 8 * i + 8], 16) for i in range(_FIELDS)]
        except ValueError as error:
            raise InvalidInput(f"what should be an initramfs has no number at byte {position}") from error
        mode, size_bytes, name_bytes = fields[1], fields[6], fields[11]
        begin = position + _HEAD_BYTES
        name = content[begin : begin + name_bytes]
        begin = _align(begin + name_bytes)
        data = content[begin : begin + size_bytes]
        if len(name) != name_bytes or len(data) != size_bytes or name[-1:] != b"\0":
            raise InvalidInput(f"what should be an initramfs is cut short at byte {position}")
        if name[:-1] == _TRAILER:
            return
        yield ArchiveEntry(name[:-1], mode, data)
        position = _align(begin + size_bytes)


def _align(position: int) -> int:
    return position + -position % 4


def _show(path: bytes) -> str:
    text = path.decode("utf-8", "backslashreplace")
    return text if len(text) <= 100 else f"{text[:80]}…"
