"""A tree as each file system: nothing of it is lost, and the same tree is the same bytes wherever and by whom it is written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import volant
from volant.core.errors import DiskFull, HostError, InvalidInput
from volant.fledge.filesystems.btrfs_inodes import sum_crc32c
from volant.fledge.filesystems.census import take_census
from volant.fledge.filesystems.make import (
    REPEATABLE,
    FilesystemChoice,
    check_choice,
    make_filesystem,
    read_tool_version,
    settle_tree,
)
from volant.native import find_native

from .nasty_tree import ACL, list_tree, make_nasty_tree

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
pytestmark = pytest.mark.spawns

NEWEST_S = 1600000000
ALL = ("erofs", "squashfs", "ext4", "xfs", "btrfs")
MKFS = {"erofs": "mkfs.erofs", "squashfs": "mksquashfs", "ext4": "mke2fs", "xfs": "mkfs.xfs", "btrfs": "mkfs.btrfs"}
CHECKS = {"ext4": ["e2fsck", "-fn"], "xfs": ["xfs_repair", "-n", "-f"], "btrfs": ["btrfs", "check"]}
HERE = Path(__file__).parent
SEARCHED = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def skip_without(kind: str) -> None:
    if shutil.which(MKFS[kind], path=SEARCHED) is None:
        pytest.skip(f"needs {MKFS[kind]}")


def make_tree_for(kind: str, root: Path, seed: int) -> Path:
    return make_nasty_tree(root, seed, with_acl=kind != "squashfs", with_root_attribute=kind != "btrfs")


async def write_image(kind: str, root: Path, target: Path, **choice: Any) -> Path:
    with target.open("ab") as lock:
        await make_filesystem(
            FilesystemChoice(type=kind, **choice),  # type: ignore[arg-type]  # a str is one of the types here
            root, target, identity="a root", newest_s=NEWEST_S, lock_fd=lock.fileno(),
        )  # fmt: skip
    return target


def run_tool(*words: str | Path) -> str:
    done = subprocess.run(words, env={"PATH": SEARCHED, "LC_ALL": "C.UTF-8"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def list_image(kind: str, image: Path, mount: Path) -> dict[str, Any]:
    """What a guest would see, mounted in a mount namespace that ends with the program that reads it."""
    mount.mkdir()
    script = 'mount -t "$1" -o loop,ro "$2" "$3" && exec "$4" "$5" list "$3"'
    words = [kind, image, mount, sys.executable, HERE / "nasty_tree.py"]
    listed = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *words], capture_output=True, check=False
    )
    if b"unknown filesystem type" in listed.stderr:
        pytest.skip(f"this kernel has no {kind}")
    assert listed.returncode == 0, listed.stderr
    found: dict[str, Any] = json.loads(listed.stdout)
    return found


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A directory on another file system than the tests' own."""
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("needs /dev/shm")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        yield Path(path)


@needs_root
@pytest.mark.parametrize("kind", ALL)
async def test_nothing_of_a_tree_is_lost(kind: str, tmp_path: Path) -> None:
    skip_without(kind)
    tree = make_tree_for(kind, tmp_path / "tree", 1)

    image = await write_image(kind, tree, tmp_path / "image")

    if kind in CHECKS:
        run_tool(*CHECKS[kind], image)
    assert list_image(kind, image, tmp_path / "mount") == list_tree(tree)


@needs_root
@pytest.mark.parametrize("kind", sorted(REPEATABLE))
async def test_the_same_tree_is_the_same_bytes_on_another_file_system(kind: str, tmp_path: Path, elsewhere: Path) -> None:
    skip_without(kind)
    here = await write_image(kind, make_tree_for(kind, tmp_path / "tree", 1), tmp_path / "image")
    there = await write_image(kind, make_tree_for(kind, elsewhere / "another", 2), elsewhere / "image")

    assert here.stat().st_size == there.stat().st_size
    assert here.read_bytes() == there.read_bytes()


@needs_root
@pytest.mark.parametrize("kind", ["erofs", "squashfs", "ext4"])
async def test_an_unprivileged_user_under_fakeroot_makes_the_same_bytes(kind: str, tmp_path: Path, elsewhere: Path) -> None:
    skip_without(kind)
    if not (shutil.which("fakeroot") and shutil.which("setpriv")):
        pytest.skip("needs fakeroot and setpriv")
    tree = make_nasty_tree(tmp_path / "tree", 1, with_acl=False, with_root_attribute=False)
    expected = await write_image(kind, tree, tmp_path / "image")

    copy_product(elsewhere)
    packages = next(Path(path) for path in sys.path if (Path(path) / "msgspec").is_dir())
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]
    environment = {
        "PATH": SEARCHED, "PYTHONPATH": f"{elsewhere}:{packages}", "VOLANT_SETTLE": str(elsewhere / "settle"),
        "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8",
    }  # fmt: skip
    python = next(
        (path for path in (sys.executable, "/usr/bin/python3") if can_import([*nobody, "env", path], environment)), None
    )
    if python is None:
        pytest.skip("no Python that another user may run has what volant needs")
    script = '"$1" "$2/nasty_tree.py" make "$2/tree" 2 && "$1" "$2/write_image.py" "$3" "$2/tree" "$2/image"'
    run_tool(*nobody, "env", *(f"{name}={value}" for name, value in environment.items()), "fakeroot",
             "sh", "-c", script, "sh", python, elsewhere, kind)  # fmt: skip

    assert (elsewhere / "image").stat().st_uid == 65534
    assert (elsewhere / "image").read_bytes() == expected.read_bytes()


