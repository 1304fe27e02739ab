"""A plugin as one OCI artifact (image-spec v1.1, "Guidelines for Artifact Usage"): its manifest is the config, its files layers.

Files are stored as they are, so that a file has one digest everywhere: in the plugin's manifest, in the registry, in the
artifact store. Nobody unpacks anything to know whether they have it, and plugins that share a kernel share the blob.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal
from urllib.parse import unquote, urlsplit

import msgspec

from volant.artifact.registry.documents import (
    BLOB_MAX_BYTES,
    OCI_MANIFEST,
    Descriptor,
    check_descriptor,
    find_kind,
    read_manifest,
)
from volant.core.errors import ChecksumMismatch, InvalidInput, TooLarge
from volant.core.manifest import MANIFEST_MAX_BYTES
from volant.core.manifest import Manifest as PluginManifest
from volant.core.manifest import read_manifest as read_plugin_manifest

ARTIFACT_TYPE = "application/vnd.volant.plugin.v1"
CONFIG_TYPE = "application/vnd.volant.plugin.manifest.v1+json"
TITLE = "org.opencontainers.image.title"
VERSION = "org.opencontainers.image.version"
MANIFEST_NAME = "manifest.json"
SIGNATURE_SUFFIX = ".minisig"
MAX_FILES = 32

Role = Literal["kernel", "boot", "rootfs", "initramfs", "build", "sbom", "provenance", "contents", "signature"]

ROLE_TYPES: dict[Role, str] = {
    "kernel": "application/vnd.volant.plugin.kernel.v1",
    "boot": "application/vnd.volant.plugin.boot.v1",
    "rootfs": "application/vnd.volant.plugin.rootfs.v1",
    "initramfs": "application/vnd.volant.plugin.initramfs.v1",
    "build": "application/vnd.volant.plugin.build.v1+json",
    "sbom": "application/spdx+json",
    "provenance": "application/vnd.in-toto+json",
    "contents": "application/vnd.volant.plugin.contents.v1.jsonl+zstd",
    "signature": "application/vnd.volant.plugin.signature.v1",
}
DOCUMENT_NAMES: dict[str, Role] = {
    "build.json": "build", "sbom.spdx.json": "sbom", "provenance.json": "provenance", "contents.jsonl.zst": "contents",
}  # fmt: skip

_ROLES = {media_type: role for role, media_type in ROLE_TYPES.items()}
_ORDER = tuple(ROLE_TYPES)
_MAX_BYTES: dict[Role, int] = {
    "build": 16 * 1024**2, "sbom": 256 * 1024**2, "provenance": 64 * 1024**2, "contents": 256 * 1024**2,
    "signature": 16 * 1024,
}  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
_REMOTE = ("http", "https")


class BundleFile(msgspec.Struct, frozen=True):
    name: str
    role: Role
    descriptor: Descriptor


class Bundle(msgspec.Struct, frozen=True):
    """``config`` is the plugin's manifest, as a blob; ``files`` are in the order of their roles and names."""

    config: Descriptor
    files: tuple[BundleFile, ...]


class _BundleManifest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    schema_version: int = 2
    media_type: str = OCI_MANIFEST
    artifact_type: str = ARTIFACT_TYPE
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: dict[str, str]


def write_bundle_manifest(config: Descriptor, files: Sequence[BundleFile], plugin: PluginManifest) -> bytes:
    """The artifact's manifest; the same files give the same bytes.

    Raises:
        InvalidInput, TooLarge: the files are no bundle, or one that ``read_bundle_manifest`` would not take.
    """
    document = _BundleManifest(
        config=msgspec.structs.replace(config, media_type=CONFIG_TYPE, annotations={TITLE: MANIFEST_NAME}),
        layers=tuple(
            msgspec.structs.replace(file.descriptor, media_type=ROLE_TYPES[file.role], annotations={TITLE: file.name})
            for file in sorted(files, key=lambda file: (_ORDER.index(file.role), file.name))
        ),
        annotations={TITLE: plugin.name, VERSION: plugin.version},
    )
    content = msgspec.json.encode(document)
    read_bundle_manifest(content)
    return content


