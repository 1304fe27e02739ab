"""OCI image layouts (image-spec v1.1, image-layout.md), as directories and as tar archives: read with suspicion."""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
import re
import tarfile
from pathlib import Path
from typing import TypeVar

import msgspec

from volant.core.errors import ChecksumMismatch, InvalidInput
from volant.core.ids import check_digest

DOCUMENT_MAX_BYTES = 4 * 1024 * 1024
INDEX_MAX_DEPTH = 4
REF_NAME = "org.opencontainers.image.ref.name"

_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_LAYERS = (
    "application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
)  # fmt: skip
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_ARCHIVE_MEMBER = re.compile(r"(?:\./)?(oci-layout|index\.json|blobs/sha256/[0-9a-f]{64})")
_TRANSPORTS = ("docker://", "docker-daemon:", "docker-archive:", "containers-storage:", "dir:", "https://", "http://")
DocumentT = TypeVar("DocumentT")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


class Platform(msgspec.Struct, frozen=True):
    architecture: str = ""
    os: str = ""


class Descriptor(msgspec.Struct, frozen=True, kw_only=True):
    media_type: str = msgspec.field(name="mediaType", default="")
    digest: str
    size: int
    annotations: dict[str, str] | None = None
    platform: Platform | None = None


class Index(msgspec.Struct, frozen=True):
    manifests: tuple[Descriptor, ...] = ()


class ImageManifest(msgspec.Struct, frozen=True):
    config: Descriptor
    layers: tuple[Descriptor, ...]


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


class ImageConfig(msgspec.Struct, frozen=True):
    created: str | None = None
    architecture: str = ""
    os: str = ""
    config: ImageSettings | None = None


class Image(msgspec.Struct, frozen=True):
    """One image of a layout, for one platform. ``digest`` is that of its manifest."""

    layout: Path
    descriptor: Descriptor
    layers: tuple[Descriptor, ...]
    config: ImageConfig
    tag: str

    @property
    def digest(self) -> str:
        return self.descriptor.digest


class Reference(msgspec.Struct, frozen=True):
    path: Path
    tag: str
    is_archive: bool


def parse_reference(text: str, base: Path) -> Reference:
    """Read ``oci:PATH[:TAG]``, ``oci-archive:PATH[:TAG]`` or ``PATH``; a relative path begins at ``base``.

    Raises:
        InvalidInput: it names a registry or another transport, or there is nothing at that path.
    """
    for transport in _TRANSPORTS:
        if text.startswith(transport):
            raise InvalidInput(
                f"source.image {text!r} is not a file: fledge reads OCI layouts and archives on this machine",
                field="source.image",
                hint=f'copy it first (skopeo copy {text} oci:image:latest), then write image = "oci:image:latest"',
            )
    scheme, separator, rest = text.partition(":")
    named = scheme in ("oci", "oci-archive") and bool(separator)
    location = rest if named else text
    path, tag = (base / location), ""
    if not path.exists():
        head, colon, tail = location.rpartition(":")
        if colon and _TAG.fullmatch(tail) and (base / head).exists():
            path, tag = base / head, tail
        else:
            raise InvalidInput(
                f"source.image {text!r}: there is no OCI layout or archive at {path}",
                field="source.image",
                hint=f"to take it from a registry: skopeo copy docker://{location} oci:image:latest"
                if not named
                else "PATH is relative to the directory of fledge.toml",
            )
    is_archive = path.is_file()
    if named and is_archive != (scheme == "oci-archive"):
        wanted = "oci-archive" if is_archive else "oci"
        raise InvalidInput(
            f"{path} is {'a file' if is_archive else 'a directory'}", field="source.image", hint=f"write {wanted}:{location}"
        )
    return Reference(path, tag, is_archive)


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
                if member.name.lstrip("./") == "manifest.json":
                    found.add("manifest.json")
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
        if "manifest.json" in found:
            raise InvalidInput(
                f"{archive} is a docker-save archive",
                field="source.image",
                hint=f'convert it (skopeo copy docker-archive:{archive} oci:image:latest), then write image = "oci:image:latest"',
            )
        raise InvalidInput(f"{archive} is no OCI archive: it has no index.json", field="source.image")


