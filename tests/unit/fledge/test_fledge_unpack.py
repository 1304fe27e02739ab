"""Layers that well-meaning programs write: all that is in them is in the tree."""

from __future__ import annotations

import asyncio
import base64
import gzip
import os
import stat
import struct
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zstandard

from volant.fledge.layers.layer import LAYER_TYPES
from volant.fledge.layers.unpack import unpack_layers

from .layer_files import (
    EPOCH_S,
    LIMITS,
    Entries,
    digest,
    finish,
    make_header,
    make_pax,
    read_tree,
    store_blob,
    unpack,
    write_blob,
)  # fmt: skip
from .nobody import NOBODY, PACKAGES, WHY_NOT, find_python
from .oci_layouts import make_entry, make_layer

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")]

DIRECTORY, LINK, SYMLINK = tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE
EPOCH_NS = EPOCH_S * 10**9


def names(root: Path) -> set[str]:
    return {os.fsdecode(name) for name in read_tree(root)} - {"."}


# Whiteouts

LOWER = [
    make_entry("d", kind=DIRECTORY, mode=0o700, uid=3, mtime=5),
    make_entry("d/low", b"low"),
    make_entry("d/sub", kind=DIRECTORY, mode=0o700, uid=4, mtime=6, xattrs={"user.low": b"low"}),
    make_entry("d/sub/low", b"low"),
    make_entry("f", b"low"),
]


@pytest.mark.parametrize(
    ("upper", "left"),
    [
        ([make_entry(".wh.f")], {"d", "d/low", "d/sub", "d/sub/low"}),
        ([make_entry(".wh.d")], {"f"}),
        ([make_entry("d/.wh.sub")], {"d", "d/low", "f"}),
        (
            [make_entry(".wh.absent"), make_entry("absent/.wh.x"), make_entry("f/.wh.x")][:2],
            {"d", "d/low", "d/sub", "d/sub/low", "f"},
        ),
        ([make_entry("d/.wh..wh..opq")], {"d", "f"}),
        ([make_entry("d/.wh..wh..opq"), make_entry("d/new")], {"d", "d/new", "f"}),
        ([make_entry(".wh..wh..opq"), make_entry("new")], {"new"}),
        ([make_entry(".wh.d"), make_entry("d/sub/new")], {"d", "d/sub", "d/sub/new", "f"}),
        ([make_entry("d/.wh..wh..opq"), make_entry("d/sub/new")], {"d", "d/sub", "d/sub/new", "f"}),
        ([make_entry(".wh.f"), make_entry("f", b"new")], {"d", "d/low", "d/sub", "d/sub/low", "f"}),
        ([make_entry(".wh..wh.plnk"), make_entry(".wh.f")], {"d", "d/low", "d/sub", "d/sub/low"}),
    ],
)
async def test_a_whiteout_hides_what_is_below_wherever_it_stands(tmp_path: Path, upper: Entries, left: set[str]) -> None:
    await unpack(tmp_path, LOWER, upper, root="first")
    await unpack(tmp_path, LOWER, upper[::-1], root="last")

    assert names(tmp_path / "first") == left
    assert read_tree(tmp_path / "first") == read_tree(tmp_path / "last")


async def test_a_hidden_directory_comes_back_as_what_the_layer_says_of_it(tmp_path: Path) -> None:
    upper = [make_entry("d/sub", kind=DIRECTORY, mode=0o711, uid=9), make_entry("d/sub/new"), make_entry(".wh.d")]
    await unpack(tmp_path, LOWER, upper)

    found = read_tree(tmp_path / "root")
    assert (stat.S_IMODE(found[b"d"].mode), found[b"d"].uid, found[b"d"].mtime_ns) == (0o755, 0, EPOCH_NS)
    assert (stat.S_IMODE(found[b"d/sub"].mode), found[b"d/sub"].uid) == (0o711, 9)


# Replacing and keeping


