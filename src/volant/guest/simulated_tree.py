"""The files of a simulated guest: a tree in memory."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from volant.guest.file_records import FileEntry

_LINKS = 40


class NotThere(Exception):
    """No file has that path."""


class NotDirectory(Exception):
    """Something on the way is no directory."""


class SimulatedFile(msgspec.Struct):
    """``entry.path`` is unused: where it lies says its path."""

    entry: FileEntry
    content: bytes = b""


class SimulatedFiles:
    """Absolute paths to files; every file's directory is there."""

    def __init__(self) -> None:
        self._files: dict[str, SimulatedFile] = {}
        for path in ("/", "/etc", "/home", "/srv"):
            self._files[path] = SimulatedFile(FileEntry(path=".", type="directory", mode=0o755))
        self.write("/etc/hostname", b"simulated\n")

    def write(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """For tests: a file as if the workload had made it."""
        self._files[path] = SimulatedFile(FileEntry(path=".", type="file", mode=mode, size=len(content)), content)

    def read(self, path: str) -> bytes:
        return self._files[self.resolve(path)].content

    def find(self, path: str, *, follow: bool = True) -> SimulatedFile:
        return self._files[self.resolve(path, follow=follow)]

    def put(self, directory: str, entry: FileEntry, content: bytes = b"") -> None:
        """Make ``entry`` below ``directory``, with the directories on its way. Raises NotThere or NotDirectory."""
        base = self.resolve(directory)
        path = base if entry.path == "." else f"{base.rstrip('/')}/{entry.path}"
        if path == base and entry.type != "directory":
            raise NotDirectory(base)
        parts = entry.path.split("/")[:-1]
        for count in range(1, len(parts) + 1):
            parent = "/".join([base.rstrip("/"), *parts[:count]])
            made = self._files.setdefault(parent, SimulatedFile(FileEntry(path=".", type="directory", mode=0o755)))
            if made.entry.type != "directory":
                raise NotDirectory(parent)
        if entry.type != "directory":
            for below in [one for one in self._files if one.startswith(f"{path}/")]:
                del self._files[below]
        self._files[path] = SimulatedFile(entry, content)

    def walk(self, path: str) -> Iterator[tuple[str, SimulatedFile]]:
        """What is at ``path`` as ``.`` and all below it, a directory before what it holds. Raises NotThere."""
        base = self.resolve(path, follow=False)
        yield ".", self._files[base]
        prefix = f"{base.rstrip('/')}/"
        for below in sorted(one for one in self._files if one.startswith(prefix) and one != prefix):
            yield below.removeprefix(prefix), self._files[below]

    def resolve(self, path: str, *, follow: bool = True) -> str:
        """``path`` with every link on it followed, the last too with ``follow``. Raises NotThere or NotDirectory."""
        todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        at, links = "/", 0
        while todo:
            part = todo.pop()
            if part == "..":
                at = at.rpartition("/")[0] or "/"
                continue
            if self._files[at].entry.type != "directory":
                raise NotDirectory(at)
            below = f"{at.rstrip('/')}/{part}"
            found = self._files.get(below)
            links += 1
            if found is None or links > _LINKS:
                raise NotThere(below)
            if found.entry.type == "symlink" and (todo or follow):
                target = found.entry.target
                at = "/" if target.startswith("/") else at
                todo += [part for part in reversed(target.split("/")) if part not in ("", ".")]
            else:
                at = below
        return at
