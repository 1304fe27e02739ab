"""A guest's memory as a file: the pages that hold something, one after the other, and a map that says where each run of them
belongs. Pages of zeros, and those that are still the base's, are not there."""

from __future__ import annotations

import errno
import mmap
import os
import struct
from array import array
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path

from volant.core.errors import DiskFull, HostError, Unavailable
from volant.sparse import find_data

PAGES = "memory"
MAP = "memory.map"

PAGE_BYTES = mmap.PAGESIZE
_CHUNK_PAGES = 256
_ZEROS = bytes(PAGE_BYTES)
_RUN = struct.Struct("<QQ")

# Documentation/admin-guide/mm/pagemap.rst
_PAGEMAP_ENTRY_BYTES = 8
_PRESENT, _SWAPPED, _FILE_OR_SHARED = 1 << 63, 1 << 62, 1 << 61

Run = tuple[int, int]
"""The first page and how many."""


def save_own(memory: int, directory: Path) -> int:
    """Write what a memory holds beside zeros; return the bytes that were written. Raises DiskFull, HostError."""
    return _save(directory, _read_chunks(memory, list(_find_pages(memory)), offset=0), skip_zeros=True)


def save_private(pid: int, address: int, size_bytes: int, directory: Path) -> int:
    """Write the pages that process ``pid`` has for itself of the memory it maps copy-on-write at ``address``.

    Raises:
        Unavailable: the process is gone. DiskFull, HostError.
    """
    try:
        runs = find_private(pid, address, size_bytes)
        memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError) as error:
        raise Unavailable(f"process {pid} is gone") from error
    try:
        # A page that the guest filled with zeros is not the base's: it must be written down.
        return _save(directory, _read_chunks(memory, runs, offset=address), skip_zeros=False)
    finally:
        os.close(memory)


def find_private(pid: int, address: int, size_bytes: int) -> list[Run]:
    """The runs of pages that are anonymous in a private mapping, in order."""
    first, count = address // PAGE_BYTES, size_bytes // PAGE_BYTES
    entries = array("Q")
    with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as stream:
        stream.seek(first * _PAGEMAP_ENTRY_BYTES)
        while len(entries) < count:
            got = stream.read((count - len(entries)) * _PAGEMAP_ENTRY_BYTES)
            if not got:
                raise Unavailable(f"process {pid} is gone")
            entries.frombytes(got)
    private = (page for page, entry in enumerate(entries) if entry & (_PRESENT | _SWAPPED) and not entry & _FILE_OR_SHARED)
    return list(_join(private))


def read_into_memory(directory: Path, memory: int) -> None:
    """Put the saved pages where they belong in ``memory``. Raises FileNotFoundError, HostError."""
    size = os.fstat(memory).st_size
    with (directory / PAGES).open("rb", buffering=0) as stream, mmap.mmap(memory, size) as mapped, memoryview(mapped) as whole:
        for page, count in read_map(directory):
            begin, end = page * PAGE_BYTES, (page + count) * PAGE_BYTES
            if end > size:
                raise HostError(f"{directory / MAP} names pages beyond the memory's end")
            with whole[begin:end] as place:
                _fill(stream, place)


def read_into_process(directory: Path, pid: int, address: int, size_bytes: int) -> None:
    """Put the saved pages where they belong in the memory that process ``pid`` maps at ``address``.

    Raises:
        FileNotFoundError, HostError. Unavailable: the process is gone.
    """
    try:
        memory = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError) as error:
        raise Unavailable(f"process {pid} is gone") from error
    buffer = bytearray(_CHUNK_PAGES * PAGE_BYTES)
    try:
        with (directory / PAGES).open("rb", buffering=0) as stream, memoryview(buffer) as whole:
            for page, count in read_map(directory):
                if (page + count) * PAGE_BYTES > size_bytes:
                    raise HostError(f"{directory / MAP} names pages beyond the memory's end")
                for begin, pages in _split(page, count):
                    with whole[: pages * PAGE_BYTES] as part:
                        _fill(stream, part)
                        if os.pwrite(memory, part, address + begin * PAGE_BYTES) != len(part):
                            raise HostError(f"the memory of process {pid} cannot be written")
    except OSError as error:
        raise Unavailable(f"the memory of process {pid} cannot be written: {error.strerror}") from error
    finally:
        os.close(memory)


def read_map(directory: Path) -> list[Run]:
    content = (directory / MAP).read_bytes()
    if len(content) % _RUN.size:
        raise HostError(f"{directory / MAP} is damaged")
    return [(page, count) for page, count in _RUN.iter_unpack(content)]


def _save(directory: Path, chunks: Iterable[tuple[int, bytes]], *, skip_zeros: bool) -> int:
    runs: list[list[int]] = []
    written = 0
    try:
        with (directory / PAGES).open("xb", buffering=0) as stream:
            for first, content in chunks:
                for page, part in _keep(first, content, skip_zeros=skip_zeros):
                    count = len(part) // PAGE_BYTES
                    if runs and sum(runs[-1]) == page:
                        runs[-1][1] += count
                    else:
                        runs.append([page, count])
                    _write_all(stream, part)
                    written += len(part)
        (directory / MAP).write_bytes(b"".join(_RUN.pack(page, count) for page, count in runs))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"no room for a guest's memory in {directory}", hint="free some space there") from error
        raise HostError(f"a guest's memory cannot be written to {directory}: {error.strerror}") from error
    return written


def _keep(first: int, content: bytes, *, skip_zeros: bool) -> Iterator[tuple[int, memoryview]]:
    """The parts of a chunk that are to be written, each with its page."""
    view = memoryview(content)
    if not skip_zeros:
        yield first, view
        return
    begin: int | None = None
    for at in range(0, len(content), PAGE_BYTES):
        if content[at : at + PAGE_BYTES] != _ZEROS:
            begin = at if begin is None else begin
        elif begin is not None:
            yield first + begin // PAGE_BYTES, view[begin:at]
            begin = None
    if begin is not None:
        yield first + begin // PAGE_BYTES, view[begin:]


def _read_chunks(source: int, runs: Iterable[Run], *, offset: int) -> Iterator[tuple[int, bytes]]:
    for page, count in runs:
        for begin, pages in _split(page, count):
            content = os.pread(source, pages * PAGE_BYTES, offset + begin * PAGE_BYTES)
            if len(content) != pages * PAGE_BYTES:
                raise HostError("a guest's memory cannot be read")
            yield begin, content


def _find_pages(memory: int) -> Iterator[Run]:
    """The runs of pages that a memory file has."""
    for begin, end in find_data(memory):
        yield begin // PAGE_BYTES, (end - begin) // PAGE_BYTES


def _join(pages: Iterable[int]) -> Iterator[Run]:
    first = last = -2
    for page in pages:
        if page != last + 1:
            if first >= 0:
                yield first, last + 1 - first
            first = page
        last = page
    if first >= 0:
        yield first, last + 1 - first


def _split(page: int, count: int) -> Iterator[Run]:
    for begin in range(page, page + count, _CHUNK_PAGES):
        yield begin, min(_CHUNK_PAGES, page + count - begin)


def _fill(stream: FileIO, place: memoryview) -> None:
    at = 0
    while at < len(place):
        got = stream.readinto(place[at:])
        if not got:
            raise HostError("a saved memory is shorter than its map says")
        at += got


def _write_all(stream: FileIO, content: memoryview) -> None:
    while content:
        content = content[stream.write(content) :]
