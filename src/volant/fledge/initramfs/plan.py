"""What is to lie in a guest's memory: a tree as it was unpacked, what is laid over it, and all of it as one archive."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from volant.core.errors import InvalidInput
from volant.fledge.content import CHUNK
from volant.fledge.initramfs.cpio import CpioWriter
from volant.fledge.recipe.mapping import LINKS_MAX

PAGE_BYTES = 4096
_KEPT_ELSEWHERE = ("security.selinux",)
"""Attributes that say where a file was made, not what it is."""


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """``content`` is a link's target, or a file's bytes; a file of the tree is at ``source`` instead. ``shared`` is the same
    for all names of one file."""

    mode: int
    owner: tuple[int, int] = (0, 0)
    device: tuple[int, int] = (0, 0)
    content: bytes = b""
    source: bytes = b""
    size_bytes: int = 0
    shared: tuple[int, int] | None = None


class Plan:
    """Nodes by their paths, relative to the guest's root. What is put later replaces what was there."""

    def __init__(self) -> None:
        self._nodes: dict[bytes, Node] = {}
        self.lost_attributes: list[bytes] = []
        """Paths with attributes (a capability, an access control list) that cpio has no place for, in the order of reading."""

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def unpacked_bytes(self) -> int:
        """What the files take of the guest's memory: whole pages, each file once."""
        once = {node.shared or path: node.size_bytes for path, node in self._nodes.items() if stat.S_ISREG(node.mode)}
        return sum(size + -size % PAGE_BYTES for size in once.values())

    def add_tree(self, root: Path) -> None:
        """Everything under ``root``, owners, modes and names as they are; links are kept as links.

        Raises:
            InvalidInput: there is something that no archive holds.
        """
        top = os.fsencode(root)
        waiting = [b""]
        while waiting:
            directory = waiting.pop()
            try:
                with os.scandir(top + b"/" + directory) as entries:
                    names = [entry.name for entry in entries]
                for name in names:
                    path = directory + b"/" + name if directory else name
                    node = self._read_node(top + b"/" + path, path)
                    self._nodes[path] = node
                    if stat.S_ISDIR(node.mode):
                        waiting.append(path)
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    raise
                raise InvalidInput(f"{_show(directory)} lies too deep for an initramfs", hint="give it a shorter path") from error

    def find(self, path: str) -> Node | None:
        """What the guest finds at ``path``, links followed."""
        return self._nodes.get(self._resolve(path))

    def put_directory(self, path: str, mode: int = 0o755) -> None:
        """A directory, unless there is one, or a link to one. Raises InvalidInput when a file is in the way."""
        resolved = self._resolve(path)
        self._make_parents(resolved)
        found = self._nodes.get(resolved)
        if found is None:
            self._nodes[resolved] = Node(mode=stat.S_IFDIR | mode)
        elif not stat.S_ISDIR(found.mode):
            raise InvalidInput(f"/{path} of the content is no directory, and the guest needs one there", hint="remove it")

    def put_file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        self._put(path, Node(mode=stat.S_IFREG | mode, content=content, size_bytes=len(content)))

    def put_link(self, path: str, target: str) -> None:
        self._put(path, Node(mode=stat.S_IFLNK | 0o777, content=os.fsencode(target)))

    def put_character_device(self, path: str, major: int, minor: int, mode: int) -> None:
        self._put(path, Node(mode=stat.S_IFCHR | mode, device=(major, minor)))

    def has(self, path: str) -> bool:
        """True when there is something of that very name; a link is not followed at the end."""
        return self._place(path) in self._nodes

    def write(self, stream: BinaryIO, *, time_s: int) -> None:
        """One archive: each directory before what lies in it, in the order of the names' bytes, the trailer last.

        Raises:
            InvalidInput: an entry is larger, or its path longer, than the format or the kernel can have.
        """
        archive = CpioWriter(stream, time_s=time_s)
        # The root of a guest that lives in its memory would else be one where anybody may write.
        archive.add_directory(".")
        names: dict[tuple[int, int], list[bytes]] = {}
        ordered = sorted(self._nodes, key=lambda path: path.split(b"/"))
        for path in ordered:
            shared = self._nodes[path].shared
            if shared is not None:
                names.setdefault(shared, []).append(path)
        for path in ordered:
            node = self._nodes[path]
            paths = [path] if node.shared is None else names[node.shared]
            if path == paths[-1]:
                _write_node(archive, node, paths)
        archive.finish()

    def _read_node(self, place: bytes, path: bytes) -> Node:
        facts = os.lstat(place)
        mode = facts.st_mode
        if stat.S_ISSOCK(mode):
            raise InvalidInput(f"{_show(path)} is a socket, which only a running program can make", hint="remove it")
        if self._has_attributes(place):
            self.lost_attributes.append(path)
        several = facts.st_nlink > 1 and not stat.S_ISDIR(mode) and not stat.S_ISLNK(mode)
        return Node(
            mode=mode,
            owner=(facts.st_uid, facts.st_gid),
            device=(os.major(facts.st_rdev), os.minor(facts.st_rdev)) if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else (0, 0),
            content=os.readlink(place) if stat.S_ISLNK(mode) else b"",  # noqa: PTH115  # a Path would tidy the text
            source=place if stat.S_ISREG(mode) else b"",
            size_bytes=facts.st_size if stat.S_ISREG(mode) else 0,
            shared=(facts.st_dev, facts.st_ino) if several else None,
        )

    def _has_attributes(self, place: bytes) -> bool:
        try:
            return any(name not in _KEPT_ELSEWHERE for name in os.listxattr(place, follow_symlinks=False))
        except OSError as error:
            if error.errno in (errno.ENOTSUP, errno.EPERM, errno.EACCES):
                return False
            raise

    def _put(self, path: str, node: Node) -> None:
        place = self._place(path)
        self._make_parents(place)
        found = self._nodes.get(place)
        if found is not None and stat.S_ISDIR(found.mode):
            raise InvalidInput(f"/{path} of the content is a directory, and the guest needs a file there", hint="remove it")
        self._nodes[place] = node

    def _make_parents(self, path: bytes) -> None:
        parts = path.split(b"/")[:-1]
        for depth in range(1, len(parts) + 1):
            parent = b"/".join(parts[:depth])
            found = self._nodes.setdefault(parent, Node(mode=stat.S_IFDIR | 0o755))
            if not stat.S_ISDIR(found.mode):
                raise InvalidInput(f"{_show(parent)} of the content is no directory, and the guest needs one there")

    def _place(self, path: str) -> bytes:
        """Where ``path`` is written: links are followed on the way there, and not at its end."""
        parent, _, name = path.strip("/").rpartition("/")
        return b"/".join(filter(None, (self._resolve(parent), os.fsencode(name))))

    def _resolve(self, path: str) -> bytes:
        waiting = os.fsencode(path).split(b"/")[::-1]
        done: list[bytes] = []
        links = 0
        while waiting:
            part = waiting.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                del done[-1:]
                continue
            node = self._nodes.get(b"/".join([*done, part]))
            if node is None or not stat.S_ISLNK(node.mode):
                done.append(part)
                continue
            links += 1
            if links > LINKS_MAX:
                raise InvalidInput(f"the links at /{path} of the content lead in a circle", hint="remove them")
            if node.content.startswith(b"/"):
                done.clear()
            waiting += node.content.split(b"/")[::-1]
        return b"/".join(done)


def _write_node(archive: CpioWriter, node: Node, paths: list[bytes]) -> None:
    mode = stat.S_IMODE(node.mode)
    if stat.S_ISDIR(node.mode):
        archive.add_directory(paths[0], mode, owner=node.owner)
    elif stat.S_ISLNK(node.mode):
        archive.add_symlink(paths[0], node.content, owner=node.owner)
    elif not stat.S_ISREG(node.mode):
        archive.add_special(paths, node.mode, owner=node.owner, device=node.device)
    else:
        content = _read_file(node.source) if node.source else iter((node.content,))
        archive.add_stream(paths, mode, content, node.size_bytes, owner=node.owner)


def read_content(node: Node, limit_bytes: int) -> bytes:
    """The first bytes of a file, at most so many."""
    if not node.source:
        return node.content[:limit_bytes]
    with _open_file(node.source) as stream:
        return stream.read(limit_bytes)


def _read_file(place: bytes) -> Iterator[bytes]:
    with _open_file(place) as stream:
        while chunk := stream.read(CHUNK):
            yield chunk


def _open_file(place: bytes) -> BinaryIO:
    return os.fdopen(os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")


def _show(path: bytes) -> str:
    return "/" + path.decode("utf-8", "backslashreplace")[:100]
