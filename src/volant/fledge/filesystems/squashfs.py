"""squashfs: read-only and compressed best."""

from __future__ import annotations

import asyncio

from volant.core.errors import CommandFailed, HostError
from volant.fledge.filesystems.census import find_foreign_attribute
from volant.fledge.filesystems.choice import FilesystemChoice, Order
from volant.fledge.filesystems.settled import report_full, run_settled

LATEST_S = (1 << 32) - 1
KEPT_ATTRIBUTES = ("user", "trusted", "security")
"""The namespaces that squashfs has numbers for (linux/squashfs_fs.h); access control lists are in none of them."""

_XZ_DICTIONARIES = ((7, "25%"), (15, "50%"))
"""Up to which level the dictionary is which part of a block, as in the first fledge."""


async def make_squashfs(order: Order) -> None:
    """Raises HostError: mksquashfs failed, or a file has an attribute that squashfs cannot hold."""
    foreign = await asyncio.to_thread(find_foreign_attribute, order.root, KEPT_ATTRIBUTES)
    if foreign is not None:
        raise HostError(
            f"squashfs cannot hold the attribute {foreign[1]} of {foreign[0]}",
            hint='choose another filesystem.type, "erofs" for one, or remove it (setfacl -b removes access control lists)',
        )
    time_s = str(min(max(order.newest_s, 0), LATEST_S))
    try:
        await run_settled(
            ["mksquashfs", order.root, order.target, "-noappend", "-no-progress", "-no-recovery", "-quiet",
             "-xattrs", "-reproducible", "-mkfs-time", time_s, *_compression(order.choice)],
            order, earliest_s=0, latest_s=LATEST_S,
        )  # fmt: skip
    except CommandFailed as error:
        if "No space left" in error.stderr_tail:
            raise report_full(order) from error
        raise


def _compression(choice: FilesystemChoice) -> list[str]:
    name, level = choice.compressor, choice.compression_level
    if name == "none":
        return ["-noI", "-noD", "-noF", "-noX"]
    words = ["-comp", name]
    if name == "xz":
        # 15 is the first fledge's default.
        wanted = 15 if level is None else level
        words += ["-Xdict-size", next((part for limit, part in _XZ_DICTIONARIES if wanted <= limit), "100%")]
    elif level is not None:
        # 0 is the fastest: none of them has a level below 1.
        words += ["-Xcompression-level", str(max(level, 1))]
    return words
