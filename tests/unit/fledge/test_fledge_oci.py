from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from volant.core.errors import ChecksumMismatch, InvalidInput
from volant.fledge.oci import DOCUMENT_MAX_BYTES, parse_reference, read_image, unpack_archive, verify_layers, write_view

from .oci_layouts import INDEX, MANIFEST, LayoutWriter, make_entry, make_layer, write_archive


@pytest.fixture
def layout(tmp_path: Path) -> LayoutWriter:
    return LayoutWriter(tmp_path / "web")


def read_amd64(layout: LayoutWriter, tag: str = "") -> str:
    return read_image(layout.path, tag, "amd64").digest


def test_the_settings_of_the_image_are_read(layout: LayoutWriter) -> None:
    layout.tag(layout.make_image(settings={"Entrypoint": ["web"], "Cmd": None, "Env": ["A=b"], "WorkingDir": "/srv"}), "v1")

    image = read_image(layout.path, "", "amd64")

    assert image.tag == "v1"
    assert image.config.config is not None
    assert image.config.config.entrypoint == ("web",)
    assert image.config.config.cmd is None
    assert image.config.config.working_dir == "/srv"


def test_the_tag_chooses_and_latest_is_the_default(layout: LayoutWriter) -> None:
    images = {name: layout.make_image(settings={"User": name}) for name in ("v1", "latest")}
    for name, descriptor in images.items():
        layout.tag(descriptor, name)

    assert read_amd64(layout, "v1") == images["v1"]["digest"]
    assert read_amd64(layout) == images["latest"]["digest"]
    with pytest.raises(InvalidInput, match="no image with the tag 'v2'") as caught:
        read_amd64(layout, "v2")
    assert caught.value.hint == "it has: latest, v1"


def test_several_images_without_a_latest_must_be_told_apart(layout: LayoutWriter) -> None:
    layout.tag(layout.make_image(settings={"User": "a"}), "a")
    layout.tag(layout.make_image(settings={"User": "b"}), "b")

    with pytest.raises(InvalidInput, match=r"holds 2 images \(a, b\)"):
        read_amd64(layout)


def test_a_nested_index_gives_the_image_of_the_platform(layout: LayoutWriter) -> None:
    amd64, arm64 = layout.make_image(), layout.make_image(architecture="arm64")
    attestation = {**layout.make_image(settings={"User": "x"}), "platform": {"os": "unknown", "architecture": "unknown"}}
    manifests = [
        attestation,
        {**arm64, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
        {**amd64, "platform": {"os": "linux", "architecture": "amd64"}},
    ]
    layout.tag(layout.add_json({"schemaVersion": 2, "manifests": manifests}, INDEX), "v1")

    assert read_amd64(layout) == amd64["digest"]
    assert read_image(layout.path, "", "arm64").digest == arm64["digest"]
    with pytest.raises(InvalidInput, match="no image for linux/riscv64"):
        read_image(layout.path, "", "riscv64")


def test_indexes_nested_without_end_are_refused(layout: LayoutWriter) -> None:
    descriptor = layout.make_image()
    for _ in range(5):
        descriptor = layout.add_json({"schemaVersion": 2, "manifests": [descriptor]}, INDEX)
    layout.tag(descriptor, "v1")

    with pytest.raises(InvalidInput, match="nested more than 4 deep"):
        read_amd64(layout)


def test_an_image_for_another_machine_is_refused(layout: LayoutWriter) -> None:
    layout.tag(layout.make_image(architecture="s390x"), "v1")

    with pytest.raises(InvalidInput, match="the image is for linux/s390x, the guest is linux/amd64"):
        read_amd64(layout)


def test_layers_that_cannot_be_unpacked_are_refused_with_the_mend(layout: LayoutWriter) -> None:
    layout.tag(layout.make_image([b""], layer_type="application/vnd.oci.image.layer.v1.tar+zstd"), "v1")

    with pytest.raises(InvalidInput, match=r"tar\+zstd") as caught:
        read_amd64(layout)
    assert caught.value.hint is not None
    assert "--dest-compress-format gzip" in caught.value.hint


def test_docker_manifests_are_refused_with_the_mend(layout: LayoutWriter) -> None:
    layout.tag(layout.add_json({}, "application/vnd.docker.distribution.manifest.v2+json"), "v1")

    with pytest.raises(InvalidInput, match="is no OCI image") as caught:
        read_amd64(layout)
    assert caught.value.hint is not None
    assert "skopeo copy --format oci" in caught.value.hint


@pytest.mark.parametrize("index", [b"{", b"[]", b'{"manifests": [{"digest": 1}]}', b'{"manifests": 7}', b"\xff", b"[" * 5000])
def test_an_index_that_is_none_is_bad_input(tmp_path: Path, index: bytes) -> None:
    (tmp_path / "index.json").write_bytes(index)

    with pytest.raises(InvalidInput):
        read_image(tmp_path)


def test_a_huge_index_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "index.json").open("wb") as stream:
        stream.truncate(1 << 40)

    with pytest.raises(InvalidInput, match=f"larger than {DOCUMENT_MAX_BYTES}"):
        read_image(tmp_path)


