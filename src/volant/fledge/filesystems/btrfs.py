"""btrfs: one copy of everything, not compressed, for mkfs.btrfs 6.2 cannot compress what it fills."""

from __future__ import annotations

import asyncio
import os
import stat

from volant.core.errors import CommandFailed, HostError
from volant.fledge.filesystems.btrfs_inodes import amend_inodes
from volant.fledge.filesystems.census import BLOCK, Census, read_attributes, take_census, walk_tree
from volant.fledge.filesystems.choice import MIB, Order
from volant.fledge.filesystems.settled import create_image, has_room, report_full, run_settled

EARLIEST_S, LATEST_S = -(1 << 63), (1 << 63) - 1
SIZE_MIN_BYTES = 48 * MIB
_LAYOUT = (
    "-n", "16384", "-s", str(BLOCK), "--csum", "crc32c", "-O", "extref,skinny-metadata,no-holes", "-R", "free-space-tree",
)  # fmt: skip
_INODE_BYTES = 600
"""Of an inode, its names in both indexes, and its part of the other trees, in leaves that are half full."""


def size_btrfs(census: Census, buffer_bytes: int) -> int:
    """Bytes of an image that holds ``census`` and leaves ``buffer_bytes`` free. mkfs.btrfs writes zeros where holes are, and
    makes the file larger when it thinks that it needs more."""
    content = census.apparent_blocks * (BLOCK + 8)
    metadata = census.inodes * _INODE_BYTES + 6 * census.name_bytes + 2 * census.attribute_bytes + census.link_blocks * BLOCK
    # Room is given out in chunks of a tenth of the whole at most.
    return max(SIZE_MIN_BYTES, -(-(content + content // 8 + 2 * metadata + 32 * MIB + buffer_bytes) // MIB) * MIB)


async def make_btrfs(order: Order) -> None:
    """Raises HostError: mkfs.btrfs failed, or the root directory has extended attributes, which it cannot be given."""
    attributes = await asyncio.to_thread(read_attributes, order.root)
    if attributes:
        raise HostError(
            f"mkfs.btrfs cannot give the root directory its attribute {next(iter(attributes))}",
            hint='remove the attribute, or choose another filesystem.type, "ext4" for one',
        )
    census = await asyncio.to_thread(take_census, order.root)
    size_bytes = size_btrfs(census, order.choice.buffer_bytes(census.apparent_blocks * BLOCK))
    await asyncio.to_thread(create_image, order, size_bytes)
    try:
        await run_settled(
            ["mkfs.btrfs", "-q", "-f", "-K", "-U", order.uuid, "-d", "single", "-m", "single", *_LAYOUT,
             "-r", order.root, order.target],
            order, earliest_s=EARLIEST_S, latest_s=LATEST_S,
        )  # fmt: skip
    except CommandFailed as error:
        # mkfs.btrfs does not always say why.
        if not has_room(order):
            raise report_full(order) from error
        if "No space left" in error.stderr_tail:
            raise HostError(
                f"the tree did not fit into {order.target.name}: {error}", hint="raise filesystem.size_buffer_mb"
            ) from error
        raise
    devices = await asyncio.to_thread(_find_devices, order)
    await asyncio.to_thread(amend_inodes, order.target, order.root, order.newest_s, devices)


def _find_devices(order: Order) -> dict[tuple[bytes, ...], int]:
    """The device nodes of the tree, by the names that lead to them, and their numbers."""
    base = os.fsencode(order.root)
    return {
        tuple(os.path.relpath(path, base).split(b"/")): facts.st_rdev
        for path, facts in walk_tree(order.root)
        if stat.S_ISCHR(facts.st_mode) or stat.S_ISBLK(facts.st_mode)
    }
