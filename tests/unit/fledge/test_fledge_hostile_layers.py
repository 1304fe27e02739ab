"""Layers that mean harm, or were harmed: refused with the entry's name, and nothing outside of the root is touched."""

from __future__ import annotations

import asyncio
import gzip
import os
import random
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from volant.core.errors import ChecksumMismatch, HostError, InvalidInput, TooLarge, VolantError
from volant.fledge.layers.budget import Budget, UnpackLimits
from volant.fledge.layers.bytestream import ByteStream
from volant.fledge.layers.tar import TarReader
from volant.fledge.layers.unpack import unpack_layers

from .layer_files import (
    EPOCH_S,
    LIMITS,
    Entries,
    finish,
    make_header,
    make_pax,
    octal,
    read_tree,
    store_blob,
    unpack,
    write_blob,
)  # fmt: skip
from .oci_layouts import make_entry, make_layer

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")]

DIRECTORY, LINK, SYMLINK = tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE
TIGHT = UnpackLimits(
    total_max_bytes=5000, file_max_bytes=4000, max_entries=20, metadata_max_bytes=20_000, header_max_bytes=4096,
    path_max_bytes=1000, path_max_depth=10, ratio_max=20, ratio_floor_bytes=100_000,
)  # fmt: skip


@contextmanager
def guard_canary(directory: Path) -> Iterator[None]:
    """Beside the root lies something to hit; whatever happens, it and / stay as they were."""
    canary = directory / "canary"
    canary.mkdir(mode=0o710)
    (canary / "victim").write_text("unharmed")
    os.link(canary / "victim", directory / "victim")
    os.symlink("victim", canary / "link")
    before = (read_tree(canary), read_tree(canary)[b"victim"], (directory / "victim").stat().st_nlink, set(os.listdir("/")))
    yield
    assert (
        read_tree(canary),
        read_tree(canary)[b"victim"],
        (directory / "victim").stat().st_nlink,
        set(os.listdir("/")),
    ) == before


def pax_map(text: bytes) -> bytes:
    records = [(b"GNU.sparse.size", b"1000"), (b"GNU.sparse.map", text)]
    return finish(make_pax(records), make_header(b"holey", size=octal(10)), bytes(512))


def data_map(text: bytes) -> bytes:
    records = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"1000")]
    return finish(
        make_pax([*records, (b"GNU.sparse.name", b"holey")]), make_header(b"x", size=octal(len(text))), text, bytes(512)
    )