@pytest.mark.parametrize("digest", ["sha256:../../../etc/passwd", "sha512:" + "0" * 128, "x"])
def test_a_digest_that_is_none_never_becomes_a_path(layout: LayoutWriter, digest: str) -> None:
    layout.tag({"mediaType": MANIFEST, "digest": digest, "size": 1}, "v1")

    with pytest.raises(InvalidInput, match="not a sha256 digest"):
        read_amd64(layout)


def test_an_altered_manifest_is_noticed(layout: LayoutWriter) -> None:
    descriptor = layout.make_image()
    layout.tag(descriptor, "v1")
    (layout.path / "blobs/sha256" / descriptor["digest"][7:]).write_bytes(b"{}")

    with pytest.raises(ChecksumMismatch):
        read_amd64(layout)


@pytest.mark.parametrize("damage", ["cut", "alter", "remove"])
async def test_a_damaged_layer_is_noticed(layout: LayoutWriter, damage: str) -> None:
    layout.tag(layout.make_image([make_layer([make_entry("a", b"content")])]), "v1")
    image = read_image(layout.path, "", "amd64")
    blob = layout.path / "blobs/sha256" / image.layers[0].digest[7:]
    await verify_layers(image)

    if damage == "cut":
        os.truncate(blob, image.layers[0].size - 1)
    elif damage == "alter":
        blob.write_bytes(b"\0" * image.layers[0].size)
    else:
        blob.unlink()

    with pytest.raises(ChecksumMismatch, match=r"is damaged|is missing"):
        await verify_layers(image)


def test_an_archive_becomes_the_layout_that_it_holds(layout: LayoutWriter, tmp_path: Path) -> None:
    descriptor = layout.make_image([make_layer([make_entry("a", b"content")])])
    layout.tag(descriptor, "v1")
    write_archive(layout.path, tmp_path / "web.tar")
    (tmp_path / "unpacked").mkdir()

    unpack_archive(tmp_path / "web.tar", tmp_path / "unpacked")

    assert read_image(tmp_path / "unpacked", "v1", "amd64").digest == descriptor["digest"]


def test_an_archive_writes_nothing_outside_its_directory(layout: LayoutWriter, tmp_path: Path) -> None:
    layout.tag(layout.make_image(), "v1")
    write_archive(layout.path, tmp_path / "web.tar")
    target = tmp_path / "a" / "b"
    target.mkdir(parents=True)
    with tarfile.open(tmp_path / "web.tar", "a") as tar:
        for member, content in (
            make_entry("../evil", b"x"), make_entry("/tmp/evil", b"x"), make_entry("blobs/sha256/../../../evil", b"x"),
            make_entry("blobs/sha256/link", kind=tarfile.SYMTYPE, linkname="/etc"), make_entry("blobs/sha256/link/evil", b"x"),
            make_entry("blobs/sha256/" + "0" * 64, kind=tarfile.CHRTYPE), make_entry("index.json", b"second of its name"),
        ):  # fmt: skip
            tar.addfile(member, io.BytesIO(content))

    unpack_archive(tmp_path / "web.tar", target)

    assert not list(tmp_path.rglob("evil"))
    assert {path.name for path in target.iterdir()} == {"blobs", "oci-layout", "index.json"}
    assert all(path.is_file() and not path.is_symlink() for path in (target / "blobs/sha256").iterdir())
    assert json.loads((target / "index.json").read_text())["manifests"]


