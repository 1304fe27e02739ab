"""A VFS over the real one whose writes and syncs fail when told to."""

from __future__ import annotations

import threading

import apsw


class FailingDisk(apsw.VFS):
    """``error`` is raised by every write, and every sync of what lies on it, while it is set.

    ``above`` lets writes through that end below that offset of their file. ``hold`` makes syncs wait, so that work piles up.
    """

    NAME = "failing"

    def __init__(self) -> None:
        self.error: apsw.Error | None = None
        self.above = 0
        self.syncs = 0
        self.hold = threading.Event()
        self.hold.set()
        self.held = threading.Event()
        super().__init__(self.NAME, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _File(self, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, disk: FailingDisk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._disk = disk
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        if self._disk.error is not None and offset + len(data) > self._disk.above:
            raise self._disk.error
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self._disk.held.set()
        self._disk.hold.wait(30)
        self._disk.syncs += 1
        if self._disk.error is not None and self._disk.above == 0:
            raise self._disk.error
        super().xSync(flags)
