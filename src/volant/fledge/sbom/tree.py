"""Reading a root tree that nobody vouches for: bounded, never through a link that leads out of it, nothing from it executed."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from volant.core.errors import DiskFull
from volant.fledge.recipe.mapping import resolve_in_root

ENTRIES_MAX = 5_000_000
DEPTH_MAX = 128
NOTES_MAX = 200

# What the kernel mounts over; an image has nothing of its own there.
_PASSED_OVER = frozenset({"dev", "proc", "sys"})


class Entry(msgspec.Struct, frozen=True):
    """A regular file: its path under the root without a leading slash, its name, and the name of its directory."""

    path: str
    name: str
    parent: str


class Tree:
    """An unpacked root. ``notes`` says what could not be read and why; it holds at most ``NOTES_MAX`` lines."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.notes: list[str] = []

    def add_note(self, path: str, why: str) -> None:
        if len(self.notes) < NOTES_MAX:
            self.notes.append(f"{printable(path)}: {why}")
        elif len(self.notes) == NOTES_MAX:
            self.notes.append("more could not be read than is listed here")

    def find_file(self, path: str) -> Path | None:
        """Where on the host the guest's regular file ``path`` is, its links followed as the guest would follow them."""
        try:
            found = resolve_in_root(self.root, path)
            facts = found.lstat()
        except FileNotFoundError:
            return None
        except OSError as error:
            # A file where a directory is looked for is as good as nothing there.
            if not isinstance(error, NotADirectoryError):
                self.add_note(path, _reason(error))
            return None
        if not stat.S_ISREG(facts.st_mode):
            self.add_note(path, "it is no file")
            return None
        return found

    def read_file(self, path: str, max_bytes: int) -> bytes | None:
        """The whole of the guest's file ``path``; None (and a note, unless it is simply not there) when it cannot be had."""
        found = self.find_file(path)
        return None if found is None else self._read(found, path, max_bytes)

    def copy_file(self, path: str, target: Path, max_bytes: int) -> bool:
        """Copy the guest's file ``path`` to a new file of the host's; False (and a note) when it cannot be had whole.

        Raises:
            DiskFull: the host has no space for it.
        """
        found = self.find_file(path)
        if found is None:
            return False
        try:
            with _open(found) as reader:
                if os.fstat(reader.fileno()).st_size > max_bytes:
                    self.add_note(path, f"it is larger than {max_bytes} bytes")
                    return False
                with target.open("xb") as writer:
                    shutil.copyfileobj(reader, writer)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise DiskFull(
                    f"{target.parent} has no space for a copy of {printable(path)}", hint="set TMPDIR to another"
                ) from error
            self.add_note(path, _reason(error))
            return False
        return True

    def read_entry(self, entry: Entry, max_bytes: int, *, truncate: bool = False) -> bytes | None:
        """The content of a file that ``walk`` found; with ``truncate`` the beginning of one that is too large."""
        return self._read(self.root / entry.path, entry.path, max_bytes, truncate=truncate)

    def list_names(self, path: str) -> list[str]:
        """The sorted names in the guest's directory ``path``; none when there is no such directory."""
        try:
            with os.scandir(resolve_in_root(self.root, path)) as found:
                return sorted(entry.name for entry in found)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            self.add_note(path, _reason(error))
            return []

    def walk(self) -> Iterator[Entry]:
        """Every regular file, in no certain order. Links are not followed; what they lead to is met at its own place."""
        left = ENTRIES_MAX
        waiting = [("", "", 0)]
        while waiting:
            path, name, depth = waiting.pop()
            try:
                with os.scandir(os.path.join(self.root, path)) as found:  # noqa: PTH118  # ten thousand Paths take longer than the walk
                    entries = list(found)
            except OSError as error:
                self.add_note(path or "/", _reason(error))
                continue
            left -= len(entries)
            if left < 0:
                self.add_note(path, f"the tree has more than {ENTRIES_MAX} entries")
                return
            prefix = f"{path}/" if path else ""
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if depth == 0 and entry.name in _PASSED_OVER:
                        continue
                    if depth == DEPTH_MAX:
                        self.add_note(prefix + entry.name, f"it lies deeper than {DEPTH_MAX} directories")
                        continue
                    waiting.append((prefix + entry.name, entry.name, depth + 1))
                elif entry.is_file(follow_symlinks=False):
                    yield Entry(prefix + entry.name, entry.name, name)

    def _read(self, found: Path, path: str, max_bytes: int, *, truncate: bool = False) -> bytes | None:
        try:
            with _open(found) as stream:
                content = stream.read(max_bytes + 1)
        except OSError as error:
            self.add_note(path, _reason(error))
            return None
        if len(content) > max_bytes and not truncate:
            self.add_note(path, f"it is larger than {max_bytes} bytes")
            return None
        return content[:max_bytes]


def _open(path: Path) -> BinaryIO:
    # Not blocking, for a pipe may have taken the file's place.
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")


def printable(path: str) -> str:
    """A path as text for people and JSON: bytes that are no UTF-8 and control characters escaped."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in text)


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
