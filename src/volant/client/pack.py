"""A file or a directory of this machine as a tar archive, a piece at a time."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from volant.core.errors import HostError, InvalidInput
from volant.core.tar import END, Member, MemberType, encode_member, padding

READ_BYTES = 256 * 1024


class Packer:
    """Iterate once for the archive of ``path``, whose names begin with ``name`` (``.`` for the contents of a directory).

    After that ``entries`` and ``bytes`` say how much it was, ``skipped`` counts the sockets and devices that were passed over and
    ``torn`` the files that shrank while they were read; those are padded with zeros.
    """

    def __init__(self, path: str, name: str, *, follow: bool = False) -> None:
        self.entries = self.bytes = self.skipped = self.torn = 0
        self._path = path
        self._name = name
        self._follow = follow

    def __iter__(self) -> Iterator[bytes]:
        """Raises HostError when something cannot be read, InvalidInput when the thing itself cannot be copied."""
        try:
            found = os.stat(self._path, follow_symlinks=self._follow)  # noqa: PTH116  # pathlib starts slower
            if _type_of(found) is None:
                raise InvalidInput(f"{self._path} is a socket or a device, which cannot be copied")
            yield from self._pack(self._path, self._name, found)
        except OSError as error:
            where = error.filename if isinstance(error.filename, str) else self._path
            raise HostError(f"{where} was not read: {(error.strerror or str(error)).lower()}") from error
        yield END

    def _pack(self, path: str, name: str, found: os.stat_result) -> Iterator[bytes]:
        # A list of what is still to come instead of recursion: trees may be deeper than Python's stack.
        waiting = [(path, name, found)]
        while waiting:
            path, name, found = waiting.pop()
            type_ = _type_of(found)
            if type_ is None:
                self.skipped += 1
                continue
            self.entries += 1
            member = Member(
                name=name,
                type=type_,
                mode=stat.S_IMODE(found.st_mode),
                uid=found.st_uid,
                gid=found.st_gid,
                mtime_ns=found.st_mtime_ns,
                size=found.st_size if type_ == "file" else 0,
                target=os.readlink(path) if type_ == "symlink" else "",  # noqa: PTH115  # likewise
            )
            if type_ == "file":
                yield from self._pack_file(path, member)
                continue
            if name != ".":
                yield encode_member(member)
            if type_ == "directory":
                with os.scandir(path) as entries:
                    below = sorted(((one.name, one.path) for one in entries), reverse=True)
                prefix = "" if name == "." else f"{name}/"
                waiting += [(child, prefix + base, os.lstat(child)) for base, child in below]

    def _pack_file(self, path: str, member: Member) -> Iterator[bytes]:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if self._follow else os.O_NOFOLLOW)
        descriptor = os.open(path, flags)
        try:
            yield encode_member(member)
            left = member.size
            while left and (chunk := os.read(descriptor, min(READ_BYTES, left))):
                left -= len(chunk)
                self.bytes += len(chunk)
                yield chunk
            if left:
                self.torn += 1
            while left:
                chunk = bytes(min(READ_BYTES, left))
                left -= len(chunk)
                yield chunk
            yield padding(member.size)
        finally:
            os.close(descriptor)


def _type_of(found: os.stat_result) -> MemberType | None:
    """None for what cannot be copied."""
    mode = found.st_mode
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    if stat.S_ISLNK(mode):
        return "symlink"
    return "fifo" if stat.S_ISFIFO(mode) else None
