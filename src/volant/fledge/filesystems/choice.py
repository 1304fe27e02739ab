"""Which file system a root is written as, and how."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Literal

import msgspec

from volant.core.errors import InvalidInput

FilesystemType = Literal["erofs", "squashfs", "ext4", "xfs", "btrfs"]

REPEATABLE: frozenset[str] = frozenset({"erofs", "squashfs", "ext4", "btrfs"})
"""Of these the same tree gives the same bytes. xfs is written by the kernel, which puts times, random numbers and the order in
which it happened to write into it."""

COMPRESSIONS: dict[str, tuple[str, ...]] = {
    "erofs": ("lz4", "lz4hc", "none"),
    "squashfs": ("zstd", "xz", "gzip", "lz4", "lzo", "none"),
    "ext4": ("none",),
    "xfs": ("none",),
    "btrfs": ("none",),
}
"""What each type can be compressed with; the first is what it is compressed with unless something else is asked for."""

LEVELS: dict[tuple[str, str], int] = {
    ("erofs", "lz4hc"): 12, ("squashfs", "zstd"): 22, ("squashfs", "xz"): 22, ("squashfs", "gzip"): 9, ("squashfs", "lzo"): 9,
}  # fmt: skip
"""The highest ``compression_level`` of the compressors that have levels."""

BUFFER_MAX_MB = 1024 * 1024
MIB = 1024 * 1024


class FilesystemChoice(msgspec.Struct, frozen=True):
    """``compression`` "" is the type's own. ``size_buffer_mb`` MiB stay free in an ext4, xfs or btrfs; 0 is a quarter of the
    content, at least 64 and at most 1024. ``preallocate`` gives the file all its blocks instead of leaving holes."""

    type: FilesystemType = "erofs"
    compression: str = ""
    compression_level: int | None = None
    size_buffer_mb: int = 0
    preallocate: bool = False

    @property
    def compressor(self) -> str:
        return self.compression or COMPRESSIONS[self.type][0]

    def buffer_bytes(self, content_bytes: int) -> int:
        """How much room is left beside ``content_bytes``."""
        if self.size_buffer_mb:
            return self.size_buffer_mb * MIB
        return min(max(content_bytes // 4, 64 * MIB), 1024 * MIB)


class Order(msgspec.Struct, frozen=True):
    """One image to make. ``newest_s`` is the image's own time, and no file's is after it. ``lock_fd`` goes to every program."""

    choice: FilesystemChoice
    root: Path
    target: Path
    identity: str
    newest_s: int
    lock_fd: int

    @property
    def uuid(self) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, self.identity))


def check_choice(choice: FilesystemChoice) -> None:
    """Raises InvalidInput, whose ``field`` is ``filesystem.`` and the name of what cannot be."""
    kind = choice.type
    if kind not in COMPRESSIONS:
        raise InvalidInput(
            f"filesystem.type {kind!r} is not known", field="filesystem.type", hint=f"it is one of {', '.join(COMPRESSIONS)}"
        )
    if choice.compressor not in COMPRESSIONS[kind]:
        raise InvalidInput(
            f"{kind} is not compressed with {choice.compression!r} here",
            field="filesystem.compression",
            hint=f"it can be {', '.join(COMPRESSIONS[kind])}; squashfs and erofs are the types made for compression",
        )
    if choice.compression_level is not None:
        highest = LEVELS.get((kind, choice.compressor))
        if highest is None:
            raise InvalidInput(
                f"{kind} with compression {choice.compressor} has no levels",
                field="filesystem.compression_level",
                hint="remove it; squashfs has them with zstd, xz, gzip and lzo, erofs with lz4hc",
            )
        if not 0 <= choice.compression_level <= highest:
            raise InvalidInput(
                f"filesystem.compression_level {choice.compression_level} is not between 0 and {highest}, the levels of "
                f"{choice.compressor}",
                field="filesystem.compression_level",
            )
    if not 0 <= choice.size_buffer_mb <= BUFFER_MAX_MB:
        raise InvalidInput(
            f"filesystem.size_buffer_mb {choice.size_buffer_mb} is not between 0 and {BUFFER_MAX_MB}",
            field="filesystem.size_buffer_mb",
        )
    if kind in ("erofs", "squashfs"):
        for name in ("size_buffer_mb", "preallocate"):
            if getattr(choice, name):
                raise InvalidInput(
                    f"filesystem.{name} is for file systems with free space, and {kind} has none",
                    field=f"filesystem.{name}",
                    hint="remove it, or choose ext4, xfs or btrfs",
                )