def read_image(layout: Path, tag: str = "", architecture: str | None = None) -> Image:
    """Find the image called ``tag`` (or the only one, or ``latest``) in a layout, for this machine's architecture.

    Raises:
        InvalidInput: there is no such image, or it is of a kind that cannot be unpacked. ChecksumMismatch: a document is damaged.
    """
    wanted = architecture or _ARCHITECTURES.get(platform.machine(), platform.machine())
    if not (layout / "index.json").is_file():
        raise InvalidInput(f"{layout} is no OCI layout: it has no index.json", field="source.image")
    index = _decode(_read_bounded(layout / "index.json"), Index, f"{layout}/index.json")
    descriptor = _choose_tag(index.manifests, tag, layout)
    depth = 0
    while descriptor.media_type == _INDEX:
        depth += 1
        if depth > INDEX_MAX_DEPTH:
            raise InvalidInput(f"{layout}: its indexes are nested more than {INDEX_MAX_DEPTH} deep", field="source.image")
        nested = _decode(_read_blob(layout, descriptor), Index, descriptor.digest)
        descriptor = _choose_platform(nested.manifests, wanted, layout)
    if descriptor.media_type != _MANIFEST:
        raise InvalidInput(
            f"{layout}: {descriptor.media_type or 'an object without a media type'} is no OCI image",
            field="source.image",
            hint=f"convert it: skopeo copy --format oci oci:{layout}{':' + tag if tag else ''} oci:image:latest",
        )
    manifest = _decode(_read_blob(layout, descriptor), ImageManifest, descriptor.digest)
    config = _decode(_read_blob(layout, manifest.config), ImageConfig, manifest.config.digest)
    if config.os not in ("", "linux") or config.architecture not in ("", wanted):
        raise InvalidInput(
            f"{layout}: the image is for {config.os or 'linux'}/{config.architecture}, the guest is linux/{wanted}",
            field="source.image",
        )
    for layer in manifest.layers:
        check_digest(layer.digest, "source.image")
        if layer.media_type not in _LAYERS:
            raise InvalidInput(
                f"{layout}: a layer of type {layer.media_type!r} cannot be unpacked",
                field="source.image",
                hint=f"convert it: skopeo copy --dest-compress-format gzip oci:{layout} oci:image:latest",
            )
    name = (descriptor.annotations or {}).get(REF_NAME, tag)
    return Image(layout, descriptor, manifest.layers, config, tag or name)


async def verify_layers(image: Image) -> None:
    """Read every layer once. Raises ChecksumMismatch when one is missing, cut short or altered."""

    def verify() -> None:
        for layer in image.layers:
            path = _blob_path(image.layout, layer.digest)
            try:
                with path.open("rb") as stream:
                    size = os.fstat(stream.fileno()).st_size
                    digest = hashlib.file_digest(stream, "sha256").hexdigest() if size == layer.size else ""
            except FileNotFoundError as error:
                raise ChecksumMismatch(f"{image.layout}: the layer {layer.digest} is missing") from error
            if f"sha256:{digest}" != layer.digest:
                raise ChecksumMismatch(
                    f"{image.layout}: the layer {layer.digest} is damaged ({size} bytes of {layer.size})",
                    hint="copy the image again",
                )

    await asyncio.to_thread(verify)


def write_view(image: Image, target: Path) -> None:
    """Make ``target`` a layout that holds this one image under the tag ``fledge``, its blobs those of the original.

    So a tool that finds images by tag alone can be pointed at any image, and writes nothing into the layout it came from.
    """
    target.mkdir()
    (target / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (target / "blobs").symlink_to((image.layout / "blobs").absolute())
    entry = {
        "mediaType": _MANIFEST, "digest": image.digest, "size": image.descriptor.size, "annotations": {REF_NAME: "fledge"},
    }  # fmt: skip
    (target / "index.json").write_bytes(msgspec.json.encode({"schemaVersion": 2, "manifests": [entry]}))


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


def _choose_platform(manifests: tuple[Descriptor, ...], architecture: str, layout: Path) -> Descriptor:
    for descriptor in manifests:
        if descriptor.platform is not None and (descriptor.platform.os, descriptor.platform.architecture) == (
            "linux",
            architecture,
        ):
            return descriptor
    if len(manifests) == 1 and manifests[0].platform is None:
        return manifests[0]
    known = sorted({f"{d.platform.os}/{d.platform.architecture}" for d in manifests if d.platform is not None})
    raise InvalidInput(
        f"{layout} has no image for linux/{architecture}", field="source.image", hint=f"it has: {', '.join(known) or 'none'}"
    )


def _blob_path(layout: Path, digest: str) -> Path:
    return layout / "blobs" / "sha256" / check_digest(digest, "source.image").removeprefix("sha256:")


def _read_bounded(path: Path) -> bytes:
    with path.open("rb") as stream:
        content = stream.read(DOCUMENT_MAX_BYTES + 1)
    if len(content) > DOCUMENT_MAX_BYTES:
        raise InvalidInput(f"{path} is larger than {DOCUMENT_MAX_BYTES} bytes", field="source.image")
    return content


def _read_blob(layout: Path, descriptor: Descriptor) -> bytes:
    path = _blob_path(layout, descriptor.digest)
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
