"""Making a disk, without making a file system: what is left when a step fails, and what is refused."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from volant.core.errors import CommandFailed, DiskFull, HostError, InvalidInput, NotFound, VolantError
from volant.volume.disk import MIB, HostDisks
from volant.volume.simulated import SimulatedDisks, make_nothing

STEPS = ("create", "format", "sync", "rename")


class Crash(BaseException):
    """Ends a step as nothing that is caught would."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "disk.img"


def crash_at(step: str, error: BaseException | None = None) -> Callable[[str], None]:
    def before(found: str) -> None:
        if found == step:
            raise error or Crash

    return before


def fail_with(error: Exception) -> Callable[[Path], Awaitable[None]]:
    async def make_filesystem(path: Path) -> None:
        raise error

    return make_filesystem


@pytest.mark.parametrize("step", STEPS)
async def test_a_failure_at_any_step_leaves_nothing_and_the_next_try_succeeds(path: Path, step: str) -> None:
    disks = HostDisks(make_nothing, before=crash_at(step))
    with pytest.raises(Crash):
        await disks.ensure_disk(path, 1)
    assert list(path.parent.iterdir()) == []
    disks.before = lambda step: None
    await disks.ensure_disk(path, 1)
    assert list(path.parent.iterdir()) == [path]


async def test_every_step_is_told_and_none_when_the_disk_is_there(path: Path) -> None:
    steps: list[str] = []
    disks = HostDisks(make_nothing, before=steps.append)
    await disks.ensure_disk(path, 1)
    assert tuple(steps) == STEPS
    await disks.ensure_disk(path, 1)
    assert tuple(steps) == STEPS


async def test_what_a_killed_one_left_is_cleared_away(path: Path) -> None:
    left = path.with_name(".disk.img.new")
    for half_made in (b"", b"half a file system"):
        left.write_bytes(half_made)
        await SimulatedDisks().ensure_disk(path, 1)
        assert list(path.parent.iterdir()) == [path]
        assert os.stat(path).st_size == MIB
        left.write_bytes(half_made)
        await SimulatedDisks().remove_disk(path)
        assert list(path.parent.iterdir()) == []


async def test_a_disk_grows_and_does_not_shrink(path: Path) -> None:
    disks = SimulatedDisks()
    await disks.ensure_disk(path, 2)
    with path.open("r+b") as stream:
        stream.write(b"what the guest wrote")
    await disks.ensure_disk(path, 3)
    with pytest.raises(InvalidInput, match="3 MiB and cannot shrink to 2") as refused:
        await disks.ensure_disk(path, 2)
    assert refused.value.field == "disk_mb"
    assert os.stat(path).st_size == 3 * MIB
    descriptor = await disks.open_disk(path)
    assert os.read(descriptor, 20) == b"what the guest wrote"
    os.close(descriptor)


@pytest.mark.parametrize(
    ("error", "raised", "said"),
    [
        (OSError(errno.ENOSPC, "no"), DiskFull, r"1 MiB at .*disk\.img: \d+ MiB are free"),
        (OSError(errno.EDQUOT, "no"), DiskFull, "are free"),
        (OSError(errno.EFBIG, "no"), HostError, "takes no file of 1 MiB"),
        (OSError(errno.EIO, "Input/output error"), HostError, "Input/output error"),
        (CommandFailed(("mkfs.ext4",), 1, "mkfs.ext4: No space left on device while writing"), DiskFull, "are free"),
        (CommandFailed(("mkfs.ext4",), 127, "no such file"), HostError, "not installed"),
    ],
)
async def test_what_the_host_refuses_is_said(path: Path, error: Exception, raised: type[VolantError], said: str) -> None:
    with pytest.raises(raised, match=said):
        await HostDisks(fail_with(error)).ensure_disk(path, 1)
    assert list(path.parent.iterdir()) == []


async def test_a_directory_that_is_not_there_is_the_hosts_error(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="No such file"):
        await SimulatedDisks().ensure_disk(tmp_path / "gone" / "disk.img", 1)


@pytest.mark.parametrize("size_mib", [0, -1])
async def test_a_disk_has_a_size(path: Path, size_mib: int) -> None:
    with pytest.raises(InvalidInput):
        await SimulatedDisks().ensure_disk(path, size_mib)


async def test_a_disk_is_roots_alone_and_takes_no_room(path: Path) -> None:
    await SimulatedDisks().ensure_disk(path, 1024)
    found = os.stat(path)
    assert (found.st_mode & 0o7777, found.st_size, found.st_blocks) == (0o600, 1024 * MIB, 0)


async def test_a_disk_is_opened_for_writing_and_not_inherited(path: Path) -> None:
    disks = SimulatedDisks()
    await disks.ensure_disk(path, 1)
    descriptor = await disks.open_disk(path)
    try:
        assert os.pwrite(descriptor, b"x", 0) == 1
        assert not os.get_inheritable(descriptor)
    finally:
        os.close(descriptor)


async def test_a_disk_that_is_not_there_is_not_opened_and_removed_without_complaint(path: Path) -> None:
    with pytest.raises(NotFound):
        await SimulatedDisks().open_disk(path)
    await SimulatedDisks().remove_disk(path)


async def test_a_link_in_the_disks_place_is_not_followed(path: Path, tmp_path: Path) -> None:
    await SimulatedDisks().ensure_disk(tmp_path / "elsewhere", 1)
    os.symlink(tmp_path / "elsewhere", path)
    with pytest.raises(HostError):
        await SimulatedDisks().open_disk(path)
