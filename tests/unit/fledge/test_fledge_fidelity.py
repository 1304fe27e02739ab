"""An image with everything that is easily lost: unpacked by itself, and all the way to what a guest would mount."""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from volant.core.errors import VolantError
from volant.core.ids import Digest
from volant.fledge.cache import Cache
from volant.fledge.filesystems.choice import FilesystemChoice
from volant.fledge.filesystems.make import make_filesystem, settle_tree
from volant.fledge.layers.budget import UnpackLimits
from volant.fledge.layers.unpack import unpack_layers
from volant.fledge.progress import Progress
from volant.fledge.recipe.mapping import read_mappings
from volant.fledge.recipe.read import parse_recipe
from volant.fledge.recipe.record import Recipe
from volant.fledge.rootfs import RootRecord, choose_filesystem, open_root
from volant.fledge.source import image as image_material
from volant.fledge.source.material import open_material
from volant.fledge.source.oci import read_image
from volant.fledge.workshop import make_workshop

from .oci_layouts import LayoutWriter, make_entry, make_layer, write_archive

pytestmark = [
    pytest.mark.spawns,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away"),
    pytest.mark.skipif(not shutil.which("mkfs.erofs"), reason="needs erofs-utils"),
]

CREATED_S = 1577836800
"""2020-01-01, when the images of LayoutWriter say that they were made."""

LONG = "n" * 254
DEEP = "/".join(["deep" * 10] * 20)
NOT_UTF8 = b"caf\xe9".decode("utf-8", "surrogateescape")
# cap_net_bind_service=ep, as the kernel keeps it (linux/capability.h, revision 2).
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")

LOWER = [
    make_entry("bin", kind=tarfile.DIRTYPE, mode=0o755),
    make_entry("bin/su", b"set-user-id", mode=0o4755),
    make_entry("bin/mail", b"set-group-id", mode=0o2755, gid=8),
    make_entry("bin/ping", b"capable", mode=0o755, xattrs={"security.capability": CAPABILITY, "user.note": b"kept"}),
    make_entry("bin/far", b"far away", uid=70000, gid=4000000000),
    make_entry("bin/one", b"one of three", mtime=1234567890),
    make_entry("bin/two", kind=tarfile.LNKTYPE, linkname="bin/one"),
    make_entry("etc/three", kind=tarfile.LNKTYPE, linkname="bin/one"),
    make_entry("etc/link", kind=tarfile.SYMTYPE, linkname="../../../bin/one", uid=5),
    make_entry("dev/console", kind=tarfile.CHRTYPE, mode=0o600, devmajor=5, devminor=1),
    make_entry("dev/disk", kind=tarfile.BLKTYPE, mode=0o660, devmajor=254, devminor=3),
    make_entry("run/pipe", kind=tarfile.FIFOTYPE, mode=0o600),
    make_entry("tmp", kind=tarfile.DIRTYPE, mode=0o1777),
    make_entry(LONG, b"long name"),
    make_entry(f"{DEEP}/leaf", b"long path"),
    make_entry(NOT_UTF8, b"not utf-8"),
    make_entry("sparse", bytes(3 << 20) + b"end"),
    make_entry("gone/file", b"deleted above"),
    make_entry("gone-directory/inside/file", b"deleted above"),
    make_entry("opaque/old", b"hidden above"),
    make_entry("opaque/nested/old", b"hidden above"),
    make_entry("replaced/file", b"a directory that becomes a file"),
    make_entry("becomes-directory", b"a file that becomes a directory"),
    make_entry("kept/below", b"below"),
]
UPPER = [
    make_entry("gone/.wh.file"),
    make_entry(".wh.gone-directory"),
    make_entry("opaque/.wh..wh..opq"),
    make_entry("opaque/new", b"new"),
    make_entry("replaced", b"now a file"),
    make_entry("becomes-directory", kind=tarfile.DIRTYPE, mode=0o700),
    make_entry("becomes-directory/file", b"inside"),
    make_entry("kept/above", b"above"),
    make_entry("future", b"made after the image", mtime=CREATED_S + 10**8),
]

