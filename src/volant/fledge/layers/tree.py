"""The tree that layers are put into, by paths that lead nowhere else.

Nobody but us writes into it, so all its directories are known. A path is bytes without a slash at its ends, with no part that is
empty, ``.``, ``..`` or a symbolic link; the root is b"". Whatever is opened is opened by its own name in a directory that
is open, links not followed: even a mistake in here could not lead out of the root.
"""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from pathlib import Path

from volant.core.errors import InvalidInput
from volant.fledge.layers.attributes import DEFAULT_ACL, clear_attributes
from volant.fledge.layers.budget import Budget
from volant.fledge.layers.pax import show

IMPLIED_MODE = 0o755
WHITEOUT = b".wh."
"""What names of whiteouts begin with, and no other name (image-spec v1.1, layer.md, "Whiteouts")."""
LINKS_MAX = 40
"""As many symbolic links as Linux follows in one path (path_resolution(7))."""
STEPS_MAX = 8192

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_MAX = 64


def join_path(parent: bytes, name: bytes) -> bytes:
    return parent + b"/" + name if parent else name


def split_path(path: bytes) -> tuple[bytes, bytes]:
    """The path of the directory, and the name in it."""
    parent, _, name = path.rpartition(b"/")
    return parent, name


class Tree:
    """``root`` is an empty directory. What only a path implies belongs to root and has the time ``epoch_ns``.

    Raises:
        InvalidInput: it is not empty.
    """

    def __init__(self, root: Path, budget: Budget, epoch_ns: int) -> None:
        self._budget = budget
        self._epoch_ns = epoch_ns
        self._open: OrderedDict[bytes, int] = OrderedDict()
        self._default_acls: dict[bytes, bytes] = {}
        self.times_ns: dict[bytes, int] = {}
        """Every directory, and the time that it is to have."""
        self._root_fd = os.open(root, _DIRECTORY)
        try:
            if self.list_directory(b""):
                raise InvalidInput(f"{root} is not empty")
            self.reset_directory(b"")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for descriptor in (*self._open.values(), self._root_fd):
            os.close(descriptor)
        self._open.clear()

    def open_directory(self, path: bytes) -> int:
        """Its descriptor, which stays open at least until two others were asked for. Raises OSError."""
        found = self._open.get(path)
        if found is not None:
            self._open.move_to_end(path)
            return found
        if not path:
            return self._root_fd
        base, names = path, []
        while base and base not in self._open:
            base, name = split_path(base)
            names.append(name)
        descriptor = self._open.get(base, self._root_fd)
        # Only what was asked for is kept: a deep path would push out everything else.
        passing = -1
        try:
            for name in reversed(names):
                descriptor = os.open(name, _DIRECTORY, dir_fd=descriptor)
                if passing >= 0:
                    os.close(passing)
                passing = descriptor
        except BaseException:
            if passing >= 0:
                os.close(passing)
            raise
        self._open[path] = descriptor
        if len(self._open) > _OPEN_MAX:
            os.close(self._open.popitem(last=False)[1])
        return descriptor

    def find_directory(self, parts: list[bytes], *, make: bool) -> bytes | None:
        """The path of the directory that ``parts`` lead to, symbolic links resolved as if the root were ``/``.

        With ``make``, directories that are missing are made; without it the answer is None for them.

        Raises:
            InvalidInput: the way leads through what is no directory, or in circles.
        """
        path, links, steps = b"", 0, 0
        waiting = parts[::-1]
        while waiting:
            part = waiting.pop()
            steps += 1
            if part in (b"", b"."):
                continue
            if part == b"..":
                path = split_path(path)[0]
                continue
            child = join_path(path, part)
            if child in self.times_ns:
                path = child
                continue
            target = self._read_link(path, part)
            if target is not None:
                links += 1
                # A target without end would be walked once for each entry.
                if links > LINKS_MAX or steps > STEPS_MAX:
                    raise InvalidInput(f"too many symbolic links at {show(child)}")
                waiting += target.split(b"/")[::-1]
                path = b"" if target.startswith(b"/") else path
            elif not make:
                return None
            else:
                self._imply_directory(child)
                path = child
        return path

    def make_directory(self, path: bytes) -> bool:
        """An empty directory that is only its owner's; False when there is one. Anything else there is removed."""
        if path in self.times_ns:
            return False
        self.check_path(path)
        parent, name = split_path(path)
        try:
            os.mkdir(name, 0o700, dir_fd=self.open_directory(parent))
        except FileExistsError:
            self.remove(path)
            os.mkdir(name, 0o700, dir_fd=self.open_directory(parent))
        self.times_ns[path] = self._epoch_ns
        self._budget.charge_metadata(len(path), path)
        return True

    def reset_directory(self, path: bytes) -> None:
        """Make it what a directory is that no entry describes."""
        descriptor = self.open_directory(path)
        clear_attributes(descriptor)
        os.fchown(descriptor, 0, 0)
        os.fchmod(descriptor, IMPLIED_MODE)
        self.describe_directory(path, self._epoch_ns, None)

    def describe_directory(self, path: bytes, time_ns: int, default_acl: bytes | None) -> None:
        """Keep what its entries would change or inherit, until ``finish``."""
        self.times_ns[path] = time_ns
        if default_acl is not None:
            self._default_acls[path] = default_acl
        else:
            self._default_acls.pop(path, None)

    def remove(self, path: bytes) -> None:
        """Remove what lies there, with everything below. Raises OSError, FileNotFoundError among them."""
        if path not in self.times_ns:
            parent, name = split_path(path)
            os.unlink(name, dir_fd=self.open_directory(parent))
            return
        emptied, waiting = [], [path]
        while waiting:
            directory = waiting.pop()
            emptied.append(directory)
            for name in self.list_directory(directory):
                child = join_path(directory, name)
                if child in self.times_ns:
                    waiting.append(child)
                else:
                    os.unlink(name, dir_fd=self.open_directory(directory))
        for directory in reversed(emptied):
            parent, name = split_path(directory)
            self._forget(directory)
            os.rmdir(name, dir_fd=self.open_directory(parent))

    def list_directory(self, path: bytes) -> list[bytes]:
        with os.scandir(self.open_directory(path)) as found:
            return [os.fsencode(entry.name) for entry in found]

    def check_path(self, path: bytes) -> None:
        """Raises InvalidInput when it is longer or deeper than a path may be."""
        limits = self._budget.limits
        if len(path) > limits.path_max_bytes:
            raise InvalidInput(f"its path has {len(path)} bytes, more than {limits.path_max_bytes}")
        if path.count(b"/") >= limits.path_max_depth:
            raise InvalidInput(f"its path is more than {limits.path_max_depth} directories deep")

    def finish(self) -> None:
        """Give the directories the times and access control lists that they are to have. Raises OSError."""
        for path in sorted(self.times_ns):
            descriptor = self.open_directory(path)
            if path in self._default_acls:
                os.setxattr(descriptor, DEFAULT_ACL, self._default_acls[path])
            os.utime(descriptor, ns=(self.times_ns[path],) * 2)

    def _imply_directory(self, path: bytes) -> None:
        if split_path(path)[1].startswith(WHITEOUT):
            raise InvalidInput(f"{show(path)} on its way has a name that is kept for whiteouts")
        self._budget.charge_entry(path)
        self.make_directory(path)
        self.reset_directory(path)

    def _read_link(self, parent: bytes, name: bytes) -> bytes | None:
        """What the symbolic link says; None when there is nothing."""
        try:
            return os.readlink(name, dir_fd=self.open_directory(parent))
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise InvalidInput(f"{show(join_path(parent, name))} on its way is no directory") from error
            raise

    def _forget(self, path: bytes) -> None:
        del self.times_ns[path]
        self._default_acls.pop(path, None)
        descriptor = self._open.pop(path, None)
        if descriptor is not None:
            os.close(descriptor)
