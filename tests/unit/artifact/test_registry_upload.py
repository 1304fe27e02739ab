"""Pushes: nothing that is there, in pieces, and on after a break."""

from __future__ import annotations

import os
from pathlib import Path

import httpx2
import pytest

from volant.artifact.registry.documents import OCI_MANIFEST, describe_bytes
from volant.artifact.registry.reference import parse_image_reference
from volant.artifact.registry.settings import MirrorEndpoint, RegistrySettings
from volant.core.errors import ChecksumMismatch, Forbidden, HostError, InvalidInput, Unavailable

from .registry_fake import HOST, FakeRegistry, Hook, InstantClock, answer_once, digest_of, open_client, refuse

CONTENT = os.urandom(10_500)
BLOB = describe_bytes(CONTENT, "")
REFERENCE = parse_image_reference(f"{HOST}/images/web:1")
SETTINGS = RegistrySettings(chunk_bytes=4000, mirrors={HOST: (MirrorEndpoint("mirror.example.org"),)})


def break_patch(registry: FakeRegistry, received: int) -> Hook:
    """The next PATCH arrives in part, and its answer not at all."""

    def hook(request: httpx2.Request) -> httpx2.Response | None:
        if request.method != "PATCH":
            return None
        registry.uploads[request.url.path.rpartition("/")[2]] += request.content[:received]
        raise httpx2.WriteError("broken pipe")

    return hook


