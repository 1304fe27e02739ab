"""Against a real registry: Debian's docker-registry on loopback, its storage in the test's own directory."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from tests.registry_server import HAS_REGISTRY, RegistryServer, serve_registry

from volant.artifact.bundle import open_bundle, pull_bundle, push_bundle
from volant.artifact.registry.client import RegistryClient
from volant.artifact.registry.credentials import CredentialStore
from volant.artifact.registry.documents import describe_bytes
from volant.artifact.registry.platform import parse_platform
from volant.artifact.registry.reference import parse_image_reference, parse_plugin_reference
from volant.artifact.registry.settings import RegistrySettings
from volant.artifact.store import ArtifactStore
from volant.core.errors import ChecksumMismatch, NotFound, Unavailable
from volant.core.ids import Digest
from volant.run import run

MIB = 1024 * 1024


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RegistryServer]:
    if not HAS_REGISTRY:
        pytest.skip("needs Debian's docker-registry")
    with serve_registry(tmp_path / "registry") as server:
        yield server


@pytest.fixture
async def client() -> AsyncIterator[RegistryClient]:
    async with RegistryClient(RegistrySettings(chunk_bytes=MIB), CredentialStore({"HOME": "/nonexistent"})) as client:
        yield client


def digest_of(content: bytes) -> Digest:
    return Digest(f"sha256:{hashlib.sha256(content).hexdigest()}")


def make_plugin(directory: Path, *, rootfs: bytes) -> None:
    kernel, boot = b"kernel" * 1000, b"initramfs" * 500
    directory.mkdir()
    manifest = {
        "schema_version": "v1", "name": "web", "version": "1.0",
        "workload": {"type": "exec", "entrypoint": ["/bin/true"]},
        "boot": {
            "kernel": {"url": "vmlinux", "checksum": digest_of(kernel)},
            "initramfs": {"url": "boot.cpio", "checksum": digest_of(boot)},
        },
        "rootfs": {"url": "rootfs.erofs", "checksum": digest_of(rootfs)},
    }  # fmt: skip
    contents = {
        "vmlinux": kernel, "boot.cpio": boot, "rootfs.erofs": rootfs, "manifest.json": json.dumps(manifest).encode(),
        "build.json": b"{}", "sbom.spdx.json": b'{"spdxVersion":"SPDX-2.3"}', "provenance.json": b"{}",
        "manifest.json.minisig": b"untrusted comment: x\n",
    }  # fmt: skip
    for name, content in contents.items():
        (directory / name).write_bytes(content)


def read_tree(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


async def test_a_plugin_comes_back_as_it_went_and_nothing_is_sent_or_fetched_twice(
    registry: RegistryServer, client: RegistryClient, tmp_path: Path
) -> None:
    built = tmp_path / "built"
    make_plugin(built, rootfs=os.urandom(3 * MIB + 17))
    reference = parse_plugin_reference(f"oci://{registry.host}/plugins/web:1.0")
    sent: list[str] = []
    digest = await push_bundle(built, reference, client, lambda blob, done, total: sent.append(blob))
    assert len(set(sent)) == len(set(read_tree(built).values()))
    sent.clear()
    assert await push_bundle(built, reference, client, lambda blob, done, total: sent.append(blob)) == digest
    assert sent == []

    fetched: list[str] = []
    pulled = tmp_path / "pulled"
    assert await pull_bundle(reference, pulled, client, lambda blob, done, total: fetched.append(blob)) == digest
    assert read_tree(pulled) == read_tree(built)
    fetched.clear()
    (pulled / "vmlinux").write_bytes(b"damaged")
    assert await pull_bundle(reference, pulled, client, lambda blob, done, total: fetched.append(blob)) == digest
    assert set(fetched) == {digest_of(b"kernel" * 1000)}
    assert read_tree(pulled) == read_tree(built)


async def test_a_killed_pull_is_taken_up_where_it_was(registry: RegistryServer, client: RegistryClient, tmp_path: Path) -> None:
    built, pulled = tmp_path / "built", tmp_path / "pulled"
    make_plugin(built, rootfs=os.urandom(24 * MIB))
    rootfs = digest_of((built / "rootfs.erofs").read_bytes())
    reference = parse_plugin_reference(f"oci://{registry.host}/web:1.0")
    await push_bundle(built, reference, client)

    code = (
        "import asyncio, os, signal, sys\n"
        "from pathlib import Path\n"
        "from volant.artifact.bundle import pull_bundle\n"
        "from volant.artifact.registry.client import RegistryClient\n"
        "from volant.artifact.registry.reference import parse_plugin_reference\n"
        "def progress(digest, done, total):\n"
        f"    if digest == {rootfs!r} and done >= 8 << 20: os.kill(os.getpid(), signal.SIGKILL)\n"
        "async def main():\n"
        "    async with RegistryClient() as client:\n"
        "        await pull_bundle(parse_plugin_reference(sys.argv[1]), Path(sys.argv[2]), client, progress)\n"
        "asyncio.run(main())\n"
    )
    killed = await run([sys.executable, "-c", code, f"oci://{reference}", pulled], timeout_s=60, check=False)
    assert killed.exit_status == -signal.SIGKILL, killed.stderr
    assert not (pulled / "manifest.json").exists() and not (pulled / "rootfs.erofs").exists()

    begun: list[int] = []
    await pull_bundle(reference, pulled, client, lambda blob, done, total: begun.append(done) if blob == rootfs else None)
    assert begun[0] >= 7 * MIB
    assert read_tree(pulled) == read_tree(built)


async def test_what_a_registry_lost_or_altered_is_refused_and_nothing_appears(
    registry: RegistryServer, client: RegistryClient, tmp_path: Path
) -> None:
    built, pulled = tmp_path / "built", tmp_path / "pulled"
    make_plugin(built, rootfs=os.urandom(2 * MIB))
    reference = parse_plugin_reference(f"oci://{registry.host}/web:1.0")
    await push_bundle(built, reference, client)
    stored = registry.blob(digest_of((built / "rootfs.erofs").read_bytes()))
    whole = stored.read_bytes()
    for damaged in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1])):
        stored.write_bytes(damaged)
        with pytest.raises(ChecksumMismatch):
            await pull_bundle(reference, pulled, client)
        assert read_tree(pulled) == {}
    with pytest.raises(NotFound):
        await pull_bundle(parse_plugin_reference(f"oci://{registry.host}/web:2.0"), pulled, client)


async def test_the_artifact_store_takes_a_stream(registry: RegistryServer, client: RegistryClient, tmp_path: Path) -> None:
    built = tmp_path / "built"
    make_plugin(built, rootfs=os.urandom(2 * MIB))
    reference = parse_plugin_reference(f"oci://{registry.host}/web:1.0")
    await push_bundle(built, reference, client)
    store = ArtifactStore(tmp_path / "store")
    await store.prepare()
    found = await open_bundle(reference, client)
    for file in found.bundle.files:
        async with aclosing(client.open_blob(reference, file.descriptor)) as chunks:
            assert await store.put(chunks, file.descriptor.digest) == file.descriptor.size
        assert store.has(file.descriptor.digest)


async def test_blobs_of_every_size_survive_chunked_uploads(
    registry: RegistryServer, client: RegistryClient, tmp_path: Path
) -> None:
    reference = parse_image_reference(f"{registry.host}/blobs")
    for size in (0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB, 3 * MIB + 5):
        content = os.urandom(size)
        blob = describe_bytes(content, "")
        assert await client.push_blob(reference, blob, content)
        assert registry.blob(blob.digest).read_bytes() == content
        target = tmp_path / blob.digest
        assert await client.fetch_blob(reference, blob, target)
        assert target.read_bytes() == content
        assert not await client.fetch_blob(reference, blob, target)


async def test_a_blob_is_mounted_from_another_repository(registry: RegistryServer, client: RegistryClient) -> None:
    content = os.urandom(MIB)
    blob = describe_bytes(content, "")
    await client.push_blob(parse_image_reference(f"{registry.host}/one"), blob, content)
    other = parse_image_reference(f"{registry.host}/two")
    assert not await client.push_blob(other, blob, content, mount_from="one")
    assert [piece async for piece in client.open_blob(other, blob)] == [content]


async def test_a_registry_that_stalls_or_hangs_up_is_given_up(tmp_path: Path) -> None:
    content = os.urandom(100_000)
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    stalled = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        if line.startswith(b"GET /v2/stall"):
            writer.write(head + content[:50_000])
            await stalled.wait()
        elif line.startswith(b"GET /v2/short"):
            writer.write(head + content[:50_000])
        writer.close()  # also in answer to TLS, which it does not speak

    settings = RegistrySettings(attempts=2, stall_timeout_s=0.2)
    async with (
        await asyncio.start_server(serve, "127.0.0.1", 0) as server,
        RegistryClient(settings, random=lambda: 0.0) as client,
    ):
        host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for name, said in (("stall", "stalled"), ("short", "closed connection")):
            with pytest.raises(Unavailable, match=said):
                await client.fetch_blob(parse_image_reference(f"{host}/{name}"), describe_bytes(content, ""), tmp_path / name)
        stalled.set()
    assert [os.stat(tmp_path / name).st_size for name in os.listdir(tmp_path)] == [50_000]


DOCKER = (
    "application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.container.image.v1+json",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
)  # fmt: skip
OCI = (
    "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.config.v1+json",
    "application/vnd.oci.image.layer.v1.tar+gzip",
)  # fmt: skip


@pytest.mark.parametrize("types", [DOCKER, OCI], ids=["docker", "oci"])
async def test_an_image_goes_and_arrives_as_a_layout_and_skopeo_reads_both(
    registry: RegistryServer, client: RegistryClient, tmp_path: Path, types: tuple[str, str, str]
) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("needs skopeo")
    manifest_type, config_type, layer_type = types
    layers = [os.urandom(300_000), os.urandom(200_000)]
    config = json.dumps(
        {"architecture": "arm64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}
    ).encode()
    reference = parse_image_reference(f"{registry.host}/image:v1")
    document = {
        "schemaVersion": 2, "mediaType": manifest_type,
        "config": {"mediaType": config_type, "digest": digest_of(config), "size": len(config)},
        "layers": [{"mediaType": layer_type, "digest": digest_of(layer), "size": len(layer)} for layer in layers],
    }  # fmt: skip
    manifest = json.dumps(document).encode()
    for content in (config, *layers):
        await client.push_blob(reference, describe_bytes(content, ""), content)
    digest = await client.push_manifest(reference, manifest, manifest_type)
    home = {"HOME": str(tmp_path)}
    remote = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"]
    assert (await run(remote, timeout_s=60, env=home)).stdout == manifest

    image = await client.resolve(reference, parse_platform("linux/arm64"))
    assert (image.digest, image.root, image.config) == (digest, digest, config)
    with pytest.raises(NotFound, match="nothing for linux/amd64") as refused:
        await client.resolve(reference, parse_platform("linux/amd64"))
    assert refused.value.hint == "it has: linux/arm64"

    layout = tmp_path / "layout"
    assert await client.fetch_image(image, layout) == 2
    assert await client.fetch_image(image, layout) == 0
    index = json.loads((layout / "index.json").read_bytes())
    named = [(entry["digest"], entry["annotations"]) for entry in index["manifests"]]
    assert named == [(digest, {"org.opencontainers.image.ref.name": "v1"})]
    for content in (config, manifest, *layers):
        assert (layout / "blobs/sha256" / digest_of(content).removeprefix("sha256:")).read_bytes() == content
    if types is OCI:  # skopeo passes over Docker's manifests in layouts
        local = ["skopeo", "inspect", "--raw", f"oci:{layout}:v1"]
        assert (await run(local, timeout_s=60, env=home)).stdout == manifest