WRITE_IMAGE = f"""
import asyncio, pathlib, sys
from volant.fledge.filesystems.make import FilesystemChoice, make_filesystem
kind, root, target = sys.argv[1:]
asyncio.run(make_filesystem(FilesystemChoice(type=kind), pathlib.Path(root), pathlib.Path(target),
                            identity="a root", newest_s={NEWEST_S}, lock_fd=1))
"""


def copy_product(target: Path) -> None:
    """Where any user may read it: a checkout may lie in somebody's home."""
    target.chmod(0o777)
    shutil.copytree(Path(volant.__file__).parent, target / "volant", ignore=shutil.ignore_patterns("__pycache__", "_native"))
    shutil.copy(find_native("settle"), target / "settle")
    shutil.copy(HERE / "nasty_tree.py", target / "nasty_tree.py")
    (target / "write_image.py").write_text(WRITE_IMAGE)


def can_import(command: list[str], environment: dict[str, str]) -> bool:
    done = subprocess.run(
        [*command, "-c", "import volant.fledge.filesystems.make"], env=environment, capture_output=True, check=False
    )
    return done.returncode == 0


@needs_root
@pytest.mark.parametrize(
    ("kind", "choice"),
    [
        ("squashfs", {"compression": "xz", "compression_level": 20}),
        ("squashfs", {"compression": "gzip", "compression_level": 0}),
        ("squashfs", {"compression_level": 22}), ("squashfs", {"compression": "none"}), ("squashfs", {"compression": "lz4"}),
        ("squashfs", {"compression": "lzo"}), ("erofs", {"compression": "none"}),
        ("erofs", {"compression": "lz4hc", "compression_level": 9}),
    ],
)  # fmt: skip
async def test_each_compression_makes_an_image_of_its_own_that_holds_the_same(
    kind: str, choice: dict[str, Any], tmp_path: Path
) -> None:
    skip_without(kind)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "text").write_bytes(b"".join(path.read_bytes() for path in sorted(HERE.glob("*.py"))))
    os.utime(tree / "text", (900, 900))
    usual = await write_image(kind, tree, tmp_path / "usual")

    image = await write_image(kind, tree, tmp_path / "image", **choice)

    assert image.read_bytes() != usual.read_bytes()
    assert (list_image(kind, image, tmp_path / "mount")["text"]) == list_tree(tree)["text"]


async def test_times_that_an_image_cannot_say_become_the_nearest_that_it_can(tmp_path: Path) -> None:
    skip_without("ext4")
    tree = tmp_path / "tree"
    tree.mkdir()
    for name, time_s in (("ancient", -(1 << 33)), ("now", NEWEST_S), ("later", NEWEST_S + 5)):
        (tree / name).touch()
        os.utime(tree / name, ns=(0, time_s * 10**9 + 5))

    image = await write_image("ext4", tree, tmp_path / "image")

    shown = [run_tool("debugfs", "-R", f"stat {name}", image) for name in ("ancient", "now", "later")]
    assert "mtime: 0x80000000" in shown[0]
    assert all(f"mtime: 0x{NEWEST_S:08x}:00000000" in text for text in shown[1:])


async def test_ext4_leaves_as_much_room_as_is_asked_for_and_little_more(tmp_path: Path) -> None:
    skip_without("ext4")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "data").write_bytes(os.urandom(20 << 20))
    for name, buffer_mb, wanted_mb in (("default", 0, 64), ("small", 1, 1), ("large", 200, 200)):
        image = await write_image("ext4", tree, tmp_path / name, size_buffer_mb=buffer_mb)
        told = run_tool("dumpe2fs", "-h", image)
        facts = dict(line.split(":", 1) for line in told.splitlines() if ":" in line)
        free_bytes = int(facts["Free blocks"]) * 4096
        assert wanted_mb << 20 <= free_bytes <= (wanted_mb << 20) + (1 << 20)