LISTER = """
import base64, json, os, subprocess, sys
tree, kind, image = sys.argv[1:]
if image:
    subprocess.run(["mount", "-t", kind, "-o", "ro,loop", image, tree], check=True)
found = {}
for directory, names, files in os.walk(tree):
    for name in [*names, *files]:
        path = os.path.join(directory, name)
        facts = os.lstat(path)
        content = None
        if os.path.islink(path):
            content = os.readlink(path)
        elif os.path.isfile(path):
            content = base64.b64encode(open(path, "rb").read()).decode()
        found[os.path.relpath(path, tree)] = {
            "mode": facts.st_mode, "uid": facts.st_uid, "gid": facts.st_gid, "mtime": facts.st_mtime, "links": facts.st_nlink,
            "inode": facts.st_ino, "rdev": facts.st_rdev, "content": content,
            "xattrs": {a: os.getxattr(path, a, follow_symlinks=False).hex() for a in os.listxattr(path, follow_symlinks=False)},
        }
print(json.dumps(found))
"""

Listing = dict[str, dict[str, Any]]


def list_tree(tree: Path, kind: str = "", image: str | Path = "") -> Listing:
    """Everything in a tree, or in an image mounted there, in a mount namespace that ends with the program that reads it."""
    tree.mkdir(exist_ok=True)
    listed = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", LISTER, tree, kind, image],
        capture_output=True,
        check=True,
    )
    found: Listing = json.loads(listed.stdout)
    return found


def find_files(directory: Path, name: str) -> list[Path]:
    return list(directory.rglob(name))


def make_recipe(image: str, extra: str = "") -> Recipe:
    return parse_recipe(f'version = "1"\nstrategy = "oci_rootfs"\n[source]\nimage = "{image}"\n{extra}')


def make_nasty_layout(path: Path) -> None:
    layout = LayoutWriter(path)
    layout.tag(layout.make_image([make_layer(LOWER), make_layer(UPPER)], {"Cmd": ["/bin/su"]}), "v1")


async def build_root(place: Path, base: Path, recipe: Recipe, target: Path, *, reuse: bool = True) -> RootRecord:
    """Write the root of ``recipe`` to ``target``, with a cache and a store of its own in ``place``."""
    workshop = make_workshop(Cache(place / "cache", reuse=reuse), place / "store", Progress(sys.stderr, quiet=True))
    async with (
        workshop.opened(),
        open_material(workshop, recipe, base) as material,
        open_root(workshop, choose_filesystem(recipe.filesystem), material, read_mappings(recipe.mappings, base)) as root,
    ):
        shutil.copyfile(workshop.store.locate(Digest(f"sha256:{root.record.rootfs.sha256}")), target)
        return root.record


@pytest.fixture(params=["tree", "erofs", "squashfs"])
async def nasty(request: pytest.FixtureRequest, tmp_path: Path) -> Listing:
    """The image, as the unpacker leaves it, and as each file system that keeps everything has it."""
    make_nasty_layout(tmp_path / "nasty")
    if request.param == "tree":
        (tmp_path / "tree").mkdir()
        image = read_image(tmp_path / "nasty", "v1")
        unpacked = await unpack_layers(image.layers, tmp_path / "tree", UnpackLimits(), epoch_s=CREATED_S)
        assert unpacked.skipped == ()
        settle_tree(tmp_path / "tree", CREATED_S * 10**9, CREATED_S)
        return list_tree(tmp_path / "tree")
    recipe = make_recipe("oci:nasty", f'[filesystem]\ntype = "{request.param}"\n')
    await build_root(tmp_path, tmp_path, recipe, tmp_path / "rootfs")
    return list_tree(tmp_path / "mount", request.param, tmp_path / "rootfs")


