from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from volant.core.errors import ChecksumMismatch, InvalidInput, TooLarge, VolantError
from volant.fledge.source import docker_archive
from volant.fledge.source.docker_archive import unpack_docker_archive
from volant.fledge.source.oci import Image, read_image

from .docker_archives import change_member, make_archive, make_image_members, make_small_layer
from .oci_layouts import LayoutWriter, make_entry, make_layer

ONE = make_small_layer("one")
TWO = make_small_layer("two")


class Reader:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.count = 0

    def unpack(self, archive: bytes, tag: str = "") -> Image:
        self.count += 1
        path, target = self.root / f"image{self.count}.tar", self.root / f"layout{self.count}"
        path.write_bytes(archive)
        target.mkdir()
        unpack_docker_archive(path, target, tag)
        return read_image(target, "", "linux/amd64")


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


def make_one(*layers: bytes, tags: list[str] | None = None) -> bytes:
    members, said = make_image_members(layers, ["web:v1"] if tags is None else tags)
    return make_archive(members, [said])


def test_an_image_comes_out_with_layers_settings_and_tag(reader: Reader) -> None:
    image = reader.unpack(make_one(ONE, TWO))

    assert [layer.path.read_bytes() for layer in image.layers] == [ONE, TWO]
    assert image.config.config is not None
    assert image.config.config.cmd == ("web",)
    assert image.tag == "v1"
    assert sorted(path.name for path in (reader.root / "layout1").iterdir()) == ["blobs", "index.json", "oci-layout"]


def test_the_same_archive_gives_the_same_image_however_it_is_compressed(reader: Reader) -> None:
    archive = make_one(ONE)
    packed = [gzip.compress(archive), bz2.compress(archive), lzma.compress(archive), zstandard.compress(archive)]

    digests = {reader.unpack(one).digest for one in (archive, *packed)}

    assert len(digests) == 1
    assert [path.name for path in reader.root.rglob("archive.tar")] == []


def test_a_layer_that_occurs_twice_is_one_blob(reader: Reader) -> None:
    members, said = make_image_members([ONE, TWO, ONE], ["web:v1"])
    link = make_entry("12/layer.tar", kind=tarfile.SYMTYPE, linkname="../10/layer.tar")
    linked = [link if member.name == "12/layer.tar" else (member, content) for member, content in members]
    hard = make_entry("12/layer.tar", kind=tarfile.LNKTYPE, linkname="10/layer.tar")
    hard_linked = [hard if member.name == "12/layer.tar" else (member, content) for member, content in members]
    by_name = [(member, content) for member, content in members if member.name != "12/layer.tar"]

    images = [
        reader.unpack(make_archive(linked, [said])),
        reader.unpack(make_archive(hard_linked, [said])),
        reader.unpack(make_archive(by_name, [{**said, "Layers": ["10/layer.tar", "11/layer.tar", "10/layer.tar"]}])),
    ]

    for image in images:
        assert [layer.path.read_bytes() for layer in image.layers] == [ONE, TWO, ONE]
        assert len(list(image.layers[0].path.parent.iterdir())) == 4


@pytest.mark.parametrize("tag", ["v2", "web:v2"])
def test_the_tag_chooses_among_several(reader: Reader, tag: str) -> None:
    first, said_first = make_image_members([ONE], ["web:v1"])
    second, said_second = make_image_members([TWO], ["web:v2", "web:latest"], number=2)

    image = reader.unpack(make_archive([*first, *second], [said_first, said_second]), tag)

    assert image.layers[0].path.read_bytes() == TWO
    assert image.tag == "v2"


@pytest.mark.parametrize(
    ("tag", "words"),
    [("", "it holds 2 images"), ("v3", "it has no image 'v3'"), ("latest", "it has more than one image 'latest'")],
)
def test_an_unclear_choice_says_what_there_is(reader: Reader, tag: str, words: str) -> None:
    first, said_first = make_image_members([ONE], ["web:v1", "web:latest"])
    second, said_second = make_image_members([TWO], ["db:latest"], number=2)

    with pytest.raises(InvalidInput, match=words) as caught:
        reader.unpack(make_archive([*first, *second], [said_first, said_second]), tag)

    assert "it has: db:latest, web:latest, web:v1" in str(caught.value.hint)