@pytest.mark.parametrize(
    ("members", "message"),
    [([("manifest.json", b"[]")], "docker-save archive"), ([("readme", b"")], "no OCI archive")],
)
def test_an_archive_of_another_kind_is_refused(tmp_path: Path, members: list[tuple[str, bytes]], message: str) -> None:
    (tmp_path / "x.tar").write_bytes(make_layer([make_entry(name, content) for name, content in members]))
    (tmp_path / "out").mkdir()

    with pytest.raises(InvalidInput, match=message):
        unpack_archive(tmp_path / "x.tar", tmp_path / "out")


def test_a_damaged_archive_is_refused(layout: LayoutWriter, tmp_path: Path) -> None:
    layout.tag(layout.make_image([make_layer([make_entry("a", os.urandom(5000))])]), "v1")
    for name, damage in (("cut", lambda tar: tar[:3000]), ("altered", lambda tar: tar.replace(b"architecture", b"ARCHITECTURE"))):
        write_archive(layout.path, tmp_path / name)
        (tmp_path / name).write_bytes(damage((tmp_path / name).read_bytes()))
        (tmp_path / f"{name}-out").mkdir()
        with pytest.raises((InvalidInput, ChecksumMismatch)):
            unpack_archive(tmp_path / name, tmp_path / f"{name}-out")
    (tmp_path / "text").write_text("no tar")
    (tmp_path / "text-out").mkdir()
    with pytest.raises(InvalidInput, match="not a whole tar"):
        unpack_archive(tmp_path / "text", tmp_path / "text-out")


def test_references(layout: LayoutWriter, tmp_path: Path) -> None:
    (tmp_path / "web.tar").touch()
    (tmp_path / "odd:name").mkdir()

    def parse(text: str) -> tuple[str, str, bool]:
        reference = parse_reference(text, tmp_path)
        return reference.path.name, reference.tag, reference.is_archive

    assert parse("oci:web") == ("web", "", False)
    assert parse("oci:web:v1.2") == ("web", "v1.2", False)
    assert parse("web:v1") == ("web", "v1", False)
    assert parse("oci-archive:web.tar:v1") == ("web.tar", "v1", True)
    assert parse("web.tar") == ("web.tar", "", True)
    assert parse(f"oci:{layout.path}:v1") == ("web", "v1", False)
    assert parse("oci:odd:name") == ("odd:name", "", False)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("docker://nginx:1.27", "skopeo copy docker://nginx:1.27 oci:"),
        ("docker-daemon:nginx:latest", "skopeo copy docker-daemon:nginx:latest"),
        ("nginx:1.27", "skopeo copy docker://nginx:1.27"),
        ("oci:lost", "relative to the directory"),
        ("oci:web.tar", "oci-archive:web.tar"),
        ("oci-archive:web", "oci:web"),
    ],
)
def test_what_is_no_image_on_this_machine_is_refused_with_what_works(
    layout: LayoutWriter, tmp_path: Path, text: str, hint: str
) -> None:
    (tmp_path / "web.tar").touch()

    with pytest.raises(InvalidInput) as caught:
        parse_reference(text, tmp_path)

    assert caught.value.hint is not None
    assert hint in caught.value.hint


def test_a_view_shows_one_image_and_leaves_the_layout_alone(layout: LayoutWriter, tmp_path: Path) -> None:
    layout.tag(layout.make_image(), None)
    before = sorted(layout.path.rglob("*"))
    image = read_image(layout.path, "", "amd64")

    write_view(image, tmp_path / "view")

    assert read_image(tmp_path / "view", "fledge", "amd64").digest == image.digest
    shutil.rmtree(tmp_path / "view")
    assert sorted(layout.path.rglob("*")) == before