async def test_an_entry_replaces_what_is_there_unless_both_are_directories(tmp_path: Path) -> None:
    lower = [
        make_entry("dir", kind=DIRECTORY, xattrs={"user.old": b"x"}), make_entry("dir/kept"), make_entry("was-dir/x"),
        make_entry("was-file", b"x"), make_entry("was-link", kind=SYMLINK, linkname="dir"), make_entry("one", b"1"),
        make_entry("two", kind=LINK, linkname="one"),
    ]  # fmt: skip
    upper = [
        make_entry("dir", kind=DIRECTORY, mode=0o2750, uid=7, gid=8, mtime=99), make_entry("was-dir", b"now a file"),
        make_entry("was-file", kind=DIRECTORY, mode=0o700), make_entry("was-file/x"),
        make_entry("was-link", kind=DIRECTORY, mode=0o700), make_entry("was-link/x"), make_entry("one", b"other"),
    ]  # fmt: skip
    await unpack(tmp_path, lower, upper)

    found = read_tree(tmp_path / "root")
    assert b"dir/kept" in found
    assert (found[b"dir"].mode, found[b"dir"].uid, found[b"dir"].gid) == (stat.S_IFDIR | 0o2750, 7, 8)
    assert (found[b"dir"].mtime_ns, found[b"dir"].attributes) == (99 * 10**9, {})
    assert found[b"was-dir"].content == b"now a file"
    assert {b"was-file/x", b"was-link/x"} <= found.keys()
    assert b"dir/x" not in found
    assert (found[b"one"].content, found[b"two"].content) == (b"other", b"1")


async def test_implied_directories_are_roots_and_have_the_given_time(tmp_path: Path) -> None:
    await unpack(tmp_path, [make_entry("a", kind=DIRECTORY, mode=0o2777, gid=5), make_entry("a/b/c", mtime=7)])

    found = read_tree(tmp_path / "root")
    for name in (b".", b"a/b"):
        assert (found[name].mode, found[name].uid, found[name].gid, found[name].mtime_ns) == (
            stat.S_IFDIR | 0o755,
            0,
            0,
            EPOCH_NS,
        )
    assert (found[b"a/b/c"].gid, found[b"a/b/c"].mtime_ns) == (0, 7 * 10**9)


async def test_directories_keep_their_times_when_their_content_changes(tmp_path: Path) -> None:
    lower = [make_entry("./", kind=DIRECTORY, mtime=3), make_entry("d", kind=DIRECTORY, mtime=5), make_entry("d/old")]
    await unpack(tmp_path, lower, [make_entry("d/new"), make_entry("d/.wh.old")])

    found = read_tree(tmp_path / "root")
    assert (found[b"."].mtime_ns, found[b"d"].mtime_ns) == (3 * 10**9, 5 * 10**9)


# Links


async def test_hard_links_reach_lower_layers_and_symbolic_links(tmp_path: Path) -> None:
    lower = [make_entry("a/file", b"x"), make_entry("soft", kind=SYMLINK, linkname="/a"), make_entry("a/self", b"y")]
    upper = [
        make_entry("hard", kind=LINK, linkname="a/file"), make_entry("through", kind=LINK, linkname="/soft/file"),
        make_entry("hard-soft", kind=LINK, linkname="soft"), make_entry("a/self", kind=LINK, linkname="a/self"),
        make_entry("a/old", b"z"), make_entry("a/old", kind=LINK, linkname="a/file"),
    ]  # fmt: skip
    await unpack(tmp_path, lower, upper)

    root = tmp_path / "root"
    inode = (root / "a/file").lstat().st_ino
    assert [(root / name).lstat().st_ino for name in ("hard", "through", "a/old")] == [inode] * 3
    assert (root / "soft").lstat().st_ino == (root / "hard-soft").lstat().st_ino
    assert os.readlink(root / "hard-soft") == "/a"
    assert (root / "a/self").read_bytes() == b"y"


