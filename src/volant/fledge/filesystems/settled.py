"""mkfs programs run under settle, so that they see a tree that is the same on every machine (native/settle)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from volant.core.errors import CommandFailed, DiskFull, HostError
from volant.fledge.filesystems.choice import Order
from volant.native import find_native
from volant.run import Completed, run

MKFS_TIMEOUT_S = 3600.0

PACKAGES = {
    "mkfs.erofs": "erofs-utils", "mksquashfs": "squashfs-tools", "mke2fs": "e2fsprogs", "debugfs": "e2fsprogs",
    "mkfs.xfs": "xfsprogs", "xfs_repair": "xfsprogs", "mkfs.btrfs": "btrfs-progs", "unshare": "util-linux",
}  # fmt: skip
"""The Debian package that brings each program."""

_ROOM_MIN_BYTES = 16 * 1024 * 1024


async def run_settled(
    command: Sequence[str | os.PathLike[str]],
    order: Order,
    *,
    earliest_s: int,
    latest_s: int,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Completed:
    """Run a program that reads ``order.root``, under a clock that stands at the image's time.

    Files' times seem to be whole seconds between ``earliest_s`` and ``latest_s``, what the image's format can say. When
    fledge itself runs under fakeroot, so does the program.

    Raises:
        DiskFull: there was no room. HostError: the program is missing or failed, as CommandFailed says it.
        Unavailable: settle is not built.
    """
    latest_s = min(latest_s, order.newest_s)
    library = os.open(find_native("settle"), os.O_RDONLY | os.O_CLOEXEC)
    try:
        # By its descriptor, for the loader cuts LD_PRELOAD at spaces and colons, which its path may have.
        preload = ":".join(filter(None, (f"/proc/self/fd/{library}", os.environ.get("LD_PRELOAD"))))
        return await run_program(
            command,
            order,
            env={
                "LD_PRELOAD": preload,
                "VOLANT_SETTLE_TREE": str(order.root),
                "VOLANT_SETTLE_TIME_S": str(max(latest_s, earliest_s)),
                "VOLANT_SETTLE_EARLIEST_S": str(earliest_s),
                "VOLANT_SETTLE_LATEST_S": str(max(latest_s, earliest_s)),
                "VOLANT_SETTLE_SEED": hashlib.sha256(order.identity.encode()).hexdigest(),
                **(env or {}),
            },
            cwd=cwd,
            pass_fds=(library,),
        )
    finally:
        os.close(library)


async def run_program(
    command: Sequence[str | os.PathLike[str]],
    order: Order,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
) -> Completed:
    """Run a program that makes ``order.target``, with its errors said as ``run_settled`` says them."""
    try:
        return await run(command, timeout_s=MKFS_TIMEOUT_S, env=env, cwd=cwd, pass_fds=(order.lock_fd, *pass_fds))
    except CommandFailed as error:
        if error.exit_status == 127:
            raise report_missing(str(command[0])) from error
        if "No space left" in error.stderr_tail and not has_room(order):
            raise report_full(order) from error
        raise


def create_image(order: Order, size_bytes: int) -> None:
    """An empty target of that size, all hole. Raises OSError."""
    with order.target.open("wb") as image:
        image.truncate(size_bytes)


def has_room(order: Order) -> bool:
    """Whether the disk that holds the target has any to speak of."""
    facts = os.statvfs(order.target.parent)
    return facts.f_bavail * facts.f_frsize >= _ROOM_MIN_BYTES


def report_full(order: Order) -> DiskFull:
    return DiskFull(f"there is no room for {order.target.name}", hint="move the cache with --cache-dir")


def report_missing(program: str) -> HostError:
    package = PACKAGES.get(program, program)
    return HostError(f"{program} is not installed", hint=f"install Debian's package {package}")
