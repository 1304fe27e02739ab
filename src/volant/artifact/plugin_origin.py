"""Where plugins are fetched from: a registry (``oci://``) or the web (``https://``). Nothing large is read here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from volant.artifact.bundle import OpenBundle, open_bundle
from volant.artifact.holds import hex_of
from volant.artifact.registry.client import RegistryClient
from volant.artifact.registry.credentials import CredentialStore
from volant.artifact.registry.documents import BLOB_MAX_BYTES, digest_bytes
from volant.artifact.registry.plugin import MANIFEST_NAME, SIGNATURE_SUFFIX, BundleFile, Role
from volant.artifact.registry.reference import PLUGIN_SCHEME, parse_plugin_reference
from volant.artifact.registry.settings import RegistrySettings
from volant.artifact.resumed import fetch_resumed
from volant.artifact.web import Web, read_url
from volant.core.errors import ChecksumMismatch, Forbidden, InvalidInput, NotFound
from volant.core.ids import Digest
from volant.core.manifest import MANIFEST_MAX_BYTES, read_manifest
from volant.core.plugin_source import FoundPlugin
from volant.core.trust import SignedManifest

SIGNATURE_MAX_BYTES = 16 * 1024

_FIELDS: dict[str, Role] = {"boot.kernel": "kernel", "boot.initramfs": "boot", "rootfs": "rootfs", "initramfs": "initramfs"}

OnChunk = Callable[[int, int], None]
"""``(bytes so far, bytes in all)``; the second is 0 while nobody has said."""


class RemoteFile(msgspec.Struct, frozen=True, kw_only=True):
    """``field`` is the manifest's. ``size_bytes`` is 0 where only the server knows it. ``bring`` leaves the file in a directory,
    whole and verified, and takes up there what an earlier attempt left."""

    field: str
    digest: Digest
    size_bytes: int
    bring: Callable[[Path, OnChunk], Awaitable[Path]]


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """``elsewhere`` are fields, and urls, of files that do not lie with the manifest: they have to be stored already."""

    found: FoundPlugin
    files: tuple[RemoteFile, ...]
    elsewhere: dict[str, str]


async def open_registry(stack: AsyncExitStack, source: str, settings: RegistrySettings, credentials: CredentialStore) -> Origin:
    """Raises as ``parse_plugin_reference`` and ``open_bundle``. The files can be opened for as long as ``stack`` is."""
    reference = parse_plugin_reference(source)
    client = await stack.enter_async_context(RegistryClient(settings, credentials))
    opened = await open_bundle(reference, client)
    bundled = {file.role: file for file in opened.bundle.files}
    manifest: dict[str, Any] = msgspec.json.decode(opened.content)
    files: list[RemoteFile] = []
    elsewhere: dict[str, str] = {}
    for field, medium in _find_media(manifest):
        place = "source" if field.startswith("disks[") else "url"
        role = _FIELDS.get(field)
        file = None if role is None else bundled.get(role)
        if file is None:
            elsewhere[field] = medium[place]
        else:
            medium["checksum"] = file.descriptor.digest
            files.append(_bundled_file(client, opened, file, field))
        medium[place] = f"artifact:{medium.get('checksum') or ''}"
    signed = await _read_bundled_signature(client, opened)
    pinned = msgspec.structs.replace(reference, digest=opened.digest)
    found = FoundPlugin(source=f"{PLUGIN_SCHEME}{pinned}", manifest=manifest, signed=signed)
    return Origin(found=found, files=tuple(files), elsewhere=elsewhere)


async def open_web(stack: AsyncExitStack, source: str, checksum: Digest, settings: RegistrySettings) -> Origin:
    """The plugin whose manifest lies at ``source`` and is ``checksum``; urls in it are relative to that.

    Raises:
        ChecksumMismatch: it is another one. InvalidInput: a file has no checksum, or is to come by another way than https.
        Others: as ``Web.read``.
    """
    url = read_url(source)
    web = await stack.enter_async_context(Web(source, settings))
    content = await web.read(source, MANIFEST_MAX_BYTES)
    if digest_bytes(content) != checksum:
        raise ChecksumMismatch(f"the manifest at {url.host} is {digest_bytes(content)}, not {checksum}")
    read_manifest(content)
    manifest: dict[str, Any] = msgspec.json.decode(content)
    files: list[RemoteFile] = []
    elsewhere: dict[str, str] = {}
    for field, medium in _find_media(manifest):
        if not medium.get("checksum"):
            raise InvalidInput(f"{field} has no checksum", field=f"{field}.checksum", hint="every file is named by its sha256")
        place = "source" if field.startswith("disks[") else "url"
        if urlsplit(medium[place]).scheme == "artifact":
            elsewhere[field] = medium[place]
        else:
            files.append(_web_file(web, field, Digest(medium["checksum"]), web.resolve(medium[place])))
        medium[place] = f"artifact:{medium['checksum']}"
    signed = await _read_web_signature(web, str(url.copy_with(path=url.path + SIGNATURE_SUFFIX)), content)
    plain = url.copy_with(query=None, fragment=None)  # the query may be a secret
    return Origin(
        found=FoundPlugin(source=f"{plain}#{checksum}", manifest=manifest, signed=signed), files=tuple(files), elsewhere=elsewhere
    )


async def read_signed_document(
    url: str, max_bytes: int, settings: RegistrySettings, *, with_signature: bool
) -> tuple[bytes, str]:
    """A small file, and the content of its ``.minisig``. Raises as ``Web.read``, and InvalidInput for no signature."""
    at = read_url(url)
    async with Web(url, settings) as web:
        content = await web.read(url, max_bytes)
        if not with_signature:
            return content, ""
        signature = await web.read(str(at.copy_with(path=at.path + SIGNATURE_SUFFIX)), SIGNATURE_MAX_BYTES)
    try:
        return content, signature.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"what lies beside {url[:160]} is no minisign signature") from error


def _find_media(manifest: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """``(field, medium)`` of a checked manifest."""
    boot = manifest.get("boot") or {}
    media = {
        "boot.kernel": boot.get("kernel"), "boot.initramfs": boot.get("initramfs"), "rootfs": manifest.get("rootfs"),
        "initramfs": manifest.get("initramfs"),
    }  # fmt: skip
    media |= {f"disks[{disk['name']}]": disk for disk in manifest.get("disks") or ()}
    return ((field, medium) for field, medium in media.items() if medium)


def _bundled_file(client: RegistryClient, opened: OpenBundle, file: BundleFile, field: str) -> RemoteFile:
    async def bring(directory: Path, on_chunk: OnChunk) -> Path:
        target = directory / f"{hex_of(file.descriptor.digest)}.whole"
        target.unlink(missing_ok=True)  # of a volantd that was killed before it took it
        await client.fetch_blob(
            opened.reference, file.descriptor, target, report=lambda _digest, done, total: on_chunk(done, total)
        )
        return target

    return RemoteFile(field=field, digest=file.descriptor.digest, size_bytes=file.descriptor.size, bring=bring)


def _web_file(web: Web, field: str, digest: Digest, url: str) -> RemoteFile:
    async def bring(directory: Path, on_chunk: OnChunk) -> Path:
        return await fetch_resumed(
            directory, digest, lambda offset: web.stream(url, BLOB_MAX_BYTES, on_chunk, offset=offset), BLOB_MAX_BYTES
        )

    return RemoteFile(field=field, digest=digest, size_bytes=0, bring=bring)


async def _read_bundled_signature(client: RegistryClient, opened: OpenBundle) -> SignedManifest | None:
    name = MANIFEST_NAME + SIGNATURE_SUFFIX
    file = next((file for file in opened.bundle.files if file.name == name), None)
    if file is None:
        return None
    return _make_signed(opened.content, await client.read_blob(opened.reference, file.descriptor, SIGNATURE_MAX_BYTES))


async def _read_web_signature(web: Web, url: str, manifest: bytes) -> SignedManifest | None:
    try:
        return _make_signed(manifest, await web.read(url, SIGNATURE_MAX_BYTES))
    except (NotFound, Forbidden):  # some servers say the second of what is not there
        return None


def _make_signed(manifest: bytes, signature: bytes) -> SignedManifest:
    try:
        return SignedManifest(manifest=manifest.decode(), signature=signature.decode())
    except UnicodeDecodeError as error:
        raise InvalidInput("what lies beside the manifest is no minisign signature", field="signature") from error