async def test_links_on_the_way_are_followed_within_the_root(tmp_path: Path) -> None:
    lower = [
        make_entry("usr/bin/x"), make_entry("bin", kind=SYMLINK, linkname="usr/bin"),
        make_entry("abs", kind=SYMLINK, linkname="/bin"), make_entry("up", kind=SYMLINK, linkname="../../../usr"),
        make_entry("dangling", kind=SYMLINK, linkname="made/late"),
        make_entry("usr/lib/abs", kind=SYMLINK, linkname="/usr/share"),
        make_entry("usr/lib/rel", kind=SYMLINK, linkname="../share"),
    ]  # fmt: skip
    upper = [
        make_entry("bin/one"), make_entry("abs/two"), make_entry("up/three"), make_entry("abs/.wh.x"),
        make_entry("dangling/four"), make_entry("bin/five", kind=DIRECTORY), make_entry("bin/five/six"),
        make_entry("usr/lib/abs/seven"), make_entry("usr/lib/rel/eight"),
    ]  # fmt: skip
    await unpack(tmp_path, lower, upper)

    assert names(tmp_path / "root") == {
        "usr", "usr/bin", "usr/bin/one", "usr/bin/two", "usr/three", "made", "made/late", "made/late/four", "usr/bin/five",
        "usr/bin/five/six", "usr/lib", "usr/lib/abs", "usr/lib/rel", "usr/share", "usr/share/seven", "usr/share/eight",
        "bin", "abs", "up", "dangling",
    }  # fmt: skip


