"""What mkfs.btrfs leaves out of a tree's inodes, put right in the finished image: device numbers and the root directory's facts.

Offsets and numbers are those of linux/btrfs_tree.h. Made for images of one device with one copy of the metadata and crc32c sums.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from volant.core.errors import HostError

ROOT_DIRECTORY = 256

_SUPERBLOCK = 0x10000
_MAGIC = b"_BHRfS_M"
_HEADER_BYTES, _ITEM_BYTES, _POINTER_BYTES, _KEY_BYTES, _CHUNK_BYTES = 101, 25, 33, 17, 80
_FS_TREE = 5
_INODE_ITEM, _DIR_INDEX, _ROOT_ITEM, _CHUNK_ITEM = 1, 96, 132, 228
_ROOT_ITEM_BYTENR = 176
_DIR_ITEM_BYTES = 30
_CASTAGNOLI = 0x82F63B78


class _Image:
    """The trees of an open image."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        file.seek(_SUPERBLOCK)
        block = file.read(4096)
        if block[0x40:0x48] != _MAGIC:
            raise HostError("mkfs.btrfs has written no btrfs")
        self._root, chunk_root = struct.unpack_from("<QQ", block, 0x50)
        (self._node_bytes,) = struct.unpack_from("<I", block, 0x94)
        (array_bytes,) = struct.unpack_from("<I", block, 0xA0)
        self._chunks: list[tuple[int, int, int]] = []
        array = block[0x32B : 0x32B + array_bytes]
        at = 0
        while at < len(array):
            (logical,) = struct.unpack_from("<Q", array, at + 9)
            self._add_chunk(logical, array[at + _KEY_BYTES :])
            at += _KEY_BYTES + _CHUNK_BYTES
        for _, leaf in self.read_leaves(chunk_root):
            for (_, kind, logical), begin, size in _read_items(leaf):
                if kind == _CHUNK_ITEM:
                    self._add_chunk(logical, leaf[begin : begin + size])

    def _add_chunk(self, logical: int, chunk: bytes) -> None:
        (length,) = struct.unpack_from("<Q", chunk, 0)
        (stripes,) = struct.unpack_from("<H", chunk, 44)
        if stripes != 1:
            raise HostError("mkfs.btrfs has written more than one copy")
        (physical,) = struct.unpack_from("<Q", chunk, 56)
        self._chunks.append((logical, length, physical))

    def _find_physical(self, logical: int) -> int:
        for begin, length, physical in self._chunks:
            if begin <= logical < begin + length:
                return physical + logical - begin
        raise HostError("mkfs.btrfs has written a tree that leads nowhere")

    def read_leaves(self, logical: int) -> Iterator[tuple[int, bytes]]:
        """Each leaf of the tree, in order, with where it lies in the file."""
        at = self._find_physical(logical)
        self._file.seek(at)
        node = self._file.read(self._node_bytes)
        count, level = struct.unpack_from("<IB", node, 0x60)
        if level == 0:
            yield at, node
            return
        for index in range(count):
            (child,) = struct.unpack_from("<Q", node, _HEADER_BYTES + index * _POINTER_BYTES + _KEY_BYTES)
            yield from self.read_leaves(child)

    def find_files_root(self) -> int:
        for _, leaf in self.read_leaves(self._root):
            for (objectid, kind, _), begin, _ in _read_items(leaf):
                if (objectid, kind) == (_FS_TREE, _ROOT_ITEM):
                    return int.from_bytes(leaf[begin + _ROOT_ITEM_BYTENR :][:8], "little")
        raise HostError("mkfs.btrfs has written no tree of files")


def _read_items(leaf: bytes) -> Iterator[tuple[tuple[int, int, int], int, int]]:
    (count,) = struct.unpack_from("<I", leaf, 0x60)
    for index in range(count):
        objectid, kind, offset, begin, size = struct.unpack_from("<QBQII", leaf, _HEADER_BYTES + index * _ITEM_BYTES)
        yield (objectid, kind, offset), _HEADER_BYTES + begin, size


def amend_inodes(path: Path, root: Path, newest_s: int, devices: Mapping[tuple[bytes, ...], int]) -> None:
    """Give the image's root directory the mode, owner and time (but none after ``newest_s``) of ``root``, and the device nodes in
    ``devices``, each named by the path that leads to it, their numbers.

    Raises:
        HostError: the image is not as mkfs.btrfs writes it.
    """
    facts = root.lstat()
    time_s = min(facts.st_mtime_ns // 10**9, newest_s)
    with path.open("r+b") as file:
        image = _Image(file)
        files = image.find_files_root()
        numbers = _find_inodes(image, files, devices) if devices else {}
        wanted = {ROOT_DIRECTORY, *numbers}
        for at, leaf in image.read_leaves(files):
            amended = bytearray(leaf)
            for (inode, kind, _), begin, _ in _read_items(leaf):
                if kind != _INODE_ITEM or inode not in wanted:
                    continue
                wanted.discard(inode)
                if inode == ROOT_DIRECTORY:
                    struct.pack_into("<III", amended, begin + 44, facts.st_uid, facts.st_gid, facts.st_mode)
                    for field in range(4):
                        struct.pack_into("<qI", amended, begin + 112 + 12 * field, time_s, 0)
                else:
                    device = numbers[inode]
                    # As the kernel's MKDEV has it, not as stat says it.
                    struct.pack_into("<Q", amended, begin + 56, os.major(device) << 20 | os.minor(device))
            if amended != leaf:
                struct.pack_into("<I", amended, 0, sum_crc32c(bytes(amended[32:])))
                file.seek(at)
                file.write(amended)
    if wanted:
        raise HostError("mkfs.btrfs has left out a file")


def _find_inodes(image: _Image, files: int, devices: Mapping[tuple[bytes, ...], int]) -> dict[int, int]:
    """Inode numbers of the device nodes, and which devices they are."""
    wanted_names = {name for path in devices for name in path}
    entries: dict[tuple[int, bytes], int] = {}
    for _, leaf in image.read_leaves(files):
        for (parent, kind, _), begin, _ in _read_items(leaf):
            if kind != _DIR_INDEX:
                continue
            (length,) = struct.unpack_from("<H", leaf, begin + 27)
            name = leaf[begin + _DIR_ITEM_BYTES : begin + _DIR_ITEM_BYTES + length]
            if name in wanted_names:
                (entries[parent, name],) = struct.unpack_from("<Q", leaf, begin)
    found = {}
    for path, device in devices.items():
        inode = ROOT_DIRECTORY
        for name in path:
            if (inode, name) not in entries:
                raise HostError("mkfs.btrfs has left out a device node")
            inode = entries[inode, name]
        found[inode] = device
    return found


def _make_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (_CASTAGNOLI if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE = _make_table()


def sum_crc32c(content: bytes) -> int:
    """CRC-32C (RFC 3720, appendix B.4)."""
    value = 0xFFFFFFFF
    for byte in content:
        value = _TABLE[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF
