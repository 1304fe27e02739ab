"""From a name to one image: indexes, platforms, and documents that are not what they should be."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import httpx2
import pytest

from volant.artifact.registry.documents import DOCKER_INDEX, DOCKER_MANIFEST, DOCUMENT_MAX_BYTES, find_kind
from volant.artifact.registry.platform import parse_platform
from volant.artifact.registry.reference import parse_image_reference
from volant.core.errors import ChecksumMismatch, InvalidInput, NotFound, TooLarge

from .registry_fake import CONFIG, HOST, INDEX, MANIFEST, FakeRegistry, answer_once, digest_of, open_client

REFERENCE = parse_image_reference(f"{HOST}/images/web:1")
AMD64, ARM64 = parse_platform("amd64"), parse_platform("arm64")


async def test_an_image_is_found_through_indexes_for_the_platform_asked_for() -> None:
    registry = FakeRegistry()
    amd64, arm64 = registry.add_image(b"a"), registry.add_image(b"b", architecture="arm64")
    attestation = registry.add_manifest(b"{}", platform={"os": "unknown", "architecture": "unknown"})
    inner = registry.add_index(attestation, amd64, arm64)
    root = registry.add_index({**inner, "platform": {"os": "linux", "architecture": "arm64"}}, tag="1")
    async with open_client(registry) as client:
        image = await client.resolve(REFERENCE, ARM64)
    assert (image.root, image.digest, str(image.platform)) == (root["digest"], arm64["digest"], "linux/arm64")
    assert str(image.reference) == f"{HOST}/images/web:1@{arm64['digest']}"
    assert [layer.digest for layer in image.layers] == [digest_of(b"b")]
    # By digest nobody can answer with anything else.
    async with open_client(registry) as client:
        assert await client.resolve(image.reference, ARM64) == await client.resolve(image.reference, ARM64)


async def test_dockers_manifest_lists_and_manifests_are_taken_as_they_are() -> None:
    registry = FakeRegistry()
    config = registry.add_blob(b'{"os":"linux","architecture":"amd64"}', "application/vnd.docker.container.image.v1+json")
    document = {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": config, "layers": [registry.add_blob(b"layer")]}
    inner = registry.add_manifest(document, DOCKER_MANIFEST, platform={"os": "linux", "architecture": "amd64"})
    registry.add_manifest({"schemaVersion": 2, "mediaType": DOCKER_INDEX, "manifests": [inner]}, DOCKER_INDEX, "1")
    async with open_client(registry) as client:
        image = await client.resolve(REFERENCE, AMD64)
    assert image.descriptor.media_type == DOCKER_MANIFEST and digest_of(image.manifest) == inner["digest"]


async def test_what_there_is_instead_is_told() -> None:
    registry = FakeRegistry()
    registry.add_index(registry.add_image(), registry.add_image(architecture="s390x"), tag="1")
    registry.add_image(tag="2", architecture="s390x")
    async with open_client(registry) as client:
        with pytest.raises(NotFound, match="nothing for linux/arm64") as refused:
            await client.resolve(REFERENCE, ARM64)
        assert refused.value.hint == "it has: linux/amd64, linux/s390x"
        with pytest.raises(NotFound, match="nothing for linux/arm64") as refused:
            await client.resolve(parse_image_reference(f"{HOST}/images/web:2"), ARM64)
        assert refused.value.hint == "it has: linux/s390x"
        with pytest.raises(NotFound, match="has no images/web/manifests/3"):
            await client.resolve(parse_image_reference(f"{HOST}/images/web:3"), ARM64)


async def test_indexes_without_end_and_in_circles_are_refused() -> None:
    registry = FakeRegistry()
    deep = registry.add_image()
    for _ in range(5):
        deep = registry.add_index({**deep, "platform": {"os": "linux", "architecture": "amd64"}})
    registry.manifests["1"] = registry.manifests[deep["digest"]]
    with pytest.raises(InvalidInput, match="nested"):
        async with open_client(registry) as client:
            await client.resolve(REFERENCE, AMD64)

    # A circle needs a digest that lies: the registry gives one document for two names.
    registry = FakeRegistry()
    size = 0
    for _ in range(3):  # until the size it states is its own
        entry = {
            "mediaType": INDEX,
            "digest": "sha256:" + "0" * 64,
            "size": size,
            "platform": {"os": "linux", "architecture": "amd64"},
        }
        circle = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()
        size = len(circle)
    registry.manifests["1"] = registry.manifests["sha256:" + "0" * 64] = (INDEX, circle)
    async with open_client(registry) as client:
        with pytest.raises(ChecksumMismatch):
            await client.resolve(REFERENCE, AMD64)
        with pytest.raises(ChecksumMismatch):
            await client.resolve(parse_image_reference(f"{HOST}/images/web@sha256:{'0' * 64}"), AMD64)


async def test_a_manifest_of_a_gigabyte_is_refused_before_it_is_read() -> None:
    pulled = 0

    async def huge() -> object:
        nonlocal pulled
        for _ in range(1 << 14):
            pulled += 65536
            yield b" " * 65536

    registry = FakeRegistry()
    for headers in ({"Content-Length": str(1 << 30)}, {"Content-Length": "9" * 40}):
        registry.hooks.append(answer_once("/manifests/1", lambda h=headers: httpx2.Response(200, headers=h, content=huge())))  # type: ignore[misc]  # bound now
        async with open_client(registry) as client:
            with pytest.raises(TooLarge, match="bytes"):
                await client.resolve(REFERENCE, AMD64)
        assert pulled == 0
    registry.hooks.append(answer_once("/manifests/1", lambda: httpx2.Response(200, content=huge())))
    async with open_client(registry) as client:
        with pytest.raises(TooLarge):
            await client.resolve(REFERENCE, AMD64)
    assert pulled <= DOCUMENT_MAX_BYTES + 2 * 65536


async def test_a_descriptor_of_a_gigabyte_is_not_followed() -> None:
    registry = FakeRegistry()
    entry = registry.add_image()
    registry.add_index({**entry, "size": 1 << 30}, tag="1")
    config = registry.add_blob(b"{}", CONFIG)
    registry.add_manifest({"schemaVersion": 2, "config": {**config, "size": 1 << 30}, "layers": []}, tag="2")
    async with open_client(registry) as client:
        for tag in ("1", "2"):
            with pytest.raises(TooLarge):
                await client.resolve(parse_image_reference(f"{HOST}/images/web:{tag}"), AMD64)


@pytest.mark.parametrize(
    ("document", "declared", "reason"),
    [
        (b'{"schemaVersion":1,"fsLayers":[]}', "application/vnd.docker.distribution.manifest.v1+prettyjws", "schema 1"),
        (b'{"schemaVersion":1,"fsLayers":[]}', "application/json", "schema 1"),
        (b'{"schemaVersion":2,"manifests":[],"layers":[],"config":{}}', INDEX, "at once"),
        (b'{"schemaVersion":2,"mediaType":"%s","manifests":[]}' % INDEX.encode(), MANIFEST, "calls itself"),
        (b'{"schemaVersion":2,"manifests":[]}', MANIFEST, "no image"),
        (b'{"schemaVersion":2}', "text/html", "no image"),
        (b"<html>", "text/html", "should be"),
        (b"\xff\xfe", MANIFEST, "should be"),
        (b"[" * 100_000, MANIFEST, "should be"),
        (b"[]", MANIFEST, "should be"),
    ],
)
def test_documents_of_other_kinds_are_refused_with_the_reason(document: bytes, declared: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        find_kind(document, declared, "x")


async def test_a_document_that_is_not_what_its_digest_says_is_refused() -> None:
    registry = FakeRegistry()
    entry = registry.add_image(tag="1")
    other = registry.manifests[entry["digest"]][1].replace(b"2", b"3", 1)
    registry.hooks.append(
        answer_once(
            "/manifests/1", lambda: httpx2.Response(200, headers={"Docker-Content-Digest": entry["digest"]}, content=other)
        )
    )
    registry.hooks.append(answer_once(entry["digest"], lambda: httpx2.Response(200, content=other)))
    async with open_client(registry) as client:
        for text in ("1", f"1@{entry['digest']}"):
            with pytest.raises(ChecksumMismatch, match=digest_of(other)):
                await client.resolve(parse_image_reference(f"{HOST}/images/web:{text}"), AMD64)


async def test_a_layout_holds_several_images_and_only_fetches_what_it_lacks(tmp_path: Path) -> None:
    registry = FakeRegistry()
    shared, first, second = os.urandom(5000), os.urandom(6000), os.urandom(7000)
    registry.add_image(shared, first, shared, tag="1")
    registry.add_image(shared, second, tag="2")
    layout = tmp_path / "layout"
    async with open_client(registry) as client:
        one = await client.resolve(REFERENCE, AMD64)
        two = await client.resolve(parse_image_reference(f"{HOST}/images/web:2"), AMD64)
        assert await client.fetch_image(one, layout) == 2
        assert await client.fetch_image(two, layout) == 1
        assert await client.fetch_image(one, layout, tag="again") == 0
        assert await client.fetch_image(one, layout, tag="2") == 0
    index = json.loads((layout / "index.json").read_bytes())
    names = {entry["annotations"]["org.opencontainers.image.ref.name"]: entry["digest"] for entry in index["manifests"]}
    assert names == {"1": one.digest, "again": one.digest, "2": one.digest}
    for digest, content in registry.blobs.items():
        assert (layout / "blobs/sha256" / digest.removeprefix("sha256:")).read_bytes() == content
    assert json.loads((layout / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}


async def test_many_may_write_into_one_layout_at_once(tmp_path: Path) -> None:
    registry = FakeRegistry()
    for tag in range(8):
        registry.add_image(b"shared" * 100_000, str(tag).encode(), tag=str(tag))

    async def copy(tag: int) -> int:
        async with open_client(registry) as client:
            image = await client.resolve(parse_image_reference(f"{HOST}/images/web:{tag}"), AMD64)
            return await client.fetch_image(image, tmp_path)

    fetched = await asyncio.gather(*(copy(tag) for tag in range(8)))
    assert sum(fetched) == 9
    index = json.loads((tmp_path / "index.json").read_bytes())
    assert len(index["manifests"]) == 8


async def test_an_image_with_a_bad_layer_is_not_in_the_index(tmp_path: Path) -> None:
    registry = FakeRegistry()
    registry.add_image(b"good", b"bad", tag="1")
    registry.blobs[digest_of(b"bad")] = b"BAD"
    async with open_client(registry) as client:
        with pytest.raises(ChecksumMismatch):
            await client.fetch_image(await client.resolve(REFERENCE, AMD64), tmp_path)
    assert not (tmp_path / "index.json").exists()