REFUSED: dict[str, tuple[Entries | bytes, str]] = {
    "upwards": ([make_entry("../canary/victim", b"x")], r"\.\./canary/victim: its path leads upwards"),
    "upwards inside": ([make_entry("a/../../canary/victim", b"x")], "leads upwards"),
    "upwards from the root": ([make_entry("/../canary/victim", b"x")], "leads upwards"),
    "whiteout upwards": ([make_entry("../canary/.wh.victim")], "leads upwards"),
    "whiteout of dots": ([make_entry("d/.wh...")], r"d/\.wh\.\.\.: it is a whiteout of nothing"),
    "whiteout of a dot": ([make_entry(".wh..")], "whiteout of nothing"),
    "whiteout without a name": ([make_entry(".wh.")], "whiteout of nothing"),
    "below a whiteout": ([make_entry(".wh.d/file")], "kept for whiteouts"),
    "below a whiteout by a link": (
        [make_entry("link", kind=SYMLINK, linkname=".wh.d"), make_entry("link/file")], "kept for whiteouts",
    ),
    "hard link upwards": ([make_entry("hard", kind=LINK, linkname="../canary/victim")], "hard: its path leads upwards"),
    "hard link by a link": (
        [make_entry("out", kind=SYMLINK, linkname="../canary"), make_entry("hard", kind=LINK, linkname="out/victim")],
        "hard: it is a hard link to out/victim, which is not there",
    ),
    "hard link to nothing": ([make_entry("hard", kind=LINK, linkname="nothing")], "hard link to nothing, which is not there"),
    "hard link to itself": ([make_entry("hard", kind=LINK, linkname="hard")], "hard link to hard, which is not there"),
    "hard link to a directory": (
        [make_entry("d", kind=DIRECTORY), make_entry("hard", kind=LINK, linkname="d")], "hard link to d, which is a directory",
    ),
    "hard link to the root": ([make_entry("hard", kind=LINK, linkname="/")], "hard link to /, which is a directory"),
    "a file instead of the root": ([make_entry("./", b"x")], "replace the root"),
    "a link instead of the root": ([make_entry("/", kind=SYMLINK, linkname="/etc")], "replace the root"),
    "a file on the way": ([make_entry("f"), make_entry("f/x")], "f/x: f on its way is no directory"),
    "links in circles": (
        [make_entry("a", kind=SYMLINK, linkname="b"), make_entry("b", kind=SYMLINK, linkname="a"), make_entry("a/x")],
        "a/x: too many symbolic links",
    ),
    "a link to nothing": (finish(make_header(b"soft", typeflag=b"2")), "soft: it is a symbolic link to nothing"),
    "a name too long": ([make_entry("n" * 256)], "nnn… cannot be made: File name too long"),
    "NUL in a name": (finish(make_pax([(b"path", b"a\0b")]), make_header(b"x")), r"a\\x00b: there is a NUL"),
    "NUL in a link": (
        finish(make_pax([(b"linkpath", b"a\0b")]), make_header(b"soft", typeflag=b"2")), "soft: there is a NUL",
    ),
    "an attribute without a name": (finish(make_pax([(b"SCHILY.xattr.", b"x")]), make_header(b"f")), "f: .*no name of an"),
    "an attribute that is no base64": (
        finish(make_pax([(b"LIBARCHIVE.xattr.user.a", b"*")]), make_header(b"f")), "f: .*user.a is no base64",
    ),
    "an attribute too large": (
        finish(make_pax([(b"SCHILY.xattr.user.a", bytes(65537))]), make_header(b"f")), "f: its attribute user.a has 65537 bytes",
    ),
    "an unknown kind": (finish(make_header(b"dump", typeflag=b"M")), "dump is of the type M"),
    "a device beyond numbers": (
        finish(make_header(b"dev", typeflag=b"3", major=b"0010000\0")), "dev: it is a device with the numbers 4096",
    ),
    "a user beyond numbers": (finish(make_pax([(b"uid", b"4294967295")]), make_header(b"f")), "f: its owner, device or size"),
    "a negative user": (finish(make_header(b"f", uid=b"\xff" * 8)), "f: its owner, device or size"),
    "a negative size": (finish(make_header(b"f", size=b"\xff" * 12)), "f: its owner, device or size"),
    "a size that is text": (finish(make_header(b"f", size=b"0x10\0")), "a size is not a number"),
    "a size with a sign": (finish(make_header(b"f", size=b"-0000000010\0")), "a size is not a number"),
    "a size of digits too large": (finish(make_header(b"f", size=b"00000000009\0")), "a size is not a number"),
    "a time that is text": (finish(make_pax([(b"mtime", b"1e9")]), make_header(b"f")), "its time is 1e9"),
    "a global path": (finish(make_pax([(b"path", b"x")], b"g"), make_header(b"f")), "sets the path of every entry"),
    "a record too long": (
        finish(make_header(b"x", typeflag=b"x", size=octal(12)), b"99 path=abc\n".ljust(512, b"\0")), "not as long as it says",
    ),
    "a record of length 0": (
        finish(make_header(b"x", typeflag=b"x", size=octal(9)), b"0 path=a\n".ljust(512, b"\0")), "not as long as it says",
    ),
    "a record without a name": (
        finish(make_header(b"x", typeflag=b"x", size=octal(7)), b"7 =abc\n".ljust(512, b"\0")), "a record has no name",
    ),
    "an extended header of negative size": (
        finish(make_header(b"x", typeflag=b"x", size=b"\xff" * 12)), "size of an extended header is out of range",
    ),
    "an extended header for nothing": (finish(make_pax([(b"uid", b"1")])), "cut short after an extended header"),
    "a map that overlaps": (pax_map(b"0,5,3,5"), "holey: .*its runs overlap"),
    "a map beyond the file": (pax_map(b"0,5,999,5"), "holey: .*not as long as the file"),
    "a map of more than there is": (pax_map(b"0,500"), "holey: .*not as long as the file"),
    "half a map": (pax_map(b"0,5,7"), "holey: its map of data is damaged"),
    "a map of text": (pax_map(b"0,-5"), "holey: its map of data is -5"),
    "a map larger than its entry": (data_map(b"99\n".ljust(512, b"1")), "map of data"),
    "a map without end": (data_map(b"1" * 512), "map of data"),
    "something after the end": (finish(make_header(b"f")) + b"x", "something after the end"),
    "another archive after the end": (finish(make_header(b"f")) * 2, "something after the end"),
    "no archive": (b"this is no tar archive" * 100, "no tar archive"),
    "cut in a header": (make_header(b"f") + make_header(b"g")[:200], "cut short"),
    "cut in content": (make_header(b"f", size=octal(1000)) + bytes(600), "f: the archive is cut short"),
    "cut in what is skipped": (make_header(b".wh.f", size=octal(1000)) + bytes(600), "cut short"),
    "cut in an extended header": (make_pax([(b"comment", b"x" * 600)])[:1024], "cut short"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_what_no_layer_may_have_is_refused_by_name(tmp_path: Path, name: str) -> None:
    content, message = REFUSED[name]
    with guard_canary(tmp_path), pytest.raises(InvalidInput, match=message) as caught:
        await unpack(tmp_path, content)

    assert "cannot be unpacked" in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "entries",
    [
        [make_entry("out", kind=SYMLINK, linkname="/"), make_entry("out/escaped", b"x")],
        [make_entry("out", kind=SYMLINK, linkname="../canary"), make_entry("out/victim", b"x")],
        [make_entry("up", kind=SYMLINK, linkname="../../../.."), make_entry("up/escaped", b"x")],
        [make_entry("up", kind=SYMLINK, linkname=".."), make_entry("up/canary/.wh.victim")],
        [make_entry("up", kind=SYMLINK, linkname=".."), make_entry("up/canary/.wh..wh..opq")],
        [make_entry("out", kind=SYMLINK, linkname="../canary"), make_entry("out", kind=DIRECTORY, mode=0o777)],
        [make_entry("out", kind=SYMLINK, linkname="../victim"), make_entry("out", b"written over")],
        [
            make_entry("soft", kind=SYMLINK, linkname="../victim"), make_entry("hard", kind=LINK, linkname="soft"),
            make_entry("hard", b"x"),
        ],
        [
            make_entry("d", kind=DIRECTORY), make_entry("d/x"), make_entry("d", kind=SYMLINK, linkname="../canary"),
            make_entry("d/victim", b"x"),
        ],
        [make_entry("d/e/x"), make_entry("d", kind=SYMLINK, linkname="../canary"), make_entry("d/e/victim"), make_entry(".wh.d")],
        [make_entry("/etc-passwd-like", b"x"), make_entry("//twice", b"x"), make_entry("./././dots", b"x")],
        [make_entry("node", kind=tarfile.CHRTYPE, devmajor=1, devminor=5), make_entry("node", b"x")],
        [make_entry("pipe", kind=tarfile.FIFOTYPE), make_entry("pipe", b"x"), make_entry("pipe", kind=tarfile.FIFOTYPE)],
    ],
)  # fmt: skip
async def test_links_lead_nowhere_but_into_the_root(tmp_path: Path, entries: Entries) -> None:
    with guard_canary(tmp_path):
        await unpack(tmp_path, entries)
        (tmp_path / "apart").mkdir()
        await unpack(tmp_path / "apart", *[[entry] for entry in entries])

    # Not a hair's difference whether one layer has them or several, but for the whiteout of what its own layer brought.
    if not any(".wh." in member.name for member, _ in entries):
        assert read_tree(tmp_path / "root") == read_tree(tmp_path / "apart/root")


async def test_a_root_that_is_not_empty_or_is_a_link_is_refused(tmp_path: Path) -> None:
    blob = write_blob(tmp_path, make_layer([make_entry("file")]))
    (tmp_path / "root").mkdir()
    os.symlink("root", tmp_path / "link")
    with pytest.raises(VolantError, match="link"):
        await unpack_layers([blob], tmp_path / "link", LIMITS, epoch_s=EPOCH_S)
    assert not os.listdir(tmp_path / "root")
    (tmp_path / "root/there").touch()
    with pytest.raises(InvalidInput, match="is not empty"):
        await unpack_layers([blob], tmp_path / "root", LIMITS, epoch_s=EPOCH_S)
    assert os.listdir(tmp_path / "root") == ["there"]


# Bombs

LIMITED: dict[str, tuple[Entries | bytes, str]] = {
    "a file": ([make_entry("big", random.Random(0).randbytes(4001))], "big has 4001 bytes, more than 4000"),
    "all files": ([make_entry(f"f{n}", random.Random(n).randbytes(1000)) for n in range(6)], "f5: .*more than 5000 bytes"),
    "a hole": (
        finish(make_pax([(b"GNU.sparse.size", b"99999999999999"), (b"GNU.sparse.map", b"")]), make_header(b"hole")),
        "hole has 99999999999999 bytes",
    ),
    "a size beyond 64 bits": (finish(make_header(b"f", size=b"\x80" + b"\x7f" * 11)), "f has [0-9]{20,} bytes"),
    "entries": ([make_entry(f"f{n}") for n in range(21)], "f20: .*more than 20 entries"),
    "implied directories": ([make_entry(f"d{n}/f") for n in range(20)], "more than 20 entries"),
    "whiteouts": ([make_entry(f".wh.f{n}") for n in range(21)], "more than 20 entries"),
    "an extended header": (finish(make_header(b"x", typeflag=b"x", size=octal(4097))), "x: an extended header of 4097 bytes"),
    "a gigantic extended header": (
        finish(make_header(b"x", typeflag=b"x", size=b"\x80" + b"\x7f" * 11)), "x: an extended header of [0-9]{20,} bytes",
    ),
    "a gigantic long name": (finish(make_header(b"l", typeflag=b"L", size=octal(1 << 30))), "l: an extended header"),
    "extended headers without end": (make_pax([(b"comment", b"x" * 3000)]) * 10, "more than 20000 bytes of names and headers"),
    "global headers without end": (make_pax([(b"comment", b"x" * 3000)], b"g") * 10, "bytes of names and headers"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIMITED)
async def test_too_much_of_anything_is_refused_by_name(tmp_path: Path, name: str) -> None:
    content, message = LIMITED[name]
    with guard_canary(tmp_path), pytest.raises(TooLarge, match=message):
        await unpack(tmp_path, content, limits=TIGHT)


async def test_limits_count_all_layers_together(tmp_path: Path) -> None:
    layers = [[make_entry(f"f{number}", random.Random(number).randbytes(1000))] for number in range(6)]
    with pytest.raises(TooLarge, match=r"f5: .*more than 5000 bytes"):
        await unpack(tmp_path, *layers, limits=TIGHT)


async def test_what_a_layer_makes_one_remember_of_lower_ones_counts(tmp_path: Path) -> None:
    deep = "/".join(["d" * 90] * 9)
    with pytest.raises(TooLarge, match="bytes of names and headers"):
        await unpack(tmp_path, *[[make_entry(f"{deep}/{number}")] for number in range(5)], limits=TIGHT)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/".join("d" * 11), "more than 10 directories deep"),
        ("n" * 200 + ("/" + "n" * 200) * 5, "has 10.. bytes, more than 1000"),
    ],
)
async def test_a_path_has_an_end(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        await unpack(tmp_path, [make_entry(name)], limits=TIGHT)
    # Neither does a link make it longer.
    half, rest = name[: len(name) // 2].rstrip("/"), name[len(name) // 2 :].lstrip("/")
    with pytest.raises(InvalidInput, match=r"more than|is no directory"):
        await unpack(
            tmp_path, [make_entry(f"{half}/x"), make_entry("s", kind=SYMLINK, linkname=half), make_entry(f"s/{rest}/{half}/y")],
            limits=TIGHT, root="linked",
        )  # fmt: skip


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
async def test_a_bomb_is_refused_before_it_went_off(tmp_path: Path, packing: str) -> None:
    zeros = bytes(64 << 20)
    tar = make_header(b"bomb", size=octal(len(zeros))) + zeros
    packed = gzip.compress(tar, 9, mtime=0) if packing == "gzip" else zstandard.ZstdCompressor(level=3).compress(tar)
    blob = store_blob(tmp_path, packed)
    (tmp_path / "root").mkdir()
    limits = UnpackLimits(ratio_max=10, ratio_floor_bytes=1 << 20)
    with pytest.raises(TooLarge, match=r"is a bomb: [0-9]+ bytes of it expand"):
        await unpack_layers([blob], tmp_path / "root", limits, epoch_s=EPOCH_S)

    assert (tmp_path / "root/bomb").stat().st_size < 16 << 20


async def test_zstd_may_not_want_all_memory(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=27)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    blob = store_blob(tmp_path, packer.compress(make_header(b"file")) + packer.flush())
    (tmp_path / "root").mkdir()
    with pytest.raises(TooLarge, match="more than 64 MiB of memory"):
        await unpack_layers([blob], tmp_path / "root", LIMITS, epoch_s=EPOCH_S)


# Damaged files


@pytest.mark.parametrize("packing", ["plain", "gzip", "zstd"])
async def test_a_blob_that_is_not_what_it_is_called_is_damaged(tmp_path: Path, packing: str) -> None:
    blob = write_blob(tmp_path, make_layer([make_entry("file", random.Random(1).randbytes(5000))]), packing=packing)
    content = blob.path.read_bytes()

    async def refuse(content: bytes, **changed: Any) -> str:
        blob.path.write_bytes(content)
        with tempfile.TemporaryDirectory(dir=tmp_path) as root, pytest.raises(ChecksumMismatch) as caught:
            await unpack_layers([msgspec.structs.replace(blob, **changed)], Path(root), LIMITS, epoch_s=EPOCH_S)
        return caught.value.message

    flipped = bytearray(content)
    for at in (3, 700, len(content) - 1):
        flipped[at] ^= 0x10
        assert f"the layer {blob.digest} is damaged" in await refuse(bytes(flipped))
    assert f"({len(content) - 1} bytes of {len(content)})" in await refuse(content[:-1])
    assert "is damaged" in await refuse(content + b"\0")
    assert "is damaged" in await refuse(content, digest="sha256:" + "0" * 64)
    assert "is damaged" in await refuse(content, size_bytes=len(content) + 1)
    assert "unpacks to sha256:" in await refuse(content, diff_id="sha256:" + "0" * 64)
    blob.path.unlink()
    os.mkfifo(blob.path)
    with tempfile.TemporaryDirectory(dir=tmp_path) as root, pytest.raises(ChecksumMismatch, match="is damaged"):
        await unpack_layers([blob], Path(root), LIMITS, epoch_s=EPOCH_S)
    blob.path.unlink()
    with tempfile.TemporaryDirectory(dir=tmp_path) as root, pytest.raises(ChecksumMismatch, match="is missing"):
        await unpack_layers([blob], Path(root), LIMITS, epoch_s=EPOCH_S)


@pytest.mark.parametrize(
    ("packing", "change", "message"),
    [
        ("gzip", lambda content: content[:-4], "gzip file is cut short"),
        ("gzip", lambda content: content[: len(content) // 2], "cut short"),
        ("gzip", lambda content: content + b"garbage", "no gzip file, or a damaged one|cut short"),
        ("gzip", lambda content: content + bytes(512), "no gzip file, or a damaged one"),
        ("gzip", lambda content: content[:-8] + bytes(8), "no gzip file, or a damaged one"),
        ("zstd", lambda content: content[:-4], "zstd file is cut short|damaged"),
        ("zstd", lambda content: content[: len(content) // 2], "zstd file is cut short"),
        ("zstd", lambda content: content[:7], "zstd file is cut short|damaged"),
        ("zstd", lambda content: content + b"garbage!", "no zstd file, or a damaged one"),
        ("plain", lambda _: b"BZh91AY&SY", "packed with bzip2"),
        ("plain", lambda _: b"\xfd7zXZ\0", "packed with xz"),
    ],
)
async def test_a_file_that_was_made_wrong_is_refused(tmp_path: Path, packing: str, change: Any, message: str) -> None:
    good = write_blob(tmp_path, make_layer([make_entry("file", random.Random(1).randbytes(500_000))]), packing=packing)
    blob = store_blob(tmp_path, change(good.path.read_bytes()))
    (tmp_path / "root").mkdir()
    with pytest.raises(InvalidInput, match=message):
        await unpack_layers([blob], tmp_path / "root", LIMITS, epoch_s=EPOCH_S)


async def test_an_unknown_media_type_is_refused_with_what_to_do(tmp_path: Path) -> None:
    blob = write_blob(tmp_path, b"", media_type="application/vnd.oci.image.layer.v1.tar+xz")
    (tmp_path / "root").mkdir()
    with pytest.raises(InvalidInput, match="tar\\+xz' cannot be unpacked") as caught:
        await unpack_layers([blob], tmp_path / "root", LIMITS, epoch_s=EPOCH_S)
    assert "skopeo copy" in (caught.value.hint or "")


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.REGTYPE])
async def test_who_is_not_root_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: bytes) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "mknod" if kind == tarfile.CHRTYPE else "fchmod", refuse)
    if kind == tarfile.CHRTYPE:
        with pytest.raises(HostError, match="dev/null cannot be made: Operation not permitted") as caught:
            await unpack(tmp_path, [make_entry("dev/null", kind=kind, devmajor=1, devminor=3)])
    else:
        with pytest.raises(HostError, match="cannot be made") as caught:
            await unpack(tmp_path, [make_entry("file", uid=5)])
    assert "fakeroot" in (caught.value.hint or "")


# At random

PARTS = st.sampled_from(["a", "b", "..", ".", "", "l", ".wh.a", ".wh.b", ".wh..wh..opq", ".wh..", "canary", "victim"])
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
TARGETS = st.one_of(PATHS, st.sampled_from(["/", "..", "../canary", "../canary/victim", "/../../canary", "a/b", "l"]))
KINDS = st.sampled_from([tarfile.REGTYPE, DIRECTORY, SYMLINK, LINK, tarfile.FIFOTYPE, tarfile.CHRTYPE])
ENTRIES = st.builds(
    lambda name, kind, target, content: make_entry(
        name, content if kind == tarfile.REGTYPE else b"", kind=kind, linkname=target, mode=0o777
    ),
    PATHS, KINDS, TARGETS, st.binary(max_size=8),
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(ENTRIES, max_size=8), min_size=1, max_size=3))
def test_no_sequence_of_entries_touches_anything_outside(layers: list[Entries]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        with guard_canary(Path(directory)), suppress(VolantError):
            asyncio.run(unpack(Path(directory), *layers))
        assert set(os.listdir(directory)) - {"root", "canary", "victim"} == {
            name for name in os.listdir(directory) if name.startswith("blob-")
        }


SEED = make_layer(
    [
        make_entry("n" * 150, b"content", xattrs={"user.a": b"b"}), make_entry("d", kind=DIRECTORY),
        make_entry("link", kind=SYMLINK, linkname="x"), make_entry("far", uid=1 << 31),
    ]
) + pax_map(b"0,5,500,5")  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(SEED) - 1), st.integers(0, 255)), max_size=12),
    st.integers(0, len(SEED)),
    st.binary(max_size=600),
)
def test_a_reader_of_any_bytes_finds_entries_or_bad_input(flips: list[tuple[int, int]], length: int, tail: bytes) -> None:
    content = bytearray(SEED)
    for at, value in flips:
        content[at] = value
        # Half of all damage is under a checksum that fits.
        block = content[at & ~511 : (at & ~511) + 512]
        if len(block) == 512 and value & 1:
            block[148:156] = b" " * 8
            content[(at & ~511) + 148 : (at & ~511) + 156] = b"%06o\0 " % sum(block)
    chunks = iter([bytes(content[:length]) + tail, b""])
    reader = TarReader(ByteStream(lambda: next(chunks)), Budget(LIMITS))
    try:
        while entry := reader.read_entry():
            assert entry.stored_bytes >= 0
            assert 0 <= entry.uid < 1 << 32
            assert b"\0" not in entry.name + entry.link
    except (InvalidInput, TooLarge):
        pass