def read_bundle_manifest(content: bytes, what: str = "the artifact") -> Bundle:
    """Read what a registry gave. Only the files that this module knows are taken, under names that cannot lead anywhere.

    Raises:
        InvalidInput: it is no plugin, or holds what a plugin cannot. TooLarge: it, or a file in it, is larger than that may be.
    """
    if len(content) > MANIFEST_MAX_BYTES:
        raise TooLarge(f"{what}: its manifest has more than {MANIFEST_MAX_BYTES} bytes")
    kind = find_kind(content, "", what)
    manifest = read_manifest(content, what) if kind == OCI_MANIFEST else None
    if manifest is None or manifest.artifact_type != ARTIFACT_TYPE or manifest.config.media_type != CONFIG_TYPE:
        found = kind if manifest is None else manifest.artifact_type or manifest.config.media_type
        raise InvalidInput(
            f"{what} is no Volant plugin but {found[:120] or 'an image'}", field="reference",
            hint="an image becomes a plugin with fledge build",
        )  # fmt: skip
    if len(manifest.layers) > MAX_FILES:
        raise TooLarge(f"{what} has {len(manifest.layers)} files, more than {MAX_FILES}")
    check_descriptor(manifest.config, f"{what}: {MANIFEST_NAME}", MANIFEST_MAX_BYTES)
    files = tuple(_read_file(layer, what) for layer in manifest.layers)
    _check_names(files, what)
    return Bundle(manifest.config, files)


def check_plugin(content: bytes, bundle: Bundle, what: str = "the artifact") -> PluginManifest:
    """The plugin's manifest, when every file that it names lies in the bundle and is the one that it means.

    Raises:
        InvalidInput: it breaks a rule, or a file is missing or too many. ChecksumMismatch: a file is another one.
    """
    plugin = read_plugin_manifest(content)
    media = list_media(plugin)
    present: dict[Role, BundleFile] = {
        file.role: file for file in bundle.files if file.role in ("kernel", "boot", "rootfs", "initramfs")
    }
    if {role for role, _, _ in media} != set(present):
        named = ", ".join(sorted(role for role, _, _ in media))
        raise InvalidInput(
            f"{what}: its manifest names {named or 'no file'}, and it holds {', '.join(sorted(present)) or 'none'}"
        )
    for role, name, checksum in media:
        file = present[role]
        if file.name != name:
            raise InvalidInput(f"{what}: its manifest calls the {role} {name!r}, and it holds {file.name!r}")
        if checksum and checksum != file.descriptor.digest:
            raise ChecksumMismatch(f"{what}: {name} is {file.descriptor.digest}, and its manifest says {checksum}")
    return plugin


def list_media(plugin: PluginManifest) -> list[tuple[Role, str, str]]:
    """``(role, file name, checksum or "")`` of the files beside the manifest. What is fetched from elsewhere is left out.

    Raises:
        InvalidInput: a file does not lie beside the manifest.
    """
    boot = plugin.boot
    media: list[tuple[Role, str, str]] = []
    if boot is not None:
        media.append(("kernel", boot.kernel.url, boot.kernel.checksum))
        if boot.initramfs is not None:
            media.append(("boot", boot.initramfs.url, boot.initramfs.checksum))
    if plugin.rootfs is not None:
        media.append(("rootfs", plugin.rootfs.url, plugin.rootfs.checksum))
    if plugin.initramfs is not None:
        media.append(("initramfs", plugin.initramfs.url, plugin.initramfs.checksum))
    return [(role, _local_name(role, url), checksum) for role, url, checksum in media if urlsplit(url).scheme not in _REMOTE]


def _local_name(role: Role, url: str) -> str:
    parts = urlsplit(url)
    name = unquote(parts.netloc + parts.path) if parts.scheme == "file" else url
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"the {role} {url[:120]!r} does not lie beside the manifest",
            field=role,
            hint="a bundle holds what fledge build wrote",
        )
    return name


def _read_file(layer: Descriptor, what: str) -> BundleFile:
    role = _ROLES.get(layer.media_type)
    name = (layer.annotations or {}).get(TITLE, "")
    if role is None:
        raise InvalidInput(
            f"{what}: {layer.media_type[:120]!r} is nothing that a plugin holds", hint="is this Volant too old for it?"
        )
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"{what}: {name[:120]!r} is no name for a file of a plugin")
    check_descriptor(layer, f"{what}: {name}", _MAX_BYTES.get(role, BLOB_MAX_BYTES))
    return BundleFile(name, role, layer)


def _check_names(files: tuple[BundleFile, ...], what: str) -> None:
    names = [file.name for file in files]
    known = {*names, MANIFEST_NAME}
    if len(known) != len(names) + 1:
        raise InvalidInput(f"{what} holds two files of one name")
    roles = [file.role for file in files if file.role != "signature"]
    if len(set(roles)) != len(roles):
        raise InvalidInput(f"{what} holds two files of one kind")
    for file in files:
        is_signature = file.name.endswith(SIGNATURE_SUFFIX)
        if (file.role == "signature") != is_signature or (is_signature and file.name.removesuffix(SIGNATURE_SUFFIX) not in known):
            raise InvalidInput(f"{what}: {file.name!r} cannot be its {file.role}")
        if DOCUMENT_NAMES.get(file.name, file.role) != file.role or (
            file.role in DOCUMENT_NAMES.values() and file.name not in DOCUMENT_NAMES
        ):
            raise InvalidInput(f"{what}: {file.name!r} cannot be its {file.role}")
