"""What is in a tree, counted so that the answer does not depend on the file system that holds it."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

from volant.sparse import find_data

BLOCK = 4096
ALWAYS_WHOLE = 64 * 1024
"""Bytes up to which a file is not searched for blocks of zeros."""

_CHUNK = 1024 * 1024
_ZEROS = bytes(BLOCK)
_DIRECTORY_BLOCK = BLOCK - 12 - 264
"""Of a directory's block, what is surely used: the rest is its checksum and the room that the longest name does not fit into."""


class Census(msgspec.Struct, frozen=True):
    """Blocks are of 4096 bytes, names and attributes are in bytes. A file with several names counts once."""

    inodes: int = 0
    data_blocks: int = 0
    apparent_blocks: int = 0
    fragments: int = 0
    directory_blocks: int = 0
    link_blocks: int = 0
    attributed: int = 0
    attribute_bytes: int = 0
    name_bytes: int = 0


def walk_tree(root: Path) -> Iterator[tuple[bytes, os.stat_result]]:
    """Every path in the tree, the root first, with what lstat says of it. Raises OSError."""
    waiting = [os.fsencode(root)]
    yield waiting[0], os.lstat(root)
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                facts = entry.stat(follow_symlinks=False)
                yield entry.path, facts
                if stat.S_ISDIR(facts.st_mode):
                    waiting.append(entry.path)


def take_census(root: Path) -> Census:
    """Count all of ``root``. Large files are read: where one file system has holes another has zeros. Raises OSError."""
    seen: set[tuple[int, int]] = set()
    directory_bytes: dict[bytes, int] = {}
    data = apparent = fragments = links = attributed = attribute_bytes = names = 0
    for path, facts in walk_tree(root):
        directory, _, name = path.rpartition(b"/")
        if directory in directory_bytes:
            directory_bytes[directory] += (8 + len(name) + 3) & ~3
            names += len(name)
        if stat.S_ISDIR(facts.st_mode):
            directory_bytes[path] = 24
        elif (facts.st_dev, facts.st_ino) in seen:
            continue
        seen.add((facts.st_dev, facts.st_ino))
        if stat.S_ISREG(facts.st_mode):
            apparent += -(-facts.st_size // BLOCK)
            blocks, runs = count_data(path, facts.st_size)
            data, fragments = data + blocks, fragments + runs
        elif stat.S_ISLNK(facts.st_mode):
            links += facts.st_size >= 60
        size = sum(len(os.fsencode(key)) + len(value) + 20 for key, value in read_attributes(path).items())
        attributed, attribute_bytes = attributed + (size > 0), attribute_bytes + size
    return Census(
        inodes=len(seen), data_blocks=data, apparent_blocks=apparent, fragments=fragments,
        directory_blocks=sum(-(-size // _DIRECTORY_BLOCK) for size in directory_bytes.values()),
        link_blocks=links, attributed=attributed, attribute_bytes=attribute_bytes, name_bytes=names,
    )  # fmt: skip


def count_data(path: bytes, size_bytes: int) -> tuple[int, int]:
    """How many blocks of a regular file are not all zeros, and in how many runs they lie."""
    if size_bytes <= ALWAYS_WHOLE:
        return -(-size_bytes // BLOCK), min(size_bytes, 1)
    blocks = runs = at = 0
    previous = -1
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for begin, end in find_data(descriptor):
            at = max(at, begin - begin % BLOCK)
            while at < end:
                chunk = os.pread(descriptor, _CHUNK, at)
                if not chunk:
                    break
                for offset in range(0, len(chunk), BLOCK):
                    block = chunk[offset : offset + BLOCK]
                    if block != _ZEROS[: len(block)]:
                        index = (at + offset) // BLOCK
                        blocks, runs, previous = blocks + 1, runs + (index != previous + 1 or previous < 0), index
                at += len(chunk) if len(chunk) % BLOCK == 0 else BLOCK * -(-len(chunk) // BLOCK)
    finally:
        os.close(descriptor)
    return blocks, runs


def read_attributes(path: bytes | Path) -> dict[str, bytes]:
    """The extended attributes of a file, of a symbolic link its own, in the order of their names."""
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in sorted(os.listxattr(path, follow_symlinks=False))}


def find_foreign_attribute(root: Path, kept: Collection[str]) -> tuple[str, str] | None:
    """A file, by its path in the tree, and an attribute of it whose namespace is not in ``kept``; None when there is none."""
    for path, _ in walk_tree(root):
        for name in os.listxattr(path, follow_symlinks=False):
            if name.partition(".")[0] not in kept:
                return show_path(path, root), name
    return None


def show_path(path: bytes, root: Path) -> str:
    """A path of the tree for a message: from the root, on one line."""
    relative = os.path.relpath(path, os.fsencode(root))
    return repr("/" + os.fsdecode(relative).encode("utf-8", "backslashreplace").decode())
