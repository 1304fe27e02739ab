"""A directory of this host as the guest's root, whoever checked it out and when."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from volant.core.errors import DiskFull, HostError, InvalidInput
from volant.sparse import find_data

CHUNK = 1024 * 1024

Owners = Literal["root", "keep"]

LeftOut = Callable[[bytes, bool], bool]
"""Whether a path, relative and with ``/``, is passed over; the other argument says that it is a directory."""

# What a host's security modules write says nothing about the file, and another host has other labels.
_HOST_ATTRIBUTES = ("security.selinux", "security.ima", "security.evm", "security.SMACK64", "trusted.overlay.")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: should a pipe have taken the file's place, opening it does not wait for a writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def digest_directory(source: Path, *, owners: Owners = "root", is_left_out: LeftOut | None = None) -> str:
    """64 hexadecimal digits over all that ``copy_directory`` would copy: names, kinds, modes, links, attributes and bytes.

    Raises:
        InvalidInput: there is something that cannot be copied or read.
    """
    return _Walk(source, None, owners, is_left_out).run()


def copy_directory(source: Path, target: Path, *, owners: Owners = "root", epoch_s: int) -> str:
    """Copy ``source`` into the empty directory ``target`` and return its digest, as ``digest_directory`` gives it.

    Kinds, modes, hard links, attributes and holes are kept, and symbolic links stay links. All belongs to root unless ``owners``
    is ``keep``; all has the time ``epoch_s``. Owners and device nodes need root.

    Raises:
        InvalidInput: there is something that cannot be copied or read. DiskFull: there is no room.
        HostError: it cannot be written.
    """
    if target.resolve().is_relative_to(source.resolve()):
        raise InvalidInput(
            f"{source} holds the cache that it would be copied into", field="source.directory", hint="use --cache-dir"
        )
    return _Walk(source, _Copy(source, target, owners, epoch_s), owners, is_left_out=None).run()


class _Walk:
    """Goes by descriptors and names in them, so that no path is too long and no link is followed."""

    def __init__(self, source: Path, copy: _Copy | None, owners: Owners, is_left_out: LeftOut | None) -> None:
        self._source = source
        self._copy = copy
        self._owners = owners
        self._is_left_out = is_left_out
        self._digest = hashlib.sha256()
        self._links: dict[tuple[int, int], bytes] = {}
        self._ancestors: list[tuple[int, int]] = []

    def run(self) -> str:
        with _reading(self._source, b""):
            source_fd = os.open(self._source, _DIRECTORY & ~os.O_NOFOLLOW)
        try:
            if self._copy is None:
                self._visit_directory(source_fd, -1, b"")
            else:
                with self._copy.open_root() as target_fd:
                    self._visit_directory(source_fd, target_fd, b"")
        finally:
            os.close(source_fd)
        return self._digest.hexdigest()

    def _visit_directory(self, source_fd: int, target_fd: int, path: bytes) -> None:
        """Everything in a directory, then its own attributes and time, which its content would change."""
        facts = os.fstat(source_fd)
        identity = (facts.st_dev, facts.st_ino)
        if identity in self._ancestors:
            raise InvalidInput(f"{_name(self._source, path)} is mounted inside itself", field="source.directory")
        self._ancestors.append(identity)
        with _reading(self._source, path):
            attributes = _read_attributes(source_fd)
            names = sorted(os.fsencode(name) for name in os.listdir(source_fd))
        self._note(b"d", path, facts, *attributes)
        for name in names:
            self._visit(source_fd, target_fd, name, path + b"/" + name if path else name)
        if self._copy is not None:
            self._copy.finish(target_fd, facts, attributes, path)
        self._ancestors.pop()

    def _visit(self, source_fd: int, target_fd: int, name: bytes, path: bytes) -> None:
        with _reading(self._source, path):
            facts = os.stat(name, dir_fd=source_fd, follow_symlinks=False)
        is_directory = stat.S_ISDIR(facts.st_mode)
        if self._is_left_out is not None and self._is_left_out(path, is_directory):
            return
        if not is_directory and facts.st_nlink > 1:
            first = self._links.setdefault((facts.st_dev, facts.st_ino), path)
            if first != path:
                self._note(b"h", path, None, first)
                if self._copy is not None:
                    self._copy.link(first, target_fd, name, path)
                return
        if is_directory:
            with _reading(self._source, path):
                inner_fd = os.open(name, _DIRECTORY, dir_fd=source_fd)
            try:
                if self._copy is None:
                    self._visit_directory(inner_fd, -1, path)
                else:
                    with self._copy.open_directory(target_fd, name, path) as inner_target_fd:
                        self._visit_directory(inner_fd, inner_target_fd, path)
            finally:
                os.close(inner_fd)
        elif stat.S_ISREG(facts.st_mode):
            self._visit_file(source_fd, target_fd, name, path)
        elif stat.S_ISSOCK(facts.st_mode):
            raise InvalidInput(
                f"{_name(self._source, path)} is a socket, which only the program behind it can make",
                field="source.directory", hint="remove it, or stop the program",
            )  # fmt: skip
        else:
            link = b""
            if stat.S_ISLNK(facts.st_mode):
                with _reading(self._source, path):
                    link = os.readlink(name, dir_fd=source_fd)
            self._note(b"n", path, facts, b"%o %d" % (stat.S_IFMT(facts.st_mode), facts.st_rdev), link)
            if self._copy is not None:
                self._copy.make_node(target_fd, name, facts, link, path)

    def _visit_file(self, source_fd: int, target_fd: int, name: bytes, path: bytes) -> None:
        with _reading(self._source, path):
            reader = os.open(name, _FILE, dir_fd=source_fd)
        try:
            facts = os.fstat(reader)
            if not stat.S_ISREG(facts.st_mode):
                raise InvalidInput(f"{_name(self._source, path)} changed while it was read", field="source.directory")
            with _reading(self._source, path):
                attributes = _read_attributes(reader)
            if self._copy is None:
                content = self._read_bytes(reader, facts.st_size, path, None)
            else:
                with self._copy.open_file(target_fd, name, path) as writer:
                    content = self._read_bytes(reader, facts.st_size, path, writer)
                    self._copy.finish(writer, facts, attributes, path)
            self._note(b"f", path, facts, content, *attributes)
        finally:
            os.close(reader)

    def _read_bytes(self, reader: int, size: int, path: bytes, writer: int | None) -> bytes:
        """What is read is what is digested and written; where the source has a hole, the copy has one."""
        digest = hashlib.sha256()
        at = 0
        with _reading(self._source, path):
            for begin, end in find_data(reader):
                _digest_zeros(digest, begin - at)
                at = begin
                while at < end and (chunk := os.pread(reader, min(CHUNK, end - at), at)):
                    digest.update(chunk)
                    if self._copy is not None and writer is not None:
                        self._copy.write(writer, chunk, at, path)
                    at += len(chunk)
        _digest_zeros(digest, size - at)
        if self._copy is not None and writer is not None:
            self._copy.truncate(writer, max(size, at), path)
        return digest.digest()

    def _note(self, kind: bytes, path: bytes, facts: os.stat_result | None, *content: bytes) -> None:
        parts = [kind, path, *content]
        if facts is not None:
            parts.append(b"%o" % stat.S_IMODE(facts.st_mode))
            if self._owners == "keep":
                parts.append(b"%d:%d" % (facts.st_uid, facts.st_gid))
        # Each part behind its length, so that no two trees give the same bytes.
        for part in (b"%d" % len(parts), *parts):
            self._digest.update(b"%d:%b," % (len(part), part))


class _Copy:
    """The writing half: what becomes of each thing that the walk meets."""

    def __init__(self, source: Path, target: Path, owners: Owners, epoch_s: int) -> None:
        self._source = source
        self._target = target
        self._keeps_owners = owners == "keep"
        self._is_root = os.geteuid() == 0
        self._times_ns = (epoch_s * 10**9, epoch_s * 10**9)
        self._root_fd = -1

    @contextmanager
    def open_root(self) -> Iterator[int]:
        with self._writing(b""):
            self._root_fd = os.open(self._target, _DIRECTORY)
        try:
            yield self._root_fd
        finally:
            os.close(self._root_fd)

    @contextmanager
    def open_directory(self, parent_fd: int, name: bytes, path: bytes) -> Iterator[int]:
        with self._writing(path):
            os.mkdir(name, 0o700, dir_fd=parent_fd)
            descriptor = os.open(name, _DIRECTORY, dir_fd=parent_fd)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def open_file(self, parent_fd: int, name: bytes, path: bytes) -> Iterator[int]:
        with self._writing(path):
            descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=parent_fd)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def write(self, descriptor: int, chunk: bytes, at: int, path: bytes) -> None:
        with self._writing(path):
            view = memoryview(chunk)
            while view:
                written = os.pwrite(descriptor, view, at)
                view, at = view[written:], at + written

    def truncate(self, descriptor: int, size: int, path: bytes) -> None:
        with self._writing(path):
            os.ftruncate(descriptor, size)

    def link(self, first: bytes, parent_fd: int, name: bytes, path: bytes) -> None:
        with self._writing(path):
            os.link(first, name, src_dir_fd=self._root_fd, dst_dir_fd=parent_fd, follow_symlinks=False)

    def make_node(self, parent_fd: int, name: bytes, facts: os.stat_result, link: bytes, path: bytes) -> None:
        """A symbolic link, a device or a pipe."""
        with self._writing(path):
            if stat.S_ISLNK(facts.st_mode):
                os.symlink(link, name, dir_fd=parent_fd)
            else:
                os.mknod(name, facts.st_mode, facts.st_rdev, dir_fd=parent_fd)
            if self._keeps_owners or self._is_root:
                os.chown(name, *self._owner(facts), dir_fd=parent_fd, follow_symlinks=False)
            if not stat.S_ISLNK(facts.st_mode):
                os.chmod(name, stat.S_IMODE(facts.st_mode), dir_fd=parent_fd)
            os.utime(name, ns=self._times_ns, dir_fd=parent_fd, follow_symlinks=False)

    def finish(self, descriptor: int, facts: os.stat_result, attributes: list[bytes], path: bytes) -> None:
        """Owner, then mode and attributes (a change of owner takes set-user-id and capabilities away), then time."""
        with self._writing(path):
            if self._keeps_owners or self._is_root:
                os.fchown(descriptor, *self._owner(facts))
            os.fchmod(descriptor, stat.S_IMODE(facts.st_mode))
            for name, value in zip(attributes[::2], attributes[1::2], strict=True):
                os.setxattr(descriptor, name, value)
            os.utime(descriptor, ns=self._times_ns)

    def _owner(self, facts: os.stat_result) -> tuple[int, int]:
        return (facts.st_uid, facts.st_gid) if self._keeps_owners else (0, 0)

    @contextmanager
    def _writing(self, path: bytes) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(
                    f"there is no room for a copy of {self._source}", hint="move the cache with --cache-dir"
                ) from error
            hint = "run fledge with sudo" if error.errno == errno.EPERM else None
            raise HostError(f"a copy of {_name(self._source, path)} cannot be written: {error.strerror}", hint=hint) from error


@contextmanager
def _reading(source: Path, path: bytes) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidInput(f"{_name(source, path)} cannot be read: {error.strerror}", field="source.directory") from error


def _read_attributes(descriptor: int) -> list[bytes]:
    """Names and values in turn, in the order of the names."""
    names = sorted(name for name in os.listxattr(descriptor) if not name.startswith(_HOST_ATTRIBUTES))
    return [part for name in names for part in (os.fsencode(name), os.getxattr(descriptor, name))]


def _digest_zeros(digest: hashlib._Hash, count: int) -> None:
    zeros = bytes(min(CHUNK, max(count, 0)))
    while count > 0:
        digest.update(zeros[:count])
        count -= CHUNK


def _name(source: Path, path: bytes) -> str:
    return str(source / os.fsdecode(path)).encode("utf-8", "backslashreplace").decode()