async def test_a_large_blob_goes_in_pieces_and_a_small_one_at_once(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    registry = FakeRegistry()
    reported: list[int] = []
    async with open_client(registry, settings=SETTINGS) as client:
        assert await client.push_blob(REFERENCE, BLOB, file, report=lambda _, done, total: reported.append(done))
        assert not await client.push_blob(REFERENCE, BLOB, file)
        assert await client.push_blob(REFERENCE, describe_bytes(b"small", ""), b"small")
        assert await client.push_blob(REFERENCE, describe_bytes(b"", ""), b"")
    assert registry.blobs == {digest_of(each): each for each in (CONTENT, b"small", b"")}
    assert [r.headers["content-range"] for r in registry.requests if r.method == "PATCH"] == ["0-3999", "4000-7999"]
    assert reported == [4000, 8000, 10500]
    assert {request.url.host for request in registry.requests} == {HOST}


async def test_a_broken_piece_goes_on_where_it_broke() -> None:
    registry = FakeRegistry()
    registry.hooks.append(answer_once("", lambda: refuse(503), "PUT"))

    first = break_patch(registry, 1500)
    registry.hooks.append(first)

    async def handle(request: httpx2.Request) -> httpx2.Response:
        if request.method == "PATCH" and first in registry.hooks:
            registry.hooks.remove(first)
            first(request)
        return await registry.handle(request)

    clock = InstantClock()
    async with open_client(handle, settings=SETTINGS, clock=clock) as client:
        assert await client.push_blob(REFERENCE, BLOB, CONTENT)
    assert registry.blobs[BLOB.digest] == CONTENT
    assert [r.headers["content-range"] for r in registry.requests if r.method == "PATCH"] == ["1500-5499", "5500-9499"]
    assert clock.slept == [0.5, 0.5]


async def test_a_lost_upload_begins_anew_and_not_for_ever() -> None:
    registry = FakeRegistry()
    registry.hooks.append(answer_once("", lambda: refuse(404, "BLOB_UPLOAD_UNKNOWN"), "PATCH"))
    async with open_client(registry, settings=SETTINGS) as client:
        assert await client.push_blob(REFERENCE, BLOB, CONTENT)
    assert registry.blobs[BLOB.digest] == CONTENT
    registry = FakeRegistry()
    registry.hooks += [answer_once("", lambda: refuse(404, "BLOB_UPLOAD_UNKNOWN"), "PATCH") for _ in range(6)]
    async with open_client(registry, settings=SETTINGS) as client:
        with pytest.raises(Unavailable, match="lost an upload"):
            await client.push_blob(REFERENCE, BLOB, CONTENT)


async def test_an_end_that_arrived_although_its_answer_did_not_is_found() -> None:
    registry = FakeRegistry()

    async def handle(request: httpx2.Request) -> httpx2.Response:
        response = await registry.handle(request)
        if request.method == "PUT":
            raise httpx2.ReadTimeout("")
        return response

    async with open_client(handle) as client:
        assert await client.push_blob(REFERENCE, BLOB, CONTENT)
    assert len([request for request in registry.requests if request.method == "PUT"]) == 1


async def test_a_blob_is_mounted_when_the_registry_can() -> None:
    registry = FakeRegistry()
    registry.hooks.append(answer_once("/blobs/uploads/", lambda: httpx2.Response(201), "POST"))
    async with open_client(registry) as client:
        assert not await client.push_blob(REFERENCE, BLOB, CONTENT, mount_from="images/base")
        assert await client.push_blob(REFERENCE, BLOB, CONTENT, mount_from="images/base")
    (asked, _) = [request for request in registry.requests if request.method == "POST"]
    assert dict(asked.url.params) == {"mount": BLOB.digest, "from": "images/base"}


async def test_a_file_that_changed_meanwhile_is_not_stored(tmp_path: Path) -> None:
    registry = FakeRegistry()
    file = tmp_path / "file"
    async with open_client(registry, settings=SETTINGS) as client:
        for content in (CONTENT[:-1] + b"!", CONTENT[:5000]):
            file.write_bytes(content)
            with pytest.raises(ChecksumMismatch):
                await client.push_blob(REFERENCE, BLOB, file)
    assert registry.blobs == {}


@pytest.mark.parametrize("location", ["https://cdn.example.org/upload", f"http://{HOST}/upload", f"https://{HOST}:8443/x", ""])
async def test_an_upload_stays_where_its_credentials_belong(location: str) -> None:
    registry = FakeRegistry()
    registry.hooks.append(answer_once("/blobs/uploads/", lambda: httpx2.Response(202, headers={"Location": location}), "POST"))
    async with open_client(registry) as client:
        with pytest.raises(HostError, match="upload"):
            await client.push_blob(REFERENCE, BLOB, CONTENT)
    assert {request.method for request in registry.requests} == {"HEAD", "POST"}


async def test_who_may_not_push_is_told() -> None:
    registry = FakeRegistry()
    registry.hooks.append(answer_once("/blobs/uploads/", lambda: refuse(403), "POST"))
    async with open_client(registry) as client:
        with pytest.raises(Forbidden, match="denied"):
            await client.push_blob(REFERENCE, BLOB, CONTENT)


async def test_a_manifest_is_put_once_and_under_its_name_or_digest() -> None:
    registry = FakeRegistry()
    content = b'{"schemaVersion":2}'
    by_digest = parse_image_reference(f"{HOST}/images/web@{digest_of(content)}")
    async with open_client(registry) as client:
        for reference in (REFERENCE, REFERENCE, by_digest):
            assert await client.push_manifest(reference, content, OCI_MANIFEST) == digest_of(content)
        with pytest.raises(InvalidInput, match="asks for another"):
            await client.push_manifest(by_digest, b"{}", OCI_MANIFEST)
        registry.hooks.append(
            answer_once("/manifests/1", lambda: httpx2.Response(201, headers={"Docker-Content-Digest": "sha256:0"}), "PUT")
        )
        with pytest.raises(ChecksumMismatch, match="stored"):
            await client.push_manifest(REFERENCE, b"{}", OCI_MANIFEST)
    assert registry.seen("PUT") == [
        "/v2/images/web/manifests/1", f"/v2/images/web/manifests/{digest_of(content)}", "/v2/images/web/manifests/1",
    ]  # fmt: skip
