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


async def test_a_blank_disk_has_nothing_on_it_and_grows(tmp_path: Path) -> None:
    disks = HostDisks(never_format, durable=False)
    path = tmp_path / "blank.img"
    await disks.ensure_blank(path, 2)
    assert path.read_bytes() == bytes(2 * 1024 * 1024) and path.stat().st_blocks == 0
    path.write_bytes(b"mine" + bytes(2 * 1024 * 1024 - 4))
    await disks.ensure_blank(path, 4)
    assert path.stat().st_size == 4 * 1024 * 1024 and path.read_bytes()[:4] == b"mine"


async def never_format(path: Path) -> None:
    raise AssertionError("a blank disk is formatted")


@pytest.mark.parametrize(("size_mib", "wanted"), [(None, 5000), (1, 1024 * 1024)])
async def test_a_copy_is_made_once_and_then_left_alone(tmp_path: Path, size_mib: int | None, wanted: int) -> None:
    source, path = tmp_path / "source", tmp_path / "own.img"
    source.write_bytes(b"x" * 5000)
    disks = HostDisks(never_format, durable=False)
    for _ in range(2):
        descriptor = os.open(source, os.O_RDONLY)
        try:
            await disks.ensure_copy(descriptor, path, size_mib)
        finally:
            os.close(descriptor)
        assert path.stat().st_size == wanted and path.stat().st_mode & 0o777 == 0o600
        assert path.read_bytes()[:5000] in (b"x" * 5000, b"mine" + b"x" * 4996)
        with path.open("r+b") as file:
            file.write(b"mine")
    assert path.read_bytes()[:4] == b"mine" and source.read_bytes() == b"x" * 5000


@pytest.mark.parametrize("step", ["copy", "rename"])
async def test_a_copy_that_fails_leaves_no_half_of_a_disk(tmp_path: Path, step: str) -> None:
    def fail(name: str) -> None:
        if name == step:
            raise OSError(errno.ENOSPC, "full")

    source = tmp_path / "source"
    source.write_bytes(b"x" * 5000)
    descriptor = os.open(source, os.O_RDONLY)
    try:
        with pytest.raises(DiskFull):
            await HostDisks(never_format, durable=False, before=fail).ensure_copy(descriptor, tmp_path / "own.img", None)
    finally:
        os.close(descriptor)
    assert os.listdir(tmp_path) == ["source"]
