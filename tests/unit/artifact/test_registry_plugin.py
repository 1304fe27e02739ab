"""Plugins as artifacts: what is one, and what is refused although a registry gives it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.artifact.bundle import open_bundle, pull_bundle, push_bundle
from volant.artifact.registry.plugin import ARTIFACT_TYPE, CONFIG_TYPE, ROLE_TYPES, read_bundle_manifest
from volant.artifact.registry.reference import parse_plugin_reference
from volant.core.errors import ChecksumMismatch, InUse, InvalidInput, NotFound, TooLarge, Unavailable, VolantError
from volant.core.manifest import MANIFEST_MAX_BYTES

from .registry_fake import HOST, MANIFEST, FakeRegistry, break_blob, digest_of, open_client

REFERENCE = parse_plugin_reference(f"oci://{HOST}/plugins/web:1.0")
KERNEL, BOOT, ROOTFS = os.urandom(50_000), os.urandom(20_000), os.urandom(90_000)
TITLE = "org.opencontainers.image.title"


def make_plugin(directory: Path, **changes: Any) -> Path:
    directory.mkdir(exist_ok=True)
    manifest = {
        "schema_version": "v1", "name": "web", "version": "1.0", "workload": {"type": "exec", "entrypoint": ["/bin/true"]},
        "boot": {
            "kernel": {"url": "vmlinux", "checksum": digest_of(KERNEL)},
            "initramfs": {"url": "boot.cpio", "checksum": digest_of(BOOT)},
        },
        "rootfs": {"url": "rootfs.erofs", "checksum": digest_of(ROOTFS)}, **changes,
    }  # fmt: skip
    for name, content in {"vmlinux": KERNEL, "boot.cpio": BOOT, "rootfs.erofs": ROOTFS, "build.json": b"{}"}.items():
        (directory / name).write_bytes(content)
    (directory / "manifest.json").write_text(json.dumps(manifest))
    return directory


def read_tree(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


async def push(registry: FakeRegistry, directory: Path) -> str:
    async with open_client(registry) as client:
        return await push_bundle(directory, REFERENCE, client)


async def pull(registry: FakeRegistry, directory: Path) -> str:
    async with open_client(registry) as client:
        return await pull_bundle(REFERENCE, directory, client)


def alter(registry: FakeRegistry, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(registry.manifests["1.0"][1])
    change(document)
    registry.add_manifest(document, tag="1.0")


async def test_the_artifact_is_the_same_wherever_it_is_made_and_says_what_it_is(tmp_path: Path) -> None:
    one, two = FakeRegistry(), FakeRegistry()
    built = make_plugin(tmp_path / "a")
    for name in ("manifest.json.minisig", "rootfs.erofs.minisig", "sbom.spdx.json", "provenance.json"):
        (built / name).write_bytes(name.encode())
    (built / "notes.txt").write_bytes(b"not of the plugin")
    copied = tmp_path / "b"
    copied.mkdir()
    for name in sorted(os.listdir(built), reverse=True):
        (copied / name).write_bytes((built / name).read_bytes())
    assert await push(one, built) == await push(two, copied)
    document = json.loads(one.manifests["1.0"][1])
    assert (document["artifactType"], document["config"]["mediaType"]) == (ARTIFACT_TYPE, CONFIG_TYPE)
    assert [(layer["annotations"][TITLE], layer["mediaType"]) for layer in document["layers"]] == [
        ("vmlinux", ROLE_TYPES["kernel"]), ("boot.cpio", ROLE_TYPES["boot"]), ("rootfs.erofs", ROLE_TYPES["rootfs"]),
        ("build.json", ROLE_TYPES["build"]), ("sbom.spdx.json", ROLE_TYPES["sbom"]),
        ("provenance.json", ROLE_TYPES["provenance"]), ("manifest.json.minisig", ROLE_TYPES["signature"]),
        ("rootfs.erofs.minisig", ROLE_TYPES["signature"]),
    ]  # fmt: skip
    assert document["layers"][2]["digest"] == digest_of(ROOTFS)
    await pull(one, tmp_path / "c")
    assert read_tree(tmp_path / "c") == {name: content for name, content in read_tree(built).items() if name != "notes.txt"}


async def test_what_belongs_to_another_build_does_not_stay_beside_it(tmp_path: Path) -> None:
    registry = FakeRegistry()
    await push(registry, make_plugin(tmp_path / "a"))
    target = make_plugin(tmp_path / "b")
    for name in ("manifest.json.minisig", "sbom.spdx.json", "mine.txt"):
        (target / name).write_bytes(b"old")
    await pull(registry, target)
    assert sorted(read_tree(target)) == ["boot.cpio", "build.json", "manifest.json", "mine.txt", "rootfs.erofs", "vmlinux"]


async def test_an_interrupted_pull_leaves_no_file_and_is_taken_up(tmp_path: Path) -> None:
    registry = FakeRegistry()
    built = make_plugin(tmp_path / "a")
    await push(registry, built)
    registry.hooks += [break_blob(ROOTFS, 60_000)] + [break_blob(ROOTFS, 0)] * 5
    with pytest.raises(Unavailable):
        await pull(registry, tmp_path / "b")
    assert all(name.startswith(".") for name in os.listdir(tmp_path / "b"))
    registry.hooks.clear()
    registry.requests.clear()
    await pull(registry, tmp_path / "b")
    assert [r.headers.get("range") for r in registry.requests if r.url.path.endswith(digest_of(ROOTFS))] == ["bytes=60000-"]
    assert read_tree(tmp_path / "b") == read_tree(built)


def set_name(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["layers"][2]["annotations"].update({TITLE: name})


def add_layer(name: str, media_type: str, size: int = 2) -> Callable[[dict[str, Any]], None]:
    layer = {"mediaType": media_type, "digest": digest_of(b"{}"), "size": size, "annotations": {TITLE: name}}
    return lambda document: document["layers"].append(layer)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (set_name("../rootfs.erofs"), InvalidInput),
        (set_name("/etc/passwd"), InvalidInput),
        (set_name(".bashrc"), InvalidInput),
        (set_name("a\x00b"), InvalidInput),
        (set_name(""), InvalidInput),
        (set_name("x" * 200), InvalidInput),
        (set_name("manifest.json"), InvalidInput),
        (set_name("vmlinux"), InvalidInput),
        (set_name("other.erofs"), InvalidInput),
        (set_name("build.json"), InvalidInput),
        (set_name("rootfs.minisig"), InvalidInput),
        (add_layer("evil.sh", "application/x-sh"), InvalidInput),
        (add_layer("kernel2", ROLE_TYPES["kernel"]), InvalidInput),
        (add_layer("initrd", ROLE_TYPES["initramfs"]), InvalidInput),
        (add_layer("other.minisig", ROLE_TYPES["signature"]), InvalidInput),
        (add_layer("vmlinux.minisig", ROLE_TYPES["signature"], 1 << 20), TooLarge),
        (add_layer("sbom.spdx.json", ROLE_TYPES["sbom"], 1 << 40), TooLarge),
        (lambda d: d.update(artifactType="application/vnd.example"), InvalidInput),
        (lambda d: d["config"].update(mediaType="application/vnd.oci.image.config.v1+json"), InvalidInput),
        (lambda d: d["config"].update(size=1 << 30), TooLarge),
        (lambda d: d["layers"].pop(2), InvalidInput),
        (lambda d: d["layers"][2].update(digest=digest_of(b"{}"), size=2), ChecksumMismatch),
        (lambda d: d["layers"][2].update(digest="sha512:abc"), InvalidInput),
        (lambda d: d.update(layers=d["layers"] * 20), TooLarge),
    ],
)
async def test_what_no_plugin_can_be_is_refused_before_anything_is_fetched(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], error: type[VolantError]
) -> None:
    registry = FakeRegistry()
    await push(registry, make_plugin(tmp_path / "a"))
    alter(registry, change)
    registry.requests.clear()
    with pytest.raises(error):
        await pull(registry, tmp_path / "b" / "c")
    assert not (tmp_path / "b").exists()
    large = (digest_of(ROOTFS), digest_of(KERNEL), digest_of(BOOT))
    assert not [path for path in registry.seen() if path.endswith(large)]


async def test_an_image_is_no_plugin_and_says_so(tmp_path: Path) -> None:
    registry = FakeRegistry()
    registry.add_image(b"layer", tag="1.0")
    async with open_client(registry) as client:
        with pytest.raises(InvalidInput, match="no Volant plugin") as refused:
            await open_bundle(REFERENCE, client)
        assert refused.value.hint is not None
        registry.manifests["1.0"] = (MANIFEST, b" " * (MANIFEST_MAX_BYTES + 1))
        with pytest.raises(VolantError):
            await open_bundle(REFERENCE, client)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"rootfs": {"url": "../rootfs.erofs"}}, InvalidInput),
        ({"rootfs": {"url": "/etc/shadow"}}, InvalidInput),
        ({"rootfs": {"url": "artifact:sha256:" + "0" * 64}}, InvalidInput),
        ({"rootfs": {"url": "missing.erofs"}}, InvalidInput),
        ({"rootfs": {"url": "rootfs.erofs", "checksum": "sha256:" + "0" * 64}}, ChecksumMismatch),
        ({"version": "not a version"}, InvalidInput),
    ],
)
async def test_a_directory_that_is_no_build_is_not_pushed(
    tmp_path: Path, changes: dict[str, Any], error: type[VolantError]
) -> None:
    registry = FakeRegistry()
    with pytest.raises(error):
        await push(registry, make_plugin(tmp_path / "a", **changes))
    with pytest.raises(NotFound):
        await push(registry, tmp_path)
    assert registry.requests == []


async def test_files_from_elsewhere_are_left_where_they_are(tmp_path: Path) -> None:
    registry = FakeRegistry()
    elsewhere = {"rootfs": {"url": "https://files.example.org/rootfs.erofs", "checksum": digest_of(ROOTFS)}}
    await push(registry, make_plugin(tmp_path / "a", **elsewhere))
    assert digest_of(ROOTFS) not in registry.blobs
    await pull(registry, tmp_path / "b")
    assert sorted(read_tree(tmp_path / "b")) == ["boot.cpio", "build.json", "manifest.json", "vmlinux"]


async def test_two_pulls_into_one_directory_do_not_mix(tmp_path: Path) -> None:
    registry = FakeRegistry()
    await push(registry, make_plugin(tmp_path / "a"))
    target = tmp_path / "b"
    target.mkdir()
    held = os.open(target, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InUse):
            await pull(registry, target)
    finally:
        os.close(held)


@given(
    st.binary(max_size=300)
    | st.recursive(
        st.none() | st.text(max_size=8) | st.integers(),
        lambda inner: (
            st.dictionaries(
                st.sampled_from(["config", "layers", "mediaType", "artifactType", "digest", "size", "annotations"]), inner
            )
            | st.lists(inner, max_size=3)
        ),
        max_leaves=20,
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_bytes_are_a_bundle_or_refused(content: bytes) -> None:
    try:
        read_bundle_manifest(content)
    except VolantError:
        return
    raise AssertionError("that cannot be a plugin")