def test_an_image_without_a_tag_is_read(reader: Reader) -> None:
    members, said = make_image_members([ONE], None)

    assert reader.unpack(make_archive(members, [said])).tag == ""


def test_compressed_layers_keep_their_compression(reader: Reader) -> None:
    members, said = make_image_members([ONE, TWO], ["web:v1"])
    packed = {"10/layer.tar": gzip.compress(ONE), "11/layer.tar": zstandard.compress(TWO)}
    members = [make_entry(member.name, packed.get(member.name, content)) for member, content in members]

    image = reader.unpack(make_archive(members, [said]))

    assert [layer.media_type.rpartition("+")[2] for layer in image.layers] == ["gzip", "zstd"]


def test_the_archive_of_a_newer_docker_is_read(reader: Reader, tmp_path: Path) -> None:
    layout = LayoutWriter(tmp_path / "hybrid")
    descriptor = layout.make_image([ONE])
    layout.tag(descriptor, "v1")
    manifest = json.loads((layout.path / "blobs/sha256" / descriptor["digest"][7:]).read_text())
    said = {
        "Config": f"blobs/sha256/{manifest['config']['digest'][7:]}", "RepoTags": ["web:v1"],
        "Layers": [f"blobs/sha256/{layer['digest'][7:]}" for layer in manifest["layers"]],
    }  # fmt: skip
    (layout.path / "manifest.json").write_text(json.dumps([said]))
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.add(layout.path, arcname=".")

    image = reader.unpack(stream.getvalue())

    assert gzip.decompress(image.layers[0].path.read_bytes()) == ONE