async def test_nothing_of_an_image_is_lost(nasty: Listing) -> None:
    found = nasty

    def permissions(name: str) -> tuple[int, int, int]:
        return stat.S_IMODE(found[name]["mode"]), found[name]["uid"], found[name]["gid"]

    assert permissions("bin/su") == (0o4755, 0, 0)
    assert permissions("bin/mail") == (0o2755, 0, 8)
    assert permissions("bin/far") == (0o644, 70000, 4000000000)
    assert permissions("tmp") == (0o1777, 0, 0)
    assert found["bin/ping"]["xattrs"] == {"security.capability": CAPABILITY.hex(), "user.note": b"kept".hex()}
    assert {found[name]["inode"] for name in ("bin/one", "bin/two", "etc/three")} == {found["bin/one"]["inode"]}
    assert found["bin/one"]["links"] == 3
    assert (found["etc/link"]["content"], found["etc/link"]["uid"]) == ("../../../bin/one", 5)
    assert stat.S_ISCHR(found["dev/console"]["mode"])
    assert found["dev/console"]["rdev"] == os.makedev(5, 1)
    assert stat.S_ISBLK(found["dev/disk"]["mode"])
    assert found["dev/disk"]["rdev"] == os.makedev(254, 3)
    assert stat.S_ISFIFO(found["run/pipe"]["mode"])
    assert {LONG, f"{DEEP}/leaf", NOT_UTF8} <= found.keys()
    assert base64.b64decode(found["sparse"]["content"]) == bytes(3 << 20) + b"end"


async def test_upper_layers_hide_and_replace_what_is_below(nasty: Listing) -> None:
    found = nasty

    assert "gone" in found
    assert not {"gone/file", "gone-directory", "opaque/old", "opaque/nested", "replaced/file"} & found.keys()
    assert not [name for name in found if ".wh." in name]
    assert {"opaque/new", "becomes-directory/file", "kept/below", "kept/above"} <= found.keys()
    assert stat.S_ISREG(found["replaced"]["mode"])
    assert stat.S_IMODE(found["becomes-directory"]["mode"]) == 0o700


async def test_times_are_kept_and_nothing_is_newer_than_the_image(nasty: Listing) -> None:
    found = nasty

    assert found["bin/one"]["mtime"] == 1234567890
    assert found["future"]["mtime"] == CREATED_S
    assert max(facts["mtime"] for facts in found.values()) == CREATED_S


async def test_the_same_image_gives_the_same_bytes_wherever_it_is_built(tmp_path: Path) -> None:
    make_nasty_layout(tmp_path / "nasty")
    write_archive(tmp_path / "nasty", tmp_path / "nasty.tar")
    (tmp_path / "site").mkdir()
    names = [f"page-{number}" for number in range(50)]
    built = []
    for place, image in (("here", "oci:nasty:v1"), ("there", "oci-archive:nasty.tar")):
        # The order in which files were made shows in some file systems' listings.
        random.Random(place).shuffle(names)
        shutil.rmtree(tmp_path / "site")
        (tmp_path / "site").mkdir()
        for name in names:
            (tmp_path / "site" / name).write_text(name)
        recipe = make_recipe(image, '[filesystem]\ntype = "erofs"\n[mappings]\nsite = "/srv/site"\n')
        record = await build_root(tmp_path / place, tmp_path, recipe, tmp_path / f"{place}.erofs")
        built.append((tmp_path / f"{place}.erofs").read_bytes())
        assert record.rootfs.size == len(built[-1])

    assert built[0] == built[1]


async def test_the_order_in_which_attributes_were_set_does_not_show(tmp_path: Path) -> None:
    names = ["user.a", "user.b", "user.c", "security.capability", "trusted.overlay.x"]
    built = set()
    for seed in range(3):
        tree = tmp_path / f"tree-{seed}"
        tree.mkdir()
        (tree / "file").touch()
        random.Random(seed).shuffle(names)
        for name in names:
            os.setxattr(tree / "file", name, CAPABILITY)
        newest_s = settle_tree(tree, 0, CREATED_S)
        target = tmp_path / f"{seed}.erofs"
        with (tmp_path / "lock").open("w") as lock:
            await make_filesystem(
                FilesystemChoice(type="erofs"), tree, target, identity="x", newest_s=newest_s, lock_fd=lock.fileno()
            )
        built.add(target.read_bytes())

    assert len(built) == 1
    assert list_tree(tmp_path / "mount", "erofs", target)["file"]["xattrs"].keys() == set(names)


