"""Descriptors, manifests and indexes (image-spec v1.1, and Docker's schema 2), read with suspicion."""

from __future__ import annotations

import hashlib
from typing import TypeVar

import msgspec

from volant.core.errors import ChecksumMismatch, InvalidInput, TooLarge
from volant.core.ids import Digest, check_digest

DOCUMENT_MAX_BYTES = 4 * 1024 * 1024
"""Of a manifest, an index or an image configuration; distribution-spec asks registries for at least this."""

BLOB_MAX_BYTES = 64 * 1024**3
MAX_LAYERS = 1024
MAX_MANIFESTS = 1024

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
ACCEPT = ", ".join((OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST))

_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+"

DocumentT = TypeVar("DocumentT")


class Platform(msgspec.Struct, frozen=True, omit_defaults=True):
    architecture: str = ""
    os: str = ""
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


class Descriptor(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """``size`` counts bytes. Only sha256 digests are taken."""

    media_type: str = ""
    digest: Digest
    size: int
    annotations: dict[str, str] | None = None
    platform: Platform | None = None
    artifact_type: str = ""


class Index(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    media_type: str = ""
    manifests: tuple[Descriptor, ...]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    media_type: str = ""
    artifact_type: str = ""
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: dict[str, str] | None = None


_ABSENT = msgspec.Raw(b"null")


class _Shape(msgspec.Struct, frozen=True, rename="camel"):
    schema_version: int = 0
    media_type: str = ""
    manifests: msgspec.Raw = _ABSENT
    layers: msgspec.Raw = _ABSENT
    config: msgspec.Raw = _ABSENT
    fs_layers: msgspec.Raw = _ABSENT


def digest_bytes(content: bytes) -> Digest:
    return Digest(f"sha256:{hashlib.sha256(content).hexdigest()}")


def describe_bytes(content: bytes, media_type: str, annotations: dict[str, str] | None = None) -> Descriptor:
    return Descriptor(media_type=media_type, digest=digest_bytes(content), size=len(content), annotations=annotations)


def find_kind(content: bytes, declared: str, what: str) -> str:
    """The media type of a manifest or an index, which what declared it (header or descriptor) and the document agree upon.

    A document that could be read as either, depending on who reads, is refused (CVE-2021-41190).

    Raises:
        InvalidInput: it is neither, is of Docker's schema 1, or calls itself something else than it was declared to be.
    """
    shape = decode_document(content, _Shape, what)
    named = declared.partition(";")[0].strip().lower()
    if named.startswith(_SCHEMA1) or shape.schema_version == 1 or shape.fs_layers != _ABSENT:
        raise InvalidInput(
            f"{what} is an image of Docker's schema 1, which names no content by digest alone and is not taken",
            field="reference", hint="push it again with any tool of after 2017",
        )  # fmt: skip
    is_index, is_manifest = shape.manifests != _ABSENT, shape.layers != _ABSENT or shape.config != _ABSENT
    if is_index and is_manifest:
        raise InvalidInput(f"{what} is an index and a manifest at once, which is not taken", field="reference")
    known = INDEX_TYPES | MANIFEST_TYPES
    if named in known and shape.media_type and shape.media_type != named:
        raise InvalidInput(f"{what} was declared as {named} and calls itself {shape.media_type[:120]}", field="reference")
    kind = named if named in known else shape.media_type or (OCI_INDEX if is_index else OCI_MANIFEST)
    fits = (kind in INDEX_TYPES and is_index) or (kind in MANIFEST_TYPES and is_manifest)
    if not fits:
        raise InvalidInput(f"{what} is no image: {(kind or named or 'it has no media type')[:120]}", field="reference")
    return kind


def read_index(content: bytes, what: str) -> Index:
    """Raises InvalidInput, TooLarge."""
    index = decode_document(content, Index, what)
    if len(index.manifests) > MAX_MANIFESTS:
        raise TooLarge(f"{what} lists {len(index.manifests)} manifests, more than {MAX_MANIFESTS}")
    return index


def read_manifest(content: bytes, what: str) -> Manifest:
    """Raises InvalidInput, TooLarge."""
    manifest = decode_document(content, Manifest, what)
    if len(manifest.layers) > MAX_LAYERS:
        raise TooLarge(f"{what} has {len(manifest.layers)} layers, more than {MAX_LAYERS}")
    for descriptor in (manifest.config, *manifest.layers):
        check_descriptor(descriptor, what)
    return manifest


def check_descriptor(descriptor: Descriptor, what: str, max_bytes: int = BLOB_MAX_BYTES) -> Descriptor:
    """Return it. Raises InvalidInput for a digest or size that cannot be, TooLarge for one beyond ``max_bytes``."""
    check_digest(descriptor.digest, "reference")
    if descriptor.size < 0:
        raise InvalidInput(f"{what}: {descriptor.digest} has a size of {descriptor.size}", field="reference")
    if descriptor.size > max_bytes:
        raise TooLarge(f"{what}: {descriptor.digest} has {descriptor.size} bytes, more than the {max_bytes} that it may have")
    return descriptor


def check_content(content: bytes, descriptor: Descriptor, what: str) -> bytes:
    """Return ``content``. Raises ChecksumMismatch when it is not what ``descriptor`` says."""
    if len(content) != descriptor.size or digest_bytes(content) != descriptor.digest:
        found = f"{len(content)} bytes came, and they are {digest_bytes(content)}"
        raise ChecksumMismatch(f"{what}: {found}, for {descriptor.digest} of {descriptor.size} bytes")
    return content


def decode_document(content: bytes, kind: type[DocumentT], what: str) -> DocumentT:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"{what} is not what it should be: {error}", field="reference") from error
