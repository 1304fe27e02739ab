"""xfs: made by mounting it and copying the tree, for mkfs.xfs 6.1 loses hard links, attributes, times and names with spaces."""

from __future__ import annotations

import asyncio
import os
import tempfile

from volant.core.errors import CommandFailed, HostError
from volant.fledge.filesystems.census import BLOCK, Census, take_census
from volant.fledge.filesystems.choice import MIB, Order
from volant.fledge.filesystems.settled import create_image, has_room, report_full, run_program

SIZE_MIN_BYTES = 320 * MIB
"""mkfs.xfs refuses less than 300 MB."""

LOG_BYTES = 64 * MIB
INODE_BYTES = 512

_COPY = """
set -eu
mount -t xfs -o loop,nouuid,nodiscard "$1" "$2"
cp -RP --preserve=mode,ownership,timestamps,links,xattr --sparse=always --reflink=never -- "$3/." "$2/"
sync -f "$2"
umount "$2"
"""
"""In a mount namespace of its own: whatever ends the shell takes the mount and its loop device with it. sync says what could not
be written, which umount does not."""


def size_xfs(census: Census, buffer_bytes: int) -> int:
    """Bytes of an image that holds ``census`` and leaves ``buffer_bytes`` free."""
    blocks = census.data_blocks + 2 * census.directory_blocks + census.link_blocks + census.attributed + census.fragments // 128
    content = blocks * BLOCK + census.attribute_bytes + census.inodes * INODE_BYTES
    return max(SIZE_MIN_BYTES, -(-(content + content // 20 + LOG_BYTES + 8 * MIB + buffer_bytes) // MIB) * MIB)


async def make_xfs(order: Order) -> None:
    """The content is the tree's, its bytes are not the same twice: see ``REPEATABLE``.

    Raises:
        HostError: who builds may not mount, the kernel has no xfs, or a program failed. DiskFull: there was no room.
    """
    if os.geteuid() != 0:
        raise HostError("an xfs image is made by mounting it, which only root may", hint="run fledge with sudo, or choose erofs")
    census = await asyncio.to_thread(take_census, order.root)
    size_bytes = size_xfs(census, order.choice.buffer_bytes(census.data_blocks * BLOCK))
    await asyncio.to_thread(create_image, order, size_bytes)
    await run_program(
        ["mkfs.xfs", "-q", "-f", "-K", "-b", f"size={BLOCK}",
         "-m", f"crc=1,uuid={order.uuid},finobt=1,inobtcount=1,bigtime=1,reflink=0,rmapbt=0",
         "-i", f"size={INODE_BYTES},sparse=1,nrext64=0,maxpct=0", "-n", "size=4096,ftype=1",
         "-l", f"internal=1,size={LOG_BYTES},lazy-count=1", order.target],
        order,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(dir=order.target.parent) as mount:
        try:
            await run_program(
                ["unshare", "--mount", "--propagation", "private", "sh", "-c", _COPY, "sh", order.target, mount, order.root],
                order,
            )
        except CommandFailed as error:
            raise _explain(order, error) from error
    try:
        await run_program(["xfs_repair", "-n", "-f", order.target], order)
    except CommandFailed as error:
        if not has_room(order):
            raise report_full(order) from error
        raise HostError(
            f"{order.target.name} was not written whole: {error}", hint="look for errors of the disk in dmesg"
        ) from error


def _explain(order: Order, error: CommandFailed) -> HostError:
    if not has_room(order):
        return report_full(order)
    if "mount:" in error.stderr_tail:
        return HostError(
            f"an xfs image cannot be mounted here: {error}",
            hint="load the kernel's modules xfs and loop, or choose another filesystem.type",
        )
    if "No space left" in error.stderr_tail:
        return HostError(f"the tree did not fit into {order.target.name}: {error}", hint="raise filesystem.size_buffer_mb")
    lost = [line for line in error.stderr_tail.splitlines() if line.startswith("cp: ")]
    if lost:
        # The links longer than 1024 bytes and the device numbers above 14 and 18 bits among them.
        return HostError(
            f"xfs did not take a file of the tree: {lost[0].removeprefix('cp: ')}", hint="choose another filesystem.type"
        )
    return error
