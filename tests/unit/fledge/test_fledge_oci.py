from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from volant.core.errors import ChecksumMismatch, InvalidInput
from volant.fledge.source.oci import DOCUMENT_MAX_BYTES, read_image, unpack_archive

from .oci_layouts import INDEX, MANIFEST, LayoutWriter, make_entry, make_layer, write_archive


@pytest.fixture
def layout(tmp_path: Path) -> LayoutWriter:
    return LayoutWriter(tmp_path / "web")


def read_amd64(layout: LayoutWriter, tag: str = "") -> str:
    return read_image(layout.path, tag, "linux/amd64").digest


def test_the_settings_of_the_image_are_read(layout: LayoutWriter) -> None:
    layout.tag(layout.make_image(settings={"Entrypoint": ["web"], "Cmd": None, "Env": ["A=b"], "WorkingDir": "/srv"}), "v1")

    image = read_image(layout.path, "", "linux/amd64")

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
    assert read_image(layout.path, "", "linux/arm64").digest == arm64["digest"]
    with pytest.raises(InvalidInput, match="no image for linux/riscv64"):
        read_image(layout.path, "", "linux/riscv64")


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


def test_a_variant_is_chosen_when_it_is_asked_for(layout: LayoutWriter) -> None:
    images = {variant: layout.make_image(architecture="arm", settings={"User": variant}) for variant in ("v6", "v7")}
    manifests = [{**one, "platform": {"os": "linux", "architecture": "arm", "variant": name}} for name, one in images.items()]
    layout.tag(layout.add_json({"schemaVersion": 2, "manifests": manifests}, INDEX), "v1")

    assert read_image(layout.path, "", "linux/arm/v7").digest == images["v7"]["digest"]
    assert read_image(layout.path, "", "linux/arm").digest == images["v6"]["digest"]
    with pytest.raises(InvalidInput) as caught:
        read_image(layout.path, "", "linux/arm/v8")
    assert caught.value.hint == "it has: linux/arm/v6, linux/arm/v7"


@pytest.mark.parametrize("packed", ["", "+gzip", "+zstd"])
def test_layers_are_described_for_the_unpacker(layout: LayoutWriter, packed: str) -> None:
    tar = make_layer([make_entry("a", b"content")])
    layout.tag(layout.make_image([tar], layer_type=f"application/vnd.oci.image.layer.v1.tar{packed}"), "v1")

    (layer,) = read_image(layout.path, "", "linux/amd64").layers

    assert layer.path == layout.path / "blobs/sha256" / layer.digest[7:]
    assert layer.size_bytes == layer.path.stat().st_size
    assert layer.diff_id == f"sha256:{hashlib.sha256(tar).hexdigest()}"


def test_dockers_own_manifests_are_read_too(layout: LayoutWriter) -> None:
    docker = "application/vnd.docker.distribution.manifest"
    image = layout.make_image([make_layer([])], layer_type="application/vnd.docker.image.rootfs.diff.tar.gzip")
    listed = {**image, "mediaType": f"{docker}.v2+json", "platform": {"os": "linux", "architecture": "amd64"}}
    layout.tag(layout.add_json({"schemaVersion": 2, "manifests": [listed]}, f"{docker}.list.v2+json"), "v1")

    assert read_amd64(layout) == image["digest"]


def test_layers_that_cannot_be_unpacked_are_refused(layout: LayoutWriter) -> None:
    layout.tag(layout.make_image([b""], layer_type="application/vnd.oci.image.layer.v1.tar+lz4"), "v1")

    with pytest.raises(InvalidInput, match=r"tar\+lz4.*cannot be unpacked"):
        read_amd64(layout)


def test_layers_that_the_configuration_does_not_count_are_refused(layout: LayoutWriter) -> None:
    layout.tag(layout.make_image([make_layer([])], rootfs={"type": "layers", "diff_ids": ["sha256:1", "sha256:2"]}), "v1")

    with pytest.raises(InvalidInput, match="has 1 layers and names 2"):
        read_amd64(layout)


def test_what_is_no_image_is_refused(layout: LayoutWriter) -> None:
    layout.tag(layout.add_json({}, "application/vnd.docker.distribution.manifest.v1+json"), "v1")

    with pytest.raises(InvalidInput, match="is no image"):
        read_amd64(layout)


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


def test_an_archive_becomes_the_layout_that_it_holds(layout: LayoutWriter, tmp_path: Path) -> None:
    descriptor = layout.make_image([make_layer([make_entry("a", b"content")])])
    layout.tag(descriptor, "v1")
    write_archive(layout.path, tmp_path / "web.tar")
    (tmp_path / "unpacked").mkdir()

    unpack_archive(tmp_path / "web.tar", tmp_path / "unpacked")

    assert read_image(tmp_path / "unpacked", "v1", "linux/amd64").digest == descriptor["digest"]


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


@pytest.mark.parametrize("name", ["manifest.json", "readme"])
def test_an_archive_of_another_kind_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.tar").write_bytes(make_layer([make_entry(name, b"[]")]))
    (tmp_path / "out").mkdir()

    with pytest.raises(InvalidInput, match="no OCI archive"):
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
