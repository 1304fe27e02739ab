"""OCI image layouts (image-spec v1.1, image-layout.md), as directories and as tar archives: read with suspicion."""

from __future__ import annotations

import hashlib
import platform
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from volant.core.errors import ChecksumMismatch, InvalidInput
from volant.core.ids import check_digest
from volant.fledge.layers.layer import LAYER_TYPES, LayerBlob

DOCUMENT_MAX_BYTES = 4 * 1024 * 1024
INDEX_MAX_DEPTH = 4
REF_NAME = "org.opencontainers.image.ref.name"

_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_ARCHIVE_MEMBER = re.compile(r"(?:\./)?(oci-layout|index\.json|blobs/sha256/[0-9a-f]{64})")
DocumentT = TypeVar("DocumentT")


class Platform(msgspec.Struct, frozen=True):
    architecture: str = ""
    os: str = ""
    variant: str = ""


class Descriptor(msgspec.Struct, frozen=True, kw_only=True):
    media_type: str = msgspec.field(name="mediaType", default="")
    digest: str
    size: int
    annotations: dict[str, str] | None = None
    platform: Platform | None = None


class AnyDescriptor(Protocol):
    """What a manifest says of a layer."""

    @property
    def media_type(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def size(self) -> int: ...


class Index(msgspec.Struct, frozen=True):
    manifests: tuple[Descriptor, ...] = ()


class ImageManifest(msgspec.Struct, frozen=True):
    config: Descriptor
    layers: tuple[Descriptor, ...]


class Healthcheck(msgspec.Struct, frozen=True, rename="pascal"):
    """Docker's extension of the configuration; times are nanoseconds, 0 or null for Docker's defaults."""

    test: tuple[str, ...] | None = None
    interval: int | None = None
    timeout: int | None = None
    retries: int | None = None


class ImageSettings(msgspec.Struct, frozen=True, rename="pascal"):
    """The ``config`` object of an image configuration; null and absent are the same."""

    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    env: tuple[str, ...] | None = None
    user: str | None = None
    working_dir: str | None = None
    exposed_ports: dict[str, object] | None = None
    stop_signal: str | None = None
    labels: dict[str, str] | None = None
    healthcheck: Healthcheck | None = None


class RootFilesystem(msgspec.Struct, frozen=True):
    """``diff_ids`` are the digests of the layers' uncompressed archives, in their order."""

    diff_ids: tuple[str, ...] = ()


class ImageConfig(msgspec.Struct, frozen=True):
    created: str | None = None
    architecture: str = ""
    os: str = ""
    config: ImageSettings | None = None
    rootfs: RootFilesystem | None = None


class Image(msgspec.Struct, frozen=True):
    """One image, for one platform. ``digest`` is that of its manifest; ``layers`` lie on this machine, the lowest first."""

    digest: str
    layers: tuple[LayerBlob, ...]
    config: ImageConfig
    tag: str


def unpack_archive(archive: Path, target: Path) -> None:
    """Write an OCI archive's layout into the empty directory ``target``; each blob must be what its name says.

    Raises:
        InvalidInput: it is no tar, or holds no layout. ChecksumMismatch: a blob is damaged.
    """
    blobs = target / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    found: set[str] = set()
    try:
        with tarfile.open(archive, mode="r|*") as tar:
            for member in tar:
                name = _ARCHIVE_MEMBER.fullmatch(member.name)
                if not name or not member.isfile() or name[1] in found:
                    continue
                found.add(name[1])
                reader = tar.extractfile(member)
                assert reader is not None
                digest = hashlib.sha256()
                with (target / name[1]).open("xb") as writer:
                    while chunk := reader.read(1 << 20):
                        digest.update(chunk)
                        writer.write(chunk)
                if "/" in name[1] and digest.hexdigest() != name[1].rpartition("/")[2]:
                    raise ChecksumMismatch(f"{archive}: the blob {name[1]} is damaged", hint="make or copy the archive again")
    except (tarfile.TarError, EOFError) as error:
        raise InvalidInput(f"{archive} is not a whole tar archive: {error}", field="source.image") from error
    if "index.json" not in found:
        raise InvalidInput(f"{archive} is no OCI archive: it has no index.json", field="source.image")


def machine_platform() -> str:
    """``linux/amd64`` and the like: what guests here are."""
    return f"linux/{_ARCHITECTURES.get(platform.machine(), platform.machine())}"


def read_image(layout: Path, tag: str = "", wanted: str = "") -> Image:
    """Find the image called ``tag`` (or the only one, or ``latest``) in a layout, for the platform ``wanted`` (``os/arch``, with
    ``/variant`` when that matters), or this machine's.

    Raises:
        InvalidInput: there is no such image, or it is of a kind that cannot be unpacked. ChecksumMismatch: a document is damaged.
    """
    wanted = wanted or machine_platform()
    if not (layout / "index.json").is_file():
        raise InvalidInput(f"{layout} is no OCI layout: it has no index.json", field="source.image")
    index = _decode(_read_bounded(layout / "index.json"), Index, f"{layout}/index.json")
    descriptor = _choose_tag(index.manifests, tag, layout)
    depth = 0
    while descriptor.media_type in _INDEXES:
        depth += 1
        if depth > INDEX_MAX_DEPTH:
            raise InvalidInput(f"{layout}: its indexes are nested more than {INDEX_MAX_DEPTH} deep", field="source.image")
        nested = _decode(_read_blob(layout, descriptor), Index, descriptor.digest)
        descriptor = _choose_platform(nested.manifests, wanted, layout)
    if descriptor.media_type not in _MANIFESTS:
        raise InvalidInput(
            f"{layout}: {descriptor.media_type or 'an object without a media type'} is no image", field="source.image"
        )
    manifest = _decode(_read_blob(layout, descriptor), ImageManifest, descriptor.digest)
    config = _decode(_read_blob(layout, manifest.config), ImageConfig, manifest.config.digest)
    found = f"{config.os or 'linux'}/{config.architecture}"
    if config.architecture and found != "/".join(wanted.split("/")[:2]):
        raise InvalidInput(f"{layout}: the image is for {found}, the guest is {wanted}", field="source.image")
    name = (descriptor.annotations or {}).get(REF_NAME, tag)
    layers = [(layer, blob_path(layout, layer.digest)) for layer in manifest.layers]
    return make_image(descriptor.digest, layers, config, tag or name)


def make_image(digest: str, layers: Sequence[tuple[AnyDescriptor, Path]], config: ImageConfig, tag: str) -> Image:
    """The image of what its manifest and its configuration say; each layer comes with the file that holds it.

    Raises:
        InvalidInput: a layer is of a kind that cannot be unpacked.
    """
    diff_ids = config.rootfs.diff_ids if config.rootfs is not None else ()
    if diff_ids and len(diff_ids) != len(layers):
        raise InvalidInput(f"the image has {len(layers)} layers and names {len(diff_ids)}", field="source.image")
    blobs = []
    for number, (layer, path) in enumerate(layers):
        if layer.media_type not in LAYER_TYPES:
            raise InvalidInput(f"a layer of type {layer.media_type!r} cannot be unpacked", field="source.image")
        blobs.append(
            LayerBlob(
                path=path,
                digest=check_digest(layer.digest, "source.image"),
                size_bytes=layer.size,
                media_type=layer.media_type,
                diff_id=diff_ids[number] if diff_ids else None,
            )
        )
    return Image(digest, tuple(blobs), config, tag)


def decode_config(content: bytes, what: str) -> ImageConfig:
    """An image configuration. Raises InvalidInput."""
    return _decode(content, ImageConfig, what)


def _choose_tag(manifests: tuple[Descriptor, ...], tag: str, layout: Path) -> Descriptor:
    names = [(descriptor.annotations or {}).get(REF_NAME, "") for descriptor in manifests]
    if tag:
        chosen = [descriptor for descriptor, name in zip(manifests, names, strict=True) if name == tag]
    else:
        chosen = list(manifests) if len(manifests) == 1 else [d for d, n in zip(manifests, names, strict=True) if n == "latest"]
    if len(chosen) == 1:
        return chosen[0]
    known = ", ".join(sorted(name for name in names if name)) or "none with a tag"
    if not tag and not chosen:
        raise InvalidInput(
            f"{layout} holds {len(manifests)} images ({known})", field="source.image", hint='say which: "oci:PATH:TAG"'
        )
    many = "more than one" if chosen else "no"
    raise InvalidInput(
        f"{layout} has {many} image with the tag {tag or 'latest'!r}", field="source.image", hint=f"it has: {known}"
    )


def _choose_platform(manifests: tuple[Descriptor, ...], wanted: str, layout: Path) -> Descriptor:
    system, architecture, variant = [*wanted.split("/"), ""][:3]
    fitting = [
        one
        for one in manifests
        if one.platform is not None and (one.platform.os, one.platform.architecture) == (system, architecture)
    ]
    for descriptor in fitting:
        if descriptor.platform is not None and variant in ("", descriptor.platform.variant):
            return descriptor
    if len(manifests) == 1 and manifests[0].platform is None:
        return manifests[0]
    known = sorted({_name_platform(one.platform) for one in manifests if one.platform is not None})
    raise InvalidInput(f"{layout} has no image for {wanted}", field="source.image", hint=f"it has: {', '.join(known) or 'none'}")


def _name_platform(one: Platform) -> str:
    return "/".join(filter(None, (one.os, one.architecture, one.variant)))


def blob_path(layout: Path, digest: str) -> Path:
    return layout / "blobs" / "sha256" / check_digest(digest, "source.image").removeprefix("sha256:")


def _read_bounded(path: Path) -> bytes:
    with path.open("rb") as stream:
        content = stream.read(DOCUMENT_MAX_BYTES + 1)
    if len(content) > DOCUMENT_MAX_BYTES:
        raise InvalidInput(f"{path} is larger than {DOCUMENT_MAX_BYTES} bytes", field="source.image")
    return content


def _read_blob(layout: Path, descriptor: Descriptor) -> bytes:
    path = blob_path(layout, descriptor.digest)
    try:
        content = _read_bounded(path)
    except FileNotFoundError as error:
        raise InvalidInput(f"{layout} lacks the blob {descriptor.digest}", field="source.image") from error
    if f"sha256:{hashlib.sha256(content).hexdigest()}" != descriptor.digest:
        raise ChecksumMismatch(f"{layout}: the blob {descriptor.digest} is damaged", hint="copy the image again")
    return content


def _decode(content: bytes, kind: type[DocumentT], what: str) -> DocumentT:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"{what} is not what it should be: {error}", field="source.image") from error