def edit_manifest(archive: bytes, **changes: Any) -> bytes:
    def change(member: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
        return make_entry(member.name, json.dumps([{**json.loads(content)[0], **changes}]).encode())

    return change_member(archive, "manifest.json", change)


def replace_layer(kind: bytes, link: str) -> bytes:
    return change_member(make_one(ONE), "10/layer.tar", lambda *_: make_entry("10/layer.tar", kind=kind, linkname=link))


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda: b"", InvalidInput, "no manifest.json|not a whole tar"),
        (lambda: b"not a tar at all" * 100, InvalidInput, "not a whole tar"),
        (lambda: gzip.compress(make_one(ONE))[:-20], InvalidInput, "damaged"),
        (lambda: make_archive([], None), InvalidInput, "no manifest.json"),
        (lambda: make_archive([make_entry("index.json", b"{}")], None), InvalidInput, "no manifest.json"),
        (lambda: make_archive([], [{"Config": "x"}]), InvalidInput, "manifest.json is not what it should be"),
        (lambda: make_archive([], []), InvalidInput, "it holds 0 images"),
        (lambda: edit_manifest(make_one(ONE), Config="../../etc/passwd"), InvalidInput, "it lacks ../../etc/passwd"),
        (lambda: edit_manifest(make_one(ONE), Layers=["/etc/passwd"]), InvalidInput, "it lacks /etc/passwd"),
        (lambda: edit_manifest(make_one(ONE), Layers=[]), InvalidInput, "has 1 layers and the archive 0"),
        (lambda: replace_layer(tarfile.SYMTYPE, "../../../../etc/passwd"), InvalidInput, "it lacks 10/layer.tar"),
        (lambda: replace_layer(tarfile.SYMTYPE, "/etc/passwd"), InvalidInput, "it lacks 10/layer.tar"),
        (lambda: replace_layer(tarfile.SYMTYPE, "layer.tar"), InvalidInput, "no plain file"),
        (lambda: replace_layer(tarfile.LNKTYPE, "10/layer.tar"), InvalidInput, "no plain file"),
        (lambda: replace_layer(tarfile.CHRTYPE, ""), InvalidInput, "no plain file"),
        (lambda: replace_layer(tarfile.DIRTYPE, ""), InvalidInput, "no plain file"),
        (lambda: make_archive([make_entry("a"), make_entry("a")], []), InvalidInput, "a is in it twice"),
        (
            lambda: change_member(make_one(ONE), "10/layer.tar", lambda m, c: make_entry(m.name, TWO)),
            ChecksumMismatch,
            "the layer 10",
        ),
        (
            lambda: change_member(
                make_one(ONE), next(n for n in names(make_one(ONE)) if len(n) == 69), lambda m, c: make_entry(m.name, c + b" ")
            ),
            ChecksumMismatch,
            "json is damaged",
        ),
        (lambda: make_archive([], [["x" * (4 << 20)]]), TooLarge, "manifest.json is larger"),
        (lambda: make_archive([], None)[:512] + b"", InvalidInput, "manifest.json"),
    ],
)
def test_hostile_and_damaged_archives_are_refused(
    reader: Reader, make: Callable[[], bytes], kind: type[VolantError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        reader.unpack(make())


def names(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return tar.getnames()


def test_a_cut_archive_is_refused_wherever_it_is_cut(reader: Reader) -> None:
    archive = make_one(make_layer([make_entry("large", bytes(range(256)) * 64)]))
    end = archive.rindex(b"manifest.json") + 1024

    for length in range(0, end, 1024):
        with pytest.raises(InvalidInput):
            reader.unpack(archive[:length])


def test_an_extended_header_of_any_size_is_not_read_into_memory(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 1 << 40
    asked: list[int] = []
    read = docker_archive._HeaderReader.read
    monkeypatch.setattr(docker_archive._HeaderReader, "read", lambda self, size: asked.append(size) or read(self, size))

    with pytest.raises(TooLarge, match="bytes of headers"):
        reader.unpack(header.tobuf(tarfile.GNU_FORMAT) + make_one(ONE))

    assert asked[-1] > 1 << 39


def test_too_many_members_and_too_much_inside_are_refused(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_archive, "MEMBERS_MAX", 10)
    monkeypatch.setattr(docker_archive, "UNCOMPRESSED_MAX_BYTES", 1 << 20)

    with pytest.raises(TooLarge, match="more than 10 members"):
        reader.unpack(make_archive([make_entry(f"{number}") for number in range(11)], []))
    with pytest.raises(TooLarge, match="holds more than 1048576 bytes"):
        reader.unpack(gzip.compress(bytes(2 << 20)))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20_000), st.binary(min_size=1, max_size=12)), min_size=1, max_size=4))
def test_a_damaged_archive_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, bytes]]) -> None:
    archive = bytearray(make_one(ONE, TWO))
    for at, content in changes:
        start = at % len(archive)
        archive[start : start + len(content)] = content
    root = tmp_path_factory.mktemp("damaged")
    (root / "image.tar").write_bytes(archive)
    (root / "layout").mkdir()

    try:
        unpack_docker_archive(root / "image.tar", root / "layout")
    except VolantError as error:
        assert "image.tar" in error.message
    assert sorted(path.name for path in root.iterdir()) == ["image.tar", "layout"]


@pytest.mark.spawns
@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_what_skopeo_writes_is_read(reader: Reader, tmp_path: Path) -> None:
    layout = LayoutWriter(tmp_path / "web")
    layout.tag(layout.make_image([ONE, TWO], {"Entrypoint": ["web"], "Env": ["A=b"]}), "v1")
    archive = tmp_path / "made.tar"
    subprocess.run(
        ["skopeo", "copy", "--quiet", f"oci:{layout.path}:v1", f"docker-archive:{archive}:web:v1"], check=True, timeout=60
    )

    image = reader.unpack(archive.read_bytes())

    assert [layer.path.read_bytes() for layer in image.layers] == [ONE, TWO]
    assert image.config.config is not None
    assert image.config.config.entrypoint == ("web",)
    assert image.tag == "v1"