async def test_holes_do_not_count_whether_they_are_holes_or_zeros(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    with (tree / "file").open("wb") as file:
        file.truncate(8 << 20)
        file.seek(4 << 20)
        file.write(b"data")
    with_holes = take_census(tree)
    (tree / "file").write_bytes((tree / "file").read_bytes())

    assert take_census(tree) == with_holes
    assert with_holes.data_blocks == 1


@pytest.mark.parametrize("kind", ["ext4", "btrfs"])
async def test_preallocated_images_have_no_holes_and_the_same_bytes(kind: str, tmp_path: Path) -> None:
    skip_without(kind)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(b"content")
    sparse = await write_image(kind, tree, tmp_path / "sparse", size_buffer_mb=4)

    full = await write_image(kind, tree, tmp_path / "full", size_buffer_mb=4, preallocate=True)

    assert sparse.stat().st_blocks * 512 < sparse.stat().st_size
    assert full.stat().st_blocks * 512 >= full.stat().st_size
    assert full.read_bytes() == sparse.read_bytes()


@needs_root
@pytest.mark.parametrize(
    ("kind", "attribute", "on", "said"),
    [
        ("squashfs", "system.posix_acl_access", "file", "squashfs cannot hold the attribute system.posix_acl_access of '/file'"),
        ("btrfs", "user.x", ".", "cannot give the root directory its attribute user.x"),
    ],
)
async def test_what_a_file_system_cannot_hold_is_said_and_not_lost(
    kind: str, attribute: str, on: str, said: str, tmp_path: Path
) -> None:
    skip_without(kind)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").touch()
    os.setxattr(tree / on, attribute, ACL)

    with pytest.raises(HostError) as caught:
        await write_image(kind, tree, tmp_path / "image")

    assert said in caught.value.message
    assert caught.value.hint is not None


@needs_root
async def test_attributes_too_many_for_ext4_are_named(tmp_path: Path, elsewhere: Path) -> None:
    skip_without("ext4")
    (elsewhere / "tree").mkdir()
    (elsewhere / "tree" / "file").touch()
    os.setxattr(elsewhere / "tree" / "file", "trusted.large", os.urandom(5000))

    with pytest.raises(HostError, match="attributes of a file, file, do not fit"):
        await write_image("ext4", elsewhere / "tree", tmp_path / "image")


@needs_root
async def test_a_link_too_long_for_xfs_is_named(tmp_path: Path) -> None:
    skip_without("xfs")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "link").symlink_to("t" * 2000)

    with pytest.raises(HostError, match=r"xfs did not take a file of the tree.*link"):
        await write_image("xfs", tree, tmp_path / "image")


@needs_root
@pytest.mark.parametrize("kind", ALL)
async def test_a_full_disk_is_said_to_be_full(kind: str, tmp_path: Path) -> None:
    skip_without(kind)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "noise").write_bytes(os.urandom(8 << 20))
    small = tmp_path / "small"
    small.mkdir()
    run_tool("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small)
    try:
        with pytest.raises(DiskFull) as caught:
            await write_image(kind, tree, small / "image")
    finally:
        run_tool("umount", small)

    assert "no room for image" in caught.value.message


@pytest.mark.parametrize("kind", ALL)
async def test_a_program_that_is_missing_is_named_with_its_package(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("volant.run.SYSTEM_PATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(HostError, match=f"{MKFS[kind]} is not installed") as caught:
        await read_tool_version(FilesystemChoice(type=kind))  # type: ignore[arg-type]  # a str is one of the types here

    assert caught.value.hint is not None
    assert "Debian's package" in caught.value.hint


@pytest.mark.parametrize("kind", ALL)
async def test_the_version_of_each_program_is_read(kind: str) -> None:
    skip_without(kind)
    version = await read_tool_version(FilesystemChoice(type=kind))  # type: ignore[arg-type]  # a str is one of the types here

    assert any(digit in version for digit in "0123456789")
    assert "\n" not in version


@pytest.mark.parametrize(
    ("choice", "field"),
    [
        ({"type": "zfs"}, "type"), ({"type": "ext4", "compression": "lz4"}, "compression"),
        ({"type": "btrfs", "compression": "zstd"}, "compression"), ({"type": "erofs", "compression": "xz"}, "compression"),
        ({"type": "erofs", "compression_level": 3}, "compression_level"),
        ({"type": "squashfs", "compression_level": 23}, "compression_level"),
        ({"type": "squashfs", "compression": "gzip", "compression_level": 10}, "compression_level"),
        ({"type": "ext4", "size_buffer_mb": -1}, "size_buffer_mb"), ({"type": "squashfs", "size_buffer_mb": 1}, "size_buffer_mb"),
        ({"type": "erofs", "preallocate": True}, "preallocate"),
    ],
)  # fmt: skip
def test_a_choice_that_cannot_be_names_its_field(choice: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_choice(FilesystemChoice(**choice))

    assert caught.value.field == f"filesystem.{field}"


def test_what_is_newer_than_the_limit_gets_the_fixed_time(tmp_path: Path) -> None:
    for name, time_s in ((b"old", 100), (b"new\xff", 300)):
        path = os.path.join(os.fsencode(tmp_path), name)
        with open(path, "wb"):
            pass
        os.utime(path, (time_s, time_s))
    os.utime(tmp_path, (100, 100))

    assert settle_tree(tmp_path, 200 * 10**9, 150) == 150
    assert sorted(int(path.stat().st_mtime) for path in tmp_path.iterdir()) == [100, 150]


def test_crc32c_is_the_one_of_the_standard() -> None:
    # RFC 3720, appendix B.4: 32 bytes of zeros, and of 0 to 31.
    assert sum_crc32c(bytes(32)) == 0x8A9136AA
    assert sum_crc32c(bytes(range(32))) == 0x46DD794E
