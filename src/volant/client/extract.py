"""Unpacking an archive that a guest made: below one directory, following no link, making no device."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from volant.core.errors import DiskFull, HostError, InvalidInput, VolantError
from volant.core.tar import Member, TarDecoder

MAX_DEPTH = 200
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Extracted(NamedTuple):
    entries: int
    bytes: int


class _Open(NamedTuple):
    """A directory that members go into, and what it is to be when all are in it."""

    name: str
    descriptor: int
    member: Member | None


class Extractor:
    """Feed it an archive; a context, within ``directory``. The first part of every name becomes ``rename``, if it is not None;
    an empty one drops it, so that what was in a directory comes into ``directory`` itself.

    Modes and times are kept, but for set-uid, set-gid and sticky bits; owners with ``owners``, which takes root.
    """

    def __init__(self, directory: str, *, rename: str | None = None, owners: bool = False) -> None:
        self.entries = self.bytes = 0
        self._rename = rename
        self._owners = owners
        self._decoder = TarDecoder()
        self._open: list[_Open] = []
        self._file: tuple[int, int, str, str, Member] | None = None
        self._left = 0
        self._root = _open_directory(directory)

    def __enter__(self) -> Extractor:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._drop_file()
        for one in self._open:
            os.close(one.descriptor)
        self._open.clear()
        os.close(self._root)

    def feed(self, data: bytes) -> None:
        """Raises InvalidInput for what is no archive or leads out, DiskFull and HostError for what this host refuses."""
        for item in self._decoder.feed(data):
            with _told(item.name if isinstance(item, Member) else (self._file[4].name if self._file else "")):
                if isinstance(item, Member):
                    self._begin(item)
                else:
                    self._write(item)

    def finish(self) -> Extracted:
        """No more comes. Raises InvalidInput when the archive is not whole."""
        self._decoder.finish()
        if not self._decoder.is_ended:
            raise InvalidInput("the archive has no end", hint="what was copied until here stays")
        while self._open:
            self._leave()
        return Extracted(self.entries, self.bytes)

    def _begin(self, member: Member) -> None:
        parts = self._place(member)
        self.entries += 1
        if not parts:
            if member.type != "directory":
                raise InvalidInput(f"{member.name!r} is no directory, and the contents of one were asked for")
            return
        if len(parts) > MAX_DEPTH:
            raise InvalidInput(f"{member.name[:100]!r} lies deeper than {MAX_DEPTH} directories")
        parent = self._enter(parts[:-1])
        name = parts[-1]
        if member.type == "directory":
            self._make_directory(parent, name, member)
            return
        temporary = f".volar-{secrets.token_hex(8)}"
        if member.type == "file":
            descriptor = os.open(temporary, _NEW, 0o600, dir_fd=parent)
            self._file, self._left = (descriptor, parent, temporary, name, member), member.size
            if not member.size:
                self._end_file()
            return
        if member.type == "symlink":
            os.symlink(member.target, temporary, dir_fd=parent)
        else:
            os.mkfifo(temporary, member.mode & 0o777, dir_fd=parent)
        self._own(temporary, parent, member)
        os.utime(temporary, ns=(member.mtime_ns, member.mtime_ns), dir_fd=parent, follow_symlinks=False)
        _put(temporary, name, parent)

    def _write(self, content: bytes) -> None:
        assert self._file is not None
        view = memoryview(content)
        while view:
            view = view[os.write(self._file[0], view) :]
        self.bytes += len(content)
        self._left -= len(content)
        if not self._left:
            self._end_file()

    def _end_file(self) -> None:
        assert self._file is not None
        descriptor, parent, temporary, name, member = self._file
        if self._owners:
            os.fchown(descriptor, member.uid, member.gid)
        os.fchmod(descriptor, member.mode & 0o777)
        os.utime(descriptor, ns=(member.mtime_ns, member.mtime_ns))
        _put(temporary, name, parent)
        self._file = None
        os.close(descriptor)

    def _drop_file(self) -> None:
        if self._file is not None:
            descriptor, parent, temporary, _, _ = self._file
            self._file = None
            os.close(descriptor)
            os.unlink(temporary, dir_fd=parent)

    def _place(self, member: Member) -> list[str]:
        parts = [] if member.name == "." else member.name.split("/")
        if self._rename is None or not parts:
            return parts
        return [self._rename, *parts[1:]] if self._rename else parts[1:]

    def _enter(self, parts: list[str]) -> int:
        """The directory at ``parts``, which is there already."""
        while [one.name for one in self._open] != parts[: len(self._open)]:
            self._leave()
        for name in parts[len(self._open) :]:
            self._open.append(_Open(name, os.open(name, _DIRECTORY, dir_fd=self._here), None))
        return self._here

    def _make_directory(self, parent: int, name: str, member: Member) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent)
        self._open.append(_Open(name, os.open(name, _DIRECTORY, dir_fd=parent), member))

    def _leave(self) -> None:
        one = self._open.pop()
        try:
            if one.member is not None:
                if self._owners:
                    os.fchown(one.descriptor, one.member.uid, one.member.gid)
                os.fchmod(one.descriptor, one.member.mode & 0o777)
                os.utime(one.descriptor, ns=(one.member.mtime_ns, one.member.mtime_ns))
        finally:
            os.close(one.descriptor)

    def _own(self, name: str, parent: int, member: Member) -> None:
        if self._owners:
            os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)

    @property
    def _here(self) -> int:
        return self._open[-1].descriptor if self._open else self._root


def extract(archive: Iterable[bytes], extractor: Extractor) -> Extracted:
    for chunk in archive:
        extractor.feed(chunk)
    return extractor.finish()


def _put(temporary: str, name: str, parent: int) -> None:
    """Give it its name, which may be another file's until now."""
    try:
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=parent)
        raise


def _open_directory(path: str) -> int:
    with _told(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise InvalidInput(f"{path} is no directory")
        return descriptor


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except VolantError:
        raise
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"{what[:200]} was not written: {why.lower()}") from error
        hint = "a link or a file stands where a directory is to be" if error.errno in (errno.ENOTDIR, errno.ELOOP) else None
        raise HostError(f"{what[:200]} was not written: {why.lower()}", hint=hint) from error
