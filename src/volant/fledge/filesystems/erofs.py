"""erofs: read-only, compressed, and fast to make and to read."""

from __future__ import annotations

import asyncio
import os

from volant.core.errors import CommandFailed, HostError
from volant.fledge.filesystems.census import walk_tree
from volant.fledge.filesystems.choice import Order
from volant.fledge.filesystems.settled import report_full, run_settled

NAME_MAX = 255
LATEST_S = (1 << 63) - 1


async def make_erofs(order: Order) -> None:
    """Raises HostError, which says so when a name is too long for this mkfs.erofs."""
    choice = order.choice
    compression = [] if choice.compressor == "none" else [f"-z{choice.compressor}"]
    if compression and choice.compression_level is not None:
        compression = [f"{compression[0]},{choice.compression_level}"]
    try:
        # With SOURCE_DATE_EPOCH times are kept up to that time, and it is the file system's own.
        await run_settled(
            ["mkfs.erofs", "--quiet", *compression, "-U", order.uuid, order.target, order.root], order,
            earliest_s=0, latest_s=LATEST_S, env={"SOURCE_DATE_EPOCH": str(order.newest_s)},
        )  # fmt: skip
    except CommandFailed as error:
        if "No space left" in error.stderr_tail:
            raise report_full(order) from error
        long_name = await asyncio.to_thread(_find_longest_name, order)
        if long_name is not None:
            raise HostError(
                f"the image has a file whose name is 255 bytes long, {long_name[:40]}…: this mkfs.erofs takes 254",
                hint="shorten the name, install a newer erofs-utils, or choose another filesystem.type",
            ) from error
        raise


def _find_longest_name(order: Order) -> str | None:
    """A name of 255 bytes, the most that Linux has: erofs-utils 1.5 cuts it and then fails to find the file."""
    for path, _ in walk_tree(order.root):
        name = path.rpartition(b"/")[2]
        if len(name) >= NAME_MAX:
            return os.fsdecode(name)
    return None