async def test_a_rebuild_unpacks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_nasty_layout(tmp_path / "nasty")
    recipe = make_recipe("oci:nasty", '[filesystem]\ntype = "erofs"\n')
    first = await build_root(tmp_path, tmp_path, recipe, tmp_path / "first")
    unpacked = []

    async def count_unpacking(*arguments: Any, **more: Any) -> Any:
        unpacked.append(arguments)
        return await unpack_layers(*arguments, **more)

    monkeypatch.setattr(image_material, "unpack_layers", count_unpacking)
    again = await build_root(tmp_path, tmp_path, recipe, tmp_path / "again")
    assert not unpacked
    without = await build_root(tmp_path, tmp_path, recipe, tmp_path / "without", reuse=False)

    assert len(unpacked) == 1
    assert first == again == without
    assert (tmp_path / "first").read_bytes() == (tmp_path / "without").read_bytes()


@pytest.mark.parametrize(
    "entries",
    [
        [make_entry("../../escaped", b"x")],
        [make_entry("/escaped/../../../../escaped", b"x")],
        [make_entry("out", kind=tarfile.SYMTYPE, linkname="/"), make_entry("out/escaped", b"x")],
        [make_entry("up", kind=tarfile.SYMTYPE, linkname="../../../.."), make_entry("up/escaped", b"x")],
        [make_entry("hard", kind=tarfile.LNKTYPE, linkname="../../victim"), make_entry("hard", b"escaped")],
        [make_entry("out", kind=tarfile.SYMTYPE, linkname="/"), make_entry("out/.wh.victim")],
        [make_entry("../.wh.victim")],
    ],
)
async def test_a_layer_touches_nothing_outside_its_root(tmp_path: Path, entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    (tmp_path / "victim").write_text("unharmed")
    before = set(os.listdir("/"))
    layout = LayoutWriter(tmp_path / "hostile")
    layout.tag(layout.make_image([make_layer(entries)], {"Cmd": ["x"]}), "v1")

    try:
        await build_root(tmp_path, tmp_path, make_recipe("oci:hostile"), tmp_path / "rootfs")
    except VolantError as error:
        assert "cannot be unpacked" in error.message

    assert set(os.listdir("/")) == before
    assert (tmp_path / "victim").read_text() == "unharmed"
    assert not find_files(tmp_path, "escaped")
    assert not list((tmp_path / "cache/tmp").iterdir())


async def test_a_name_too_long_for_mkfs_is_said_to_be(tmp_path: Path) -> None:
    layout = LayoutWriter(tmp_path / "long")
    layout.tag(layout.make_image([make_layer([make_entry("a/" + "n" * 255, b"x")])], {"Cmd": ["x"]}), "v1")

    try:
        await build_root(tmp_path, tmp_path, make_recipe("oci:long", '[filesystem]\ntype = "erofs"\n'), tmp_path / "rootfs")
    except VolantError as error:
        assert "nnnn" in error.message
        assert "255 bytes" in error.message
    else:
        assert "a/" + "n" * 255 in list_tree(tmp_path / "mount", "erofs", tmp_path / "rootfs")


async def test_an_image_that_cannot_be_unpacked_is_one_error(tmp_path: Path) -> None:
    layout = LayoutWriter(tmp_path / "broken")
    layout.tag(layout.make_image([b"this is no tar archive" * 100], {"Cmd": ["x"]}), "v1")

    with pytest.raises(VolantError, match="cannot be unpacked: it is no tar archive"):
        await build_root(tmp_path, tmp_path, make_recipe("oci:broken"), tmp_path / "rootfs")