async def test_links_devices_and_pipes_keep_owner_mode_and_time(tmp_path: Path) -> None:
    common = {"uid": 70000, "gid": 4000000000, "mtime": 1234567890}
    await unpack(
        tmp_path,
        [
            make_entry("link", kind=SYMLINK, linkname="/nowhere", xattrs={"trusted.x": b"on a link"}, **common),
            make_entry("null", kind=tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3, xattrs={"security.y": b"n"}, **common),
            make_entry("disk", kind=tarfile.BLKTYPE, mode=0o660, devmajor=259, devminor=70000, **common),
            make_entry("pipe", kind=tarfile.FIFOTYPE, mode=0o622, **common),
        ],
    )

    found = read_tree(tmp_path / "root")
    del found[b"."]
    assert {(facts.uid, facts.gid, facts.mtime_ns) for facts in found.values()} == {(70000, 4000000000, 1234567890 * 10**9)}
    assert found[b"link"].content == b"/nowhere"
    assert found[b"link"].attributes == {"trusted.x": b"on a link"}
    assert (found[b"null"].mode, found[b"null"].device) == (stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert found[b"null"].attributes == {"security.y": b"n"}
    assert (found[b"disk"].mode, found[b"disk"].device) == (stat.S_IFBLK | 0o660, os.makedev(259, 70000))
    assert found[b"pipe"].mode == stat.S_IFIFO | 0o622


# Attributes


async def test_attributes_may_be_any_bytes_in_either_spelling(tmp_path: Path) -> None:
    binary = bytes(range(256))
    records = [
        (b"SCHILY.xattr.user.binary", binary), (b"SCHILY.xattr.user.empty", b""),
        (b"LIBARCHIVE.xattr.user.caf%C3%A9", base64.b64encode(binary).rstrip(b"=")),
        (b"LIBARCHIVE.xattr.user.binary", base64.b64encode(b"counts less")),
        (b"SCHILY.xattr.com.example.elsewhere", b"?"),
    ]  # fmt: skip
    unpacked = await unpack(tmp_path, finish(make_pax(records), make_header(b"file")))

    assert read_tree(tmp_path / "root")[b"file"].attributes == {"user.binary": binary, "user.empty": b"", "user.café": binary}
    assert unpacked.skipped == ("file: Linux keeps no attribute com.example.elsewhere there",)


async def test_what_a_link_cannot_have_is_left_out_and_said(tmp_path: Path) -> None:
    unpacked = await unpack(tmp_path, [make_entry("link", kind=SYMLINK, linkname="x", xattrs={"user.a": b"b"})])

    assert unpacked.skipped == ("link: Linux keeps no attribute user.a there",)
    assert (unpacked.entries, unpacked.size_bytes) == (1, 0)


async def test_a_default_acl_is_kept_and_not_inherited_by_what_is_unpacked(tmp_path: Path) -> None:
    # Version 2; user::rwx, user:1000:rwx, group::r-x, mask::rwx, other::r-x (linux/posix_acl_xattr.h).
    entries = [(1, 7, 0xFFFFFFFF), (2, 7, 1000), (4, 5, 0xFFFFFFFF), (16, 7, 0xFFFFFFFF), (32, 5, 0xFFFFFFFF)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    records = [(b"SCHILY.xattr.system.posix_acl_default", acl), (b"SCHILY.xattr.system.posix_acl_access", acl)]
    lower = finish(make_pax(records), make_header(b"d/", typeflag=b"5", mode=b"0000775\0"), make_header(b"d/file"))
    await unpack(tmp_path, lower, [make_entry("d/sub/file")])

    found = read_tree(tmp_path / "root")
    assert found[b"d"].attributes == {"system.posix_acl_default": acl, "system.posix_acl_access": acl}
    assert [found[name].attributes for name in (b"d/file", b"d/sub", b"d/sub/file")] == [{}, {}, {}]


async def test_bits_and_capabilities_outlive_the_change_of_owner(tmp_path: Path) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    await unpack(tmp_path, [make_entry("su", b"x", mode=0o6755, uid=5, gid=6, xattrs={"security.capability": capability})])

    found = read_tree(tmp_path / "root")[b"su"]
    assert (found.mode, found.uid, found.attributes) == (stat.S_IFREG | 0o6755, 5, {"security.capability": capability})


# Numbers, names and times


async def test_numbers_in_every_spelling(tmp_path: Path) -> None:
    await unpack(
        tmp_path,
        finish(
            make_header(b"base256", uid=b"\x80\0\0\0\xff\xff\xff\xfe", mtime=b"\x80" + bytes(6) + b"\x01\0\0\0\x07"),
            make_header(b"before-1970", mtime=b"\xff" * 12),
            make_header(b"no-nul", uid=b"00000017", mtime=b"000000000012"),
            make_header(b"spaces", uid=b"     17 ", mtime=b"         12 "),
            make_header(b"empty", uid=bytes(8), mtime=bytes(12)),
            make_pax([(b"mtime", b"1234567890.123456789987"), (b"uid", b"4294967294"), (b"gid", b"3000000000")]),
            make_header(b"pax"),
            make_header(b"old/", typeflag=b"\0", magic=bytes(8)),
            make_header(b"name", prefix=b"in/front"),
            make_header(b"gnu", magic=b"ustar  \0", prefix=b"12345670123"),
        ),
    )

    found = read_tree(tmp_path / "root")
    assert (found[b"base256"].uid, found[b"base256"].mtime_ns) == (4294967294, ((1 << 32) + 7) * 10**9)
    assert found[b"before-1970"].mtime_ns == 0
    assert {(found[name].uid, found[name].mtime_ns) for name in (b"no-nul", b"spaces")} == {(15, 10 * 10**9)}
    assert (found[b"empty"].uid, found[b"empty"].mtime_ns) == (0, 0)
    assert (found[b"pax"].uid, found[b"pax"].gid, found[b"pax"].mtime_ns) == (4294967294, 3000000000, 1234567890123456789)
    assert stat.S_ISDIR(found[b"old"].mode)
    assert {b"in/front/name", b"gnu"} <= found.keys()


async def test_global_headers_hold_until_the_next_and_an_entrys_own_wins(tmp_path: Path) -> None:
    await unpack(
        tmp_path,
        finish(
            make_pax([(b"comment", b"a commit"), (b"uid", b"11"), (b"mtime", b"5")], b"g"),
            make_header(b"one"), make_pax([(b"uid", b"12")]), make_header(b"two"), make_pax([(b"uid", b"")], b"g"),
            make_header(b"three"),
        ),
    )  # fmt: skip

    found = read_tree(tmp_path / "root")
    assert [found[name].uid for name in (b"one", b"two", b"three")] == [11, 12, 0]
    assert found[b"three"].mtime_ns == 5 * 10**9


@pytest.mark.parametrize("archive", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
async def test_names_of_every_length_and_any_bytes(tmp_path: Path, archive: int) -> None:
    deep = "/".join([f"{number:03}" + "d" * 97 for number in range(60)])
    strange = [b"caf\xe9".decode("utf-8", "surrogateescape"), "new\nline", "n" * 255, "-rf", " ", "…", f"{deep}/leaf"]
    tar = _write_tar(archive, [*strange, "link"], linkname="l" * 300)
    await unpack(tmp_path, tar)

    descriptor = os.open(tmp_path / "root", os.O_RDONLY)
    for part in deep.split("/"):
        inner = os.open(part, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    assert os.listdir(descriptor) == ["leaf"]
    os.close(descriptor)
    assert set(os.listdir(tmp_path / "root")) == {*strange[:-1], deep[:100], "link"}
    assert os.readlink(tmp_path / "root/link") == "l" * 300


def _write_tar(archive: int, members: list[str], linkname: str) -> bytes:
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w", format=archive, encoding="utf-8", errors="surrogateescape") as tar:
            for name in members:
                kind = SYMLINK if name == "link" else tarfile.REGTYPE
                tar.addfile(make_entry(name, kind=kind, linkname=linkname if name == "link" else "")[0])
        file.seek(0)
        return file.read()


async def test_a_deep_tree_is_removed_by_a_whiteout(tmp_path: Path) -> None:
    deep = "/".join(["d" * 100] * 100)
    await unpack(tmp_path, [make_entry(f"{deep}/leaf"), make_entry("kept")], [make_entry(f".wh.{'d' * 100}")])

    assert names(tmp_path / "root") == {"kept"}


# Sparse files

PARTS = [(0, b"head"), (1 << 20, b"middle" * 1000), ((5 << 20) + 1000, b"tail")]
LENGTH = 6 << 20


@pytest.mark.spawns
@pytest.mark.parametrize(
    "arguments",
    [
        ["--format=gnu"], ["--format=posix", "--sparse-version=0.0"], ["--format=posix", "--sparse-version=0.1"],
        ["--format=posix", "--sparse-version=1.0"],
    ],
)  # fmt: skip
@pytest.mark.parametrize("runs", [3, 60])
async def test_sparse_files_of_gnu_tar_keep_their_holes(tmp_path: Path, arguments: list[str], runs: int) -> None:
    source = tmp_path / "a-name-that-is-kept"
    with source.open("wb") as file:
        for offset, content in PARTS if runs == 3 else [(number << 18, b"x" * 5000) for number in range(runs)]:
            file.seek(offset)
            file.write(content)
        file.truncate(LENGTH if runs == 3 else runs << 18)
    command = ["tar", "--sparse", *arguments, "-cf", tmp_path / "sparse.tar", "-C", tmp_path, source.name]
    await asyncio.to_thread(subprocess.run, command, check=True)

    await unpack(tmp_path, (tmp_path / "sparse.tar").read_bytes())

    found = tmp_path / "root" / source.name
    assert found.read_bytes() == source.read_bytes()
    assert found.stat().st_blocks <= source.stat().st_blocks
    assert found.stat().st_mtime_ns // 10**9 == source.stat().st_mtime_ns // 10**9


async def test_long_runs_of_zeros_become_holes(tmp_path: Path) -> None:
    content = b"begin" + bytes(4 << 20) + b"middle" + bytes(1 << 20)
    unpacked = await unpack(
        tmp_path, [make_entry("zeros", content), make_entry("all", bytes(1 << 20)), make_entry("after", b"x")]
    )

    assert (tmp_path / "root/zeros").read_bytes() == content
    assert (tmp_path / "root/zeros").stat().st_blocks * 512 < len(content) // 4
    assert (tmp_path / "root/all").read_bytes() == bytes(1 << 20)
    assert (tmp_path / "root/after").read_bytes() == b"x"
    assert unpacked.size_bytes == len(content) + (1 << 20) + 1


# Files and their packing


@pytest.mark.parametrize("media_type", sorted(LAYER_TYPES))
@pytest.mark.parametrize("packing", ["plain", "gzip", "zstd"])
async def test_layers_are_unpacked_as_they_are_packed_whatever_they_are_called(
    tmp_path: Path, packing: str, media_type: str
) -> None:
    blob = write_blob(tmp_path, make_layer([make_entry("file", b"content" * 100)]), packing=packing, media_type=media_type)
    (tmp_path / "root").mkdir()
    await unpack_layers([blob], tmp_path / "root", LIMITS, epoch_s=EPOCH_S)

    assert (tmp_path / "root/file").read_bytes() == b"content" * 100


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
async def test_files_of_several_members_or_frames_are_read_to_the_end(tmp_path: Path, packing: str) -> None:
    content = os.urandom(300_000) + bytes(3 << 20)
    tar = make_layer([make_entry("file", content), make_entry("last", b"x")])
    compress = gzip.compress if packing == "gzip" else zstandard.ZstdCompressor().compress
    pieces = [compress(tar[at : at + 100_000]) for at in range(0, len(tar), 100_000)]
    if packing == "zstd":
        # A skippable frame (RFC 8878, section 3.1.2), as zstd:chunked appends.
        pieces.append(b"\x5a\x2a\x4d\x18\x04\0\0\0abcd")
    (tmp_path / "root").mkdir()
    blob = store_blob(tmp_path, b"".join(pieces), diff_id=digest(tar))
    await unpack_layers([blob], tmp_path / "root", LIMITS, epoch_s=EPOCH_S)

    assert (tmp_path / "root/file").read_bytes() == content
    assert (tmp_path / "root/last").read_bytes() == b"x"


@pytest.mark.parametrize("end", [0, 512, 1024, 10240])
async def test_an_archive_may_end_with_any_number_of_empty_blocks(tmp_path: Path, end: int) -> None:
    await unpack(tmp_path, make_header(b"file") + bytes(end), bytes(end))

    assert names(tmp_path / "root") == {"file"}


async def test_progress_is_told_and_ends_at_the_size(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    blob = write_blob(tmp_path, make_layer([make_entry("file", os.urandom(500_000))]))
    (tmp_path / "root").mkdir()
    await unpack_layers(
        [blob], tmp_path / "root", LIMITS, epoch_s=EPOCH_S, report=lambda name, done, total: told.append((name, done, total))
    )

    assert told[-1] == (blob.digest, blob.size_bytes, blob.size_bytes)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert len(told) > 3


async def test_nothing_writes_any_more_once_it_is_cancelled(tmp_path: Path) -> None:
    begun = threading.Event()
    blob = write_blob(tmp_path, make_layer([make_entry(f"file-{number}", os.urandom(50_000)) for number in range(400)]))
    (tmp_path / "root").mkdir()
    work = asyncio.create_task(unpack_layers([blob], tmp_path / "root", LIMITS, epoch_s=EPOCH_S, report=lambda *_: begun.set()))
    await asyncio.to_thread(begun.wait)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work

    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("layer", "digest"))]
    assert len(os.listdir(tmp_path / "root")) < 400


# Not root

UNPACKER = """
import asyncio, base64, json, sys
from pathlib import Path
import msgspec
sys.path.insert(0, sys.argv[1])
from volant.fledge.layers.layer import LayerBlob
from volant.fledge.layers.unpack import UnpackLimits, unpack_layers
root = Path(sys.argv[2])
blobs = msgspec.json.decode(Path(sys.argv[3]).read_bytes(), type=list[LayerBlob], dec_hook=lambda kind, value: kind(value))
asyncio.run(unpack_layers(blobs, root, UnpackLimits(), epoch_s=1704067200))
import os, stat
found = {}
for directory, directories, files in os.walk(os.fsencode(root)):
    for path in [directory, *(os.path.join(directory, name) for name in [*files, *directories])]:
        facts = os.lstat(path)
        text = os.readlink(path) if stat.S_ISLNK(facts.st_mode) else b""
        if stat.S_ISREG(facts.st_mode):
            text = open(path, "rb").read()
        attributes = {n: os.getxattr(path, n, follow_symlinks=False).hex() for n in os.listxattr(path, follow_symlinks=False)}
        found[os.path.relpath(path, os.fsencode(root)).hex()] = [
            facts.st_mode, facts.st_uid, facts.st_gid, facts.st_mtime_ns, facts.st_rdev,
            facts.st_nlink * stat.S_ISREG(facts.st_mode), text.hex(), attributes,
        ]
print(json.dumps(found, sort_keys=True))
"""


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory where nobody may write: pytest's own may only be entered by who runs it."""
    with tempfile.TemporaryDirectory() as directory:
        os.chown(directory, 65534, 65534)
        yield Path(directory)


@pytest.mark.spawns
def test_under_fakeroot_nobody_makes_the_same_tree_as_root(open_directory: Path) -> None:
    python = find_python()
    if python is None:
        pytest.skip(WHY_NOT)
    lower = [
        make_entry("bin", kind=DIRECTORY, mode=0o555, uid=3, xattrs={"user.on-directory": b"x"}),
        make_entry(
            "bin/su", b"x", mode=0o4755, uid=0, gid=8, xattrs={"security.capability": bytes.fromhex("01000002" + "00" * 16)}
        ),
        make_entry("bin/two", kind=LINK, linkname="bin/su"),
        make_entry("secret", b"x", mode=0o000, uid=70000, gid=4000000000),
        make_entry("soft", kind=SYMLINK, linkname="bin", uid=9, xattrs={"trusted.x": b"y"}),
        make_entry("null", kind=tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3, uid=4),
        make_entry("disk", kind=tarfile.BLKTYPE, mode=0o660, devmajor=8, devminor=1),
        make_entry("pipe", kind=tarfile.FIFOTYPE, mode=0o600),
        make_entry("gone/deep/file", b"x"),
    ]
    upper = [make_entry(".wh.gone"), make_entry("soft/through", b"z", uid=12), make_entry(".wh.disk")]
    blobs = [write_blob(open_directory, make_layer(entries)) for entries in (lower, upper)]
    (open_directory / "blobs.json").write_bytes(msgspec.json.encode(blobs, enc_hook=str))
    (open_directory / "unpacker.py").write_text(UNPACKER)

    def run(root: str, *prefix: str) -> str:
        (open_directory / root).mkdir()
        os.chown(open_directory / root, 65534, 65534)
        command = [python, open_directory / "unpacker.py", PACKAGES[0], open_directory / root, open_directory / "blobs.json"]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": PACKAGES[1], "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [*prefix, *command], capture_output=True, check=False, text=True, env=environment, cwd=open_directory
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    by_root = run("by-root")
    by_nobody = run("by-nobody", *NOBODY, "fakeroot", "--")

    assert msgspec.json.decode(by_nobody) == msgspec.json.decode(by_root)
    assert b"soft".hex() in by_root
    assert (open_directory / "by-nobody/bin/su").stat().st_uid == 65534
