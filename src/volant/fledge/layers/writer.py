"""Entries of one layer, written into the tree."""

from __future__ import annotations

import os
from collections.abc import Callable

from volant.core.errors import InvalidInput
from volant.fledge.layers.attributes import DEFAULT_ACL, Attributes, clear_attributes, decode_attributes, set_attributes
from volant.fledge.layers.budget import Budget
from volant.fledge.layers.changes import Changes
from volant.fledge.layers.pax import show
from volant.fledge.layers.tar import TarEntry, TarReader
from volant.fledge.layers.tree import WHITEOUT, Tree, join_path, split_path

MAJOR_MAX = (1 << 12) - 1
MINOR_MAX = (1 << 20) - 1

_OPAQUE = b".wh..wh..opq"
_AUFS = b".wh..wh."
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Note = Callable[[str], None]
"""Told of what could not be kept, and where."""


class LayerWriter:
    """One for each layer; ``reader`` is at the layer's first entry."""

    def __init__(self, tree: Tree, reader: TarReader, budget: Budget, note: Note) -> None:
        self._tree = tree
        self._reader = reader
        self._budget = budget
        self._note = note
        self._changes = Changes(tree, budget)

    def write(self, entry: TarEntry) -> None:
        """Make what the entry says, or hide what it hides.

        Raises:
            InvalidInput: no layer may have such an entry. TooLarge: it is. OSError.
        """
        self._budget.charge_entry(entry.name)
        parts = _split_name(entry.name)
        if not parts:
            if entry.kind != "directory":
                raise InvalidInput("it would replace the root itself")
            self._describe_directory(b"", entry)
            return
        base = parts.pop()
        if base.startswith(WHITEOUT):
            self._hide(parts, base, entry.name)
            return
        # A path that is known as a directory's leads through no link.
        lexical = b"/".join(parts)
        parent = lexical if lexical in self._tree.times_ns else self._tree.find_directory(parts, make=True)
        assert parent is not None
        path = join_path(parent, base)
        if entry.kind == "directory":
            self._tree.make_directory(path)
            self._describe_directory(path, entry)
        else:
            self._tree.check_path(path)
            self._make_over(path, entry)
        self._changes.add(path)

    def _hide(self, parts: list[bytes], base: bytes, name: bytes) -> None:
        if base.startswith(_AUFS) and base != _OPAQUE:
            self._note(f"{show(name)}: aufs keeps its own records there")
            return
        hidden = base.removeprefix(WHITEOUT)
        if base != _OPAQUE and hidden in (b"", b".", b".."):
            raise InvalidInput("it is a whiteout of nothing that a directory may hold")
        parent = self._tree.find_directory(parts, make=False)
        if parent is None:
            return
        if base == _OPAQUE:
            self._changes.hide_content(parent)
        else:
            self._changes.hide(join_path(parent, hidden))

    def _make_over(self, path: bytes, entry: TarEntry) -> None:
        make = self._MAKERS[entry.kind]
        try:
            make(self, path, entry)
        except FileExistsError:
            if entry.kind == "hardlink" and self._find_target(entry) == path:
                return
            self._tree.remove(path)
            make(self, path, entry)

    def _make_file(self, path: bytes, entry: TarEntry) -> None:
        parent, name = split_path(path)
        descriptor = os.open(name, _CREATE, 0o600, dir_fd=self._tree.open_directory(parent))
        try:
            self._budget.charge_file(entry.size_bytes, path)
            if entry.sparse is None:
                hole = bool(entry.stored_bytes) and self._reader.copy(descriptor, entry.stored_bytes)
            else:
                hole = True
                for offset, length in entry.sparse:
                    os.lseek(descriptor, offset, os.SEEK_SET)
                    self._reader.copy(descriptor, length)
            if hole:
                os.ftruncate(descriptor, entry.size_bytes)
            self._describe(descriptor, entry, decode_attributes(entry.attributes) if entry.attributes else {})
            os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(descriptor)

    def _make_symlink(self, path: bytes, entry: TarEntry) -> None:
        if not entry.link:
            raise InvalidInput("it is a symbolic link to nothing")
        parent, name = split_path(path)
        os.symlink(entry.link, name, dir_fd=self._tree.open_directory(parent))
        self._describe_special(path, entry)

    def _make_hardlink(self, path: bytes, entry: TarEntry) -> None:
        target = self._find_target(entry)
        (source_parent, source), (parent, name) = split_path(target), split_path(path)
        try:
            os.link(
                source, name, src_dir_fd=self._tree.open_directory(source_parent),
                dst_dir_fd=self._tree.open_directory(parent), follow_symlinks=False,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise InvalidInput(f"it is a hard link to {show(entry.link)}, which is not there") from error

    def _find_target(self, entry: TarEntry) -> bytes:
        parts = _split_name(entry.link)
        base = parts.pop() if parts else b""
        parent = self._tree.find_directory(parts, make=False)
        if parent is None:
            raise InvalidInput(f"it is a hard link to {show(entry.link)}, which is not there")
        target = join_path(parent, base) if base else parent
        if target in self._tree.times_ns:
            raise InvalidInput(f"it is a hard link to {show(entry.link)}, which is a directory")
        return target

    def _make_node(self, path: bytes, entry: TarEntry) -> None:
        major, minor = entry.device
        if major > MAJOR_MAX or minor > MINOR_MAX:
            raise InvalidInput(f"it is a device with the numbers {major} and {minor}, which Linux does not have")
        parent, name = split_path(path)
        kind = {"character": 0o020000, "block": 0o060000, "fifo": 0o010000}[entry.kind]
        os.mknod(name, kind | 0o600, os.makedev(major, minor), dir_fd=self._tree.open_directory(parent))
        self._describe_special(path, entry)

    def _describe_directory(self, path: bytes, entry: TarEntry) -> None:
        attributes = decode_attributes(entry.attributes)
        default_acl = attributes.pop(DEFAULT_ACL, None)
        descriptor = self._tree.open_directory(path)
        clear_attributes(descriptor)
        self._describe(descriptor, entry, attributes)
        self._tree.describe_directory(path, entry.mtime_ns, default_acl)

    def _describe(self, descriptor: int, entry: TarEntry, attributes: Attributes) -> None:
        # A change of owner takes set-user-id bits and capabilities away, so it is the first.
        os.fchown(descriptor, entry.uid, entry.gid)
        os.fchmod(descriptor, entry.mode)
        if attributes:
            self._note_lost(entry, set_attributes(descriptor, attributes))

    def _describe_special(self, path: bytes, entry: TarEntry) -> None:
        parent, name = split_path(path)
        at = self._tree.open_directory(parent)
        os.chown(name, entry.uid, entry.gid, dir_fd=at, follow_symlinks=False)
        if entry.kind != "symlink":
            os.chmod(name, entry.mode, dir_fd=at)
        if entry.attributes:
            # Neither links nor devices can be opened for this, and no call takes a directory and a name.
            self._note_lost(entry, set_attributes(b"/proc/self/fd/%d/%s" % (at, name), decode_attributes(entry.attributes)))
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=at, follow_symlinks=False)

    def _note_lost(self, entry: TarEntry, names: list[bytes]) -> None:
        for name in names:
            self._note(f"{show(entry.name)}: Linux keeps no attribute {show(name)} there")

    _MAKERS = {
        "file": _make_file, "symlink": _make_symlink, "hardlink": _make_hardlink,
        "character": _make_node, "block": _make_node, "fifo": _make_node,
    }  # fmt: skip


def _split_name(name: bytes) -> list[bytes]:
    """The parts of a path in the archive. Raises InvalidInput when it leads upwards or to what only whiteouts may be called."""
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise InvalidInput("its path leads upwards (..)")
    if b".wh." in name and any(part.startswith(WHITEOUT) for part in parts[:-1]):
        raise InvalidInput("a directory on its way has a name that is kept for whiteouts")
    return parts
