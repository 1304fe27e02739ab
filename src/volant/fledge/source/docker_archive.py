"""Archives of ``docker save`` and ``podman save`` (Docker image specification v1.2, "Combined Image JSON + Filesystem Changeset
Format"), made OCI layouts.

Without Docker, and without skopeo, which compresses every layer anew. The archives of newer Dockers, which are OCI layouts too,
are read the same way: they keep ``manifest.json``.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import hashlib
import lzma
import posixpath
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

import msgspec
import zstandard

from volant.core.errors import ChecksumMismatch, DiskFull, InvalidInput, TooLarge

CHUNK = 1024 * 1024
DOCUMENT_MAX_BYTES = 4 * 1024 * 1024
MEMBERS_MAX = 20_000
HEADERS_MAX_BYTES = 32 * 1024 * 1024
UNCOMPRESSED_MAX_BYTES = 1 << 37
"""128 GiB: what a compressed archive may hold."""

_DocumentT = TypeVar("_DocumentT")

REF_NAME = "org.opencontainers.image.ref.name"

_OCI = "application/vnd.oci.image"
_HEX_NAME = re.compile(r"(?:blobs/sha256/)?([0-9a-f]{64})(?:\.json)?")
_LAYER_TYPES = {b"\x1f\x8b": f"{_OCI}.layer.v1.tar+gzip", b"\x28\xb5\x2f\xfd": f"{_OCI}.layer.v1.tar+zstd"}
_PLAIN_LAYER = f"{_OCI}.layer.v1.tar"
_OPENERS: dict[bytes, Callable[[BinaryIO], object]] = {
    b"\x1f\x8b": lambda stream: gzip.GzipFile(fileobj=stream),
    b"\x28\xb5\x2f\xfd": lambda stream: zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(
        stream, read_across_frames=True
    ),
    b"\xfd7zXZ\0": lzma.LZMAFile,
    b"BZh": bz2.BZ2File,
}


# What image-spec v1.1, config.md, has, and Docker's check of health.
_IMAGE_KEYS = ("architecture", "author", "config", "created", "history", "os", "os.version", "rootfs", "variant")
_SETTINGS_KEYS = (
    "Cmd", "Entrypoint", "Env", "ExposedPorts", "Healthcheck", "Labels", "OnBuild", "Shell", "StopSignal", "User", "Volumes",
    "WorkingDir",
)  # fmt: skip


class _Entry(msgspec.Struct, frozen=True, rename="pascal"):
    config: str
    layers: tuple[str, ...]
    repo_tags: tuple[str, ...] | None = None


class _RootFilesystem(msgspec.Struct, frozen=True):
    diff_ids: tuple[str, ...] = ()


class _Config(msgspec.Struct, frozen=True):
    rootfs: _RootFilesystem = _RootFilesystem()


class _Blob(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] | msgspec.UnsetType = msgspec.UNSET


def unpack_docker_archive(archive: Path, target: Path, tag: str = "", *, is_settled: bool = False) -> None:
    """Write one image of the archive into the empty directory ``target``, as an OCI layout with the image's tag.

    ``tag`` is ``NAME:TAG`` or the ``TAG`` alone; an archive of one image needs none. The archive may be compressed.
    ``is_settled`` leaves out of the configuration what only tells of the container that the image was made in.

    Raises:
        InvalidInput: it is no such archive, has no such image, or is damaged. ChecksumMismatch: a part is damaged.
        TooLarge: a part is larger than any honest one. DiskFull: there is no room.
    """
    try:
        with archive.open("rb") as stream:
            opener = _choose_opener(stream)
            if opener is None:
                _Reader(archive, stream, is_settled).write_layout(target, tag)
                return
            # An archive's list of images comes last, and a compressed one cannot be gone back in.
            plain_path = target / "archive.tar"
            with plain_path.open("x+b") as plain:
                plain_path.unlink()
                _decompress(archive, opener(stream), plain)
                _Reader(archive, plain, is_settled).write_layout(target, tag)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"no room for what is in {archive}", hint="move the cache with --cache-dir") from error
        raise InvalidInput(f"{archive} cannot be read: {error.strerror or error}", field="source.image") from error


class _Reader:
    def __init__(self, archive: Path, stream: BinaryIO, is_settled: bool) -> None:
        self._archive = archive
        self._is_settled = is_settled
        self._stream = stream
        self._members: dict[str, tarfile.TarInfo] = {}

    def write_layout(self, target: Path, tag: str) -> None:
        self._read_members()
        entry = self._choose(tag)
        config = self._read_document(entry.config)
        named = _HEX_NAME.fullmatch(entry.config)
        if named and hashlib.sha256(config).hexdigest() != named[1]:
            raise ChecksumMismatch(f"{self._archive}: {entry.config} is damaged", hint="save the image again")
        diff_ids = self._decode(config, _Config, entry.config).rootfs.diff_ids
        if len(diff_ids) != len(entry.layers):
            raise self._refuse(f"the image has {len(diff_ids)} layers and the archive {len(entry.layers)}")
        if self._is_settled:
            config = _settle_config(self._decode(config, dict, entry.config))
        blobs = target / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        copied: dict[str, _Blob] = {}
        for name, diff_id in zip(entry.layers, diff_ids, strict=True):
            if name not in copied:
                copied[name] = self._copy_layer(name, blobs)
            if copied[name].media_type == _PLAIN_LAYER and copied[name].digest != diff_id:
                raise ChecksumMismatch(f"{self._archive}: the layer {name} is damaged", hint="save the image again")
        manifest = {
            "schemaVersion": 2, "mediaType": f"{_OCI}.manifest.v1+json",
            "config": _write_blob(blobs, config, f"{_OCI}.config.v1+json"), "layers": [copied[name] for name in entry.layers],
        }  # fmt: skip
        descriptor = _write_blob(blobs, msgspec.json.encode(manifest), f"{_OCI}.manifest.v1+json")
        chosen = _pick_tag(entry.repo_tags or (), tag)
        if chosen:
            descriptor = msgspec.structs.replace(descriptor, annotations={REF_NAME: chosen})
        (target / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        (target / "index.json").write_bytes(msgspec.json.encode({"schemaVersion": 2, "manifests": [descriptor]}))

    def _read_members(self) -> None:
        guarded = cast(BinaryIO, _HeaderReader(self._archive, self._stream))
        try:
            with tarfile.open(fileobj=guarded, mode="r:") as tar:
                for member in tar:
                    name = member.name.removeprefix("./")
                    if name in self._members:
                        raise self._refuse(f"{name} is in it twice")
                    self._members[name] = member
                    if len(self._members) > MEMBERS_MAX:
                        raise TooLarge(f"{self._archive} has more than {MEMBERS_MAX} members", hint="is it an image's?")
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
            raise self._refuse(f"it is not a whole tar archive: {error}") from error

    def _choose(self, tag: str) -> _Entry:
        if "manifest.json" not in self._members:
            hint = "give it as oci-archive:PATH" if "index.json" in self._members else "make one with docker save or podman save"
            raise self._refuse("it has no manifest.json", hint)
        entries = self._decode(self._read_document("manifest.json"), tuple[_Entry, ...], "manifest.json")
        known = sorted(name for entry in entries for name in entry.repo_tags or ())
        if tag:
            found = [entry for entry in entries if _pick_tag(entry.repo_tags or (), tag)]
        else:
            found = list(entries) if len(entries) == 1 else []
        if len(found) == 1:
            return found[0]
        listed = ", ".join(known) or "none with a tag"
        if not tag:
            raise self._refuse(f"it holds {len(entries)} images", f"say which, as docker-archive:PATH:TAG; it has: {listed}")
        raise self._refuse(f"it has {'more than one' if found else 'no'} image {tag!r}", f"it has: {listed}")

    def _find(self, name: str) -> tarfile.TarInfo:
        """The regular file called ``name``. Old archives have a link for a layer that occurs again: followed once."""
        member = self._members.get(name.removeprefix("./"))
        if member is not None and member.issym():
            path = posixpath.normpath(posixpath.join(posixpath.dirname(member.name), member.linkname))
            member = self._members.get(path.removeprefix("./"))
        elif member is not None and member.islnk():
            member = self._members.get(member.linkname.removeprefix("./"))
        if member is None:
            raise self._refuse(f"it lacks {name}")
        if not member.isreg() or member.issparse():
            raise self._refuse(f"{name} is no plain file")
        return member

    def _read_document(self, name: str) -> bytes:
        member = self._find(name)
        if member.size > DOCUMENT_MAX_BYTES:
            raise TooLarge(f"{self._archive}: {name} is larger than {DOCUMENT_MAX_BYTES} bytes", hint="is it an image's?")
        self._stream.seek(member.offset_data)
        content = self._stream.read(member.size)
        if len(content) != member.size:
            raise self._refuse(f"it is cut short in {name}")
        return content

    def _copy_layer(self, name: str, blobs: Path) -> _Blob:
        member = self._find(name)
        self._stream.seek(member.offset_data)
        digest = hashlib.sha256()
        kind, left = "", member.size
        part = blobs / "part"
        with part.open("xb") as writer:
            while left:
                chunk = self._stream.read(min(CHUNK, left))
                if not chunk:
                    raise self._refuse(f"it is cut short in {name}")
                kind = kind or next((kind for magic, kind in _LAYER_TYPES.items() if chunk.startswith(magic)), _PLAIN_LAYER)
                digest.update(chunk)
                writer.write(chunk)
                left -= len(chunk)
        part.rename(blobs / digest.hexdigest())
        return _Blob(kind or _PLAIN_LAYER, f"sha256:{digest.hexdigest()}", member.size)

    def _decode(self, content: bytes, kind: type[_DocumentT], what: str) -> _DocumentT:
        try:
            return msgspec.json.decode(content, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self._refuse(f"{what} is not what it should be: {error}") from error

    def _refuse(self, what: str, hint: str | None = None) -> InvalidInput:
        return InvalidInput(f"{self._archive}: {what}", field="source.image", hint=hint)


class _HeaderReader:
    """What tarfile reads headers through: it would read an extended header of any size into memory."""

    def __init__(self, archive: Path, stream: BinaryIO) -> None:
        self._archive = archive
        self._stream = stream
        self._left = HEADERS_MAX_BYTES

    def read(self, size: int) -> bytes:
        self._left -= size
        if self._left < 0:
            raise TooLarge(f"{self._archive} has more than {HEADERS_MAX_BYTES} bytes of headers", hint="is it an image's?")
        return self._stream.read(size)

    def seek(self, offset: int) -> int:
        return self._stream.seek(offset)

    def tell(self) -> int:
        return self._stream.tell()


def _pick_tag(names: tuple[str, ...], wanted: str) -> str:
    """The tag of the first name that ``wanted`` (NAME:TAG, TAG, or nothing) fits; empty when none does."""
    for name in names:
        tag = name.rpartition(":")[2]
        if wanted in ("", name, tag):
            return tag
    return ""


def _choose_opener(stream: BinaryIO) -> Callable[[BinaryIO], object] | None:
    magic = stream.read(6)
    stream.seek(0)
    return next((opener for start, opener in _OPENERS.items() if magic.startswith(start)), None)


def _decompress(archive: Path, compressed: object, plain: BinaryIO) -> None:
    reader = cast(BinaryIO, compressed)
    size = 0
    try:
        while chunk := reader.read(CHUNK):
            size += len(chunk)
            if size > UNCOMPRESSED_MAX_BYTES:
                raise TooLarge(f"{archive} holds more than {UNCOMPRESSED_MAX_BYTES} bytes", hint="is it an image's?")
            plain.write(chunk)
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zstandard.ZstdError, ValueError) as error:
        raise InvalidInput(f"{archive} is damaged: {error}", field="source.image") from error
    plain.flush()
    plain.seek(0)


def _write_blob(blobs: Path, content: bytes, media_type: str) -> _Blob:
    digest = hashlib.sha256(content).hexdigest()
    (blobs / digest).write_bytes(content)
    return _Blob(media_type, f"sha256:{digest}", len(content))


def _settle_config(config: dict[str, object]) -> bytes:
    kept = {key: config[key] for key in _IMAGE_KEYS if config.get(key) is not None}
    settings = kept.get("config")
    if isinstance(settings, dict):
        kept["config"] = {key: settings[key] for key in _SETTINGS_KEYS if settings.get(key)}
    history = kept.get("history")
    if isinstance(history, list):
        # Comments name images of the storage that it was built in.
        kept["history"] = [{key: step[key] for key in step if key != "comment"} for step in history if isinstance(step, dict)]
    return msgspec.json.encode(kept, order="sorted")
