"""Real disks: what mkfs.ext4 makes of them, on real file systems."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from volant.core.errors import DiskFull
from volant.run import run
from volant.volume.disk import MIB, HostDisks


@pytest.fixture
def disks() -> HostDisks:
    return HostDisks()


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[Path]:
    """A file system with room for 256 KiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    directory = tmp_path / "small"
    directory.mkdir()
    await run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", directory], timeout_s=10)
    yield directory
    await run(["umount", directory], timeout_s=10)


async def read_header(path: Path) -> dict[str, str]:
    text = (await run(["dumpe2fs", "-h", path], timeout_s=10)).text
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


@pytest.mark.parametrize(("size_mib", "journal"), [(64, "4096k"), (1024, "16M"), (100 * 1024, "64M")])
async def test_a_disk_is_a_whole_file_system_of_its_size(disks: HostDisks, tmp_path: Path, size_mib: int, journal: str) -> None:
    path = tmp_path / "disk.img"
    await disks.ensure_disk(path, size_mib)
    await run(["e2fsck", "-f", "-n", path], timeout_s=60)
    header = await read_header(path)
    assert int(header["Block count"]) * int(header["Block size"]) == size_mib * MIB
    assert (header["Filesystem volume name"], header["Reserved block count"]) == ("volant", "0")
    assert header["Total journal size"] == journal
    assert path.stat().st_blocks * 512 < 8 * MIB


async def test_a_fresh_disk_leaves_its_guest_nothing_to_initialise(disks: HostDisks, tmp_path: Path) -> None:
    await disks.ensure_disk(tmp_path / "disk.img", 1024)
    groups = (await run(["dumpe2fs", tmp_path / "disk.img"], timeout_s=10)).text
    assert groups.count("ITABLE_ZEROED") == len(re.findall(r"^Group \d+:", groups, re.MULTILINE)) == 8


async def test_the_root_of_the_file_system_is_roots(disks: HostDisks, tmp_path: Path) -> None:
    await disks.ensure_disk(tmp_path / "disk.img", 64)
    stat = (await run(["debugfs", "-R", "stat /", tmp_path / "disk.img"], timeout_s=10)).text
    assert "Mode:  0755" in stat
    assert "User:     0   Group:     0" in stat


async def test_a_path_may_be_long(disks: HostDisks, tmp_path: Path) -> None:
    directory = tmp_path.joinpath(*("d" * 200 for _ in range(10)))
    directory.mkdir(parents=True)
    path = directory / "disk.img"
    await disks.ensure_disk(path, 64)
    os.close(await disks.open_disk(path))
    await disks.remove_disk(path)
    assert list(directory.iterdir()) == []


@pytest.mark.vm
async def test_a_full_disk_is_said_with_numbers_and_keeps_nothing(disks: HostDisks, small: Path) -> None:
    with pytest.raises(DiskFull, match=r"no room for a disk of 1024 MiB at .*: 0 MiB are free"):
        await disks.ensure_disk(small / "disk.img", 1024)
    assert os.listdir(small) == []


async def test_a_copied_disk_is_the_same_and_takes_no_more_room(tmp_path: Path) -> None:
    disks = HostDisks()
    await disks.ensure_disk(tmp_path / "disk.img", 256)
    taken = await disks.copy_disk(tmp_path / "disk.img", tmp_path / "copy.img")
    source, copy = (tmp_path / "disk.img").read_bytes(), (tmp_path / "copy.img").read_bytes()
    assert copy == source
    assert taken <= (tmp_path / "disk.img").stat().st_blocks * 512
    assert (tmp_path / "copy.img").stat().st_mode & 0o777 == 0o600
