"""ext4: no journal, for the guest never writes to it, and the features named here, whatever the host's mke2fs.conf says."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from pathlib import Path

from volant.core.errors import CommandFailed, HostError
from volant.fledge.filesystems.census import BLOCK, Census, read_attributes, take_census
from volant.fledge.filesystems.choice import Order
from volant.fledge.filesystems.settled import create_image, run_settled

EARLIEST_S, LATEST_S = -(1 << 31), (1 << 31) - 1
"""mke2fs 1.47 writes times without the bits that ext4 has for later ones."""

FEATURES = (
    "none", "filetype", "extent", "dir_index", "ext_attr", "sparse_super", "large_file", "huge_file", "dir_nlink", "extra_isize",
    "flex_bg", "64bit",
)  # fmt: skip
"""No metadata_csum: the image's digest covers everything, and for each name that mke2fs adds it checks the sums of the whole
directory again, which for one of 18,000 names takes 28 s of CPU instead of 12."""

INODE_BYTES = 256
RESERVED_INODES = 11
BYTES_PER_FREE_INODE = 16384
GROUP_BLOCKS = 8 * BLOCK
_EXTENTS_IN_INODE, _EXTENTS_IN_BLOCK = 4, 340
_LOST_AND_FOUND_BLOCKS = 4
_PLAIN_NAME = re.compile(r"[A-Za-z0-9._@:+-]+")


def size_ext4(census: Census, buffer_bytes: int) -> tuple[int, int]:
    """How many blocks hold ``census`` and leave ``buffer_bytes`` free, and how many inodes go with them."""
    inodes = census.inodes + RESERVED_INODES + buffer_bytes // BYTES_PER_FREE_INODE
    blocks = (
        census.data_blocks + census.directory_blocks + census.link_blocks + census.attributed + _LOST_AND_FOUND_BLOCKS
        + min(census.fragments // _EXTENTS_IN_INODE, census.inodes) + census.fragments // _EXTENTS_IN_BLOCK
        + -(-inodes * INODE_BYTES // BLOCK) + buffer_bytes // BLOCK
    )  # fmt: skip
    groups = -(-blocks // GROUP_BLOCKS) + 1
    descriptors = -(-groups * 64 // BLOCK)
    # Each group has two bitmaps and part of the inode table, which is rounded up to whole blocks; some have the superblock again.
    return blocks + groups * 4 + descriptors * (groups // 2 + 1) + 16, inodes


async def make_ext4(order: Order) -> None:
    """A symbolic link with several names becomes several links: mke2fs knows hard links of everything but these.

    Raises:
        HostError: mke2fs failed, or the root directory has an attribute whose name debugfs cannot be told.
    """
    census = await asyncio.to_thread(take_census, order.root)
    blocks, inodes = size_ext4(census, order.choice.buffer_bytes(census.data_blocks * BLOCK))
    await asyncio.to_thread(create_image, order, blocks * BLOCK)
    try:
        await run_settled(
            ["mke2fs", "-q", "-F", "-t", "ext4", "-b", str(BLOCK), "-I", str(INODE_BYTES), "-N", str(inodes), "-m", "0",
             "-O", ",".join(FEATURES), "-U", order.uuid,
             "-E", f"hash_seed={order.uuid},lazy_itable_init=0,nodiscard,root_owner=0:0",
             "-d", order.root, order.target],
            order, earliest_s=EARLIEST_S, latest_s=LATEST_S, env={"MKE2FS_CONFIG": "/dev/null"},
        )  # fmt: skip
    except CommandFailed as error:
        if "Could not allocate" in error.stderr_tail:
            raise HostError(
                f"the tree needs more room than {blocks * BLOCK} bytes: {error}", hint="raise filesystem.size_buffer_mb"
            ) from error
        if "Insufficient space to store extended attribute" in error.stderr_tail:
            file = re.search(r'setting xattrs for "(.*)"', error.stderr_tail)
            # ext4 has inodes for larger ones, but what mke2fs 1.47 makes of them e2fsck does not accept.
            raise HostError(
                f"the attributes of a file{f', {file[1]},' if file else ''} do not fit into the one block that ext4 has for them",
                hint='choose another filesystem.type, "erofs" for one',
            ) from error
        raise
    with tempfile.TemporaryDirectory(dir=order.target.parent) as scratch:
        commands = await asyncio.to_thread(_write_commands, order, Path(scratch))
        done = await run_settled(
            ["debugfs", "-w", "-f", commands, order.target], order,
            earliest_s=EARLIEST_S, latest_s=LATEST_S, cwd=Path(scratch),
        )  # fmt: skip
    # debugfs ends with 0 whatever happens; its first line is its version.
    complaints = [line for line in done.stderr.decode("utf-8", "replace").splitlines()[1:] if line.strip()]
    if complaints:
        raise HostError(f"the root directory of {order.target.name} cannot be completed: {complaints[0]}")


def _write_commands(order: Order, scratch: Path) -> Path:
    """What mke2fs leaves out: the root directory's own facts; and its lost+found, of no use in what is never repaired."""
    facts = order.root.lstat()
    time_s = min(max(min(facts.st_mtime_ns // 10**9, order.newest_s), EARLIEST_S), LATEST_S)
    commands = [] if os.path.lexists(order.root / "lost+found") else ["rmdir lost+found"]
    commands += [
        f"sif <2> mode 0{facts.st_mode:o}",
        f"sif <2> uid {facts.st_uid}",
        f"sif <2> gid {facts.st_gid}",
        *(f"sif <2> {name} @{time_s}" for name in ("mtime", "atime", "ctime", "crtime")),
    ]
    for index, (name, value) in enumerate(read_attributes(order.root).items()):
        if not _PLAIN_NAME.fullmatch(name):
            raise HostError(
                f"debugfs cannot give the root directory its attribute {name!r}",
                hint='remove the attribute, or choose another filesystem.type, "erofs" for one',
            )
        (scratch / str(index)).write_bytes(value)
        commands.append(f"ea_set -f {index} <2> {name}")
    path = scratch / "commands"
    path.write_text("".join(f"{command}\n" for command in commands))
    return path
