"""Files by what they hold: digests, and copies that are checked on the way."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec

from volant.sparse import find_data

CHUNK = 1024 * 1024


class FileRecord(msgspec.Struct, frozen=True):
    """``sha256`` is 64 hexadecimal digits, ``size`` counts bytes."""

    sha256: str
    size: int


def record_bytes(content: bytes) -> FileRecord:
    return FileRecord(hashlib.sha256(content).hexdigest(), len(content))


def record_file(path: Path) -> FileRecord:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return FileRecord(digest, path.stat().st_size)


def copy_recorded(source: Path, target: Path) -> FileRecord:
    """Copy a file's bytes and say what they were; holes stay holes where whole chunks are zero."""
    digest = hashlib.sha256()
    size = 0
    zeros = bytes(CHUNK)
    with source.open("rb") as reader, target.open("xb") as writer:
        while chunk := reader.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
            if chunk == zeros:
                writer.seek(CHUNK, 1)
            else:
                writer.write(chunk)
        writer.truncate(size)
    return FileRecord(digest.hexdigest(), size)


def copy_plain(source: Path, target: Path) -> None:
    """Copy a file that was just checked: by the kernel, holes as holes, to whatever file system."""
    with source.open("rb") as reader, target.open("xb") as writer:
        for start, end in find_data(reader.fileno()):
            os.lseek(writer.fileno(), start, os.SEEK_SET)
            while start < end:
                start += os.sendfile(writer.fileno(), reader.fileno(), start, end - start)
        writer.truncate(os.fstat(reader.fileno()).st_size)


def sync_file(path: Path) -> None:
    """Have what was written to ``path`` on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest_tree(path: Path) -> str:
    """64 hexadecimal digits over the names, kinds, permission bits and bytes of a file or of all that lies under a directory,
    links followed. Raises OSError, also (ELOOP) for links that lead in circles."""
    digest = hashlib.sha256()

    def add(at: Path, name: str) -> None:
        mode = at.stat().st_mode & 0o7777
        if at.is_dir():
            digest.update(f"d {mode:o} {len(name)} {name}\n".encode("utf-8", "surrogateescape"))
            for child in sorted(at.iterdir()):
                add(child, f"{name}/{child.name}")
        else:
            record = record_file(at)
            digest.update(f"f {mode:o} {len(name)} {name} {record.sha256}\n".encode("utf-8", "surrogateescape"))

    add(path, "")
    return digest.hexdigest()
