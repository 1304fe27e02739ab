"""The files that a manifest names: where they lie, and whether they are what it says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from volant.core.errors import InvalidInput, NotFound
from volant.core.ids import Digest, check_digest
from volant.core.manifest import MANIFEST_MAX_BYTES, convert_manifest
from volant.core.manifest_origin import modernise
from volant.core.trust import SignedManifest

SIGNATURE_SUFFIX = ".minisig"
SIGNATURE_MAX_BYTES = 16 * 1024
CLOUD_INIT_FILES = ("user_data", "meta_data", "network_config")
REMOTE_SCHEMES = ("http", "https", "artifact")


@dataclass(frozen=True)
class LocalFile:
    """One file beside a manifest; ``role`` is the manifest's field."""

    role: str
    path: Path
    digest: Digest
    size_bytes: int


@dataclass(frozen=True)
class LocalManifest:
    """A manifest ready to be sent, the files beside it, and what was signed where a signature lies there too."""

    document: dict[str, Any]
    files: list[LocalFile]
    signed: SignedManifest | None


def read_local_manifest(given: Path, checksum: str = "") -> LocalManifest:
    """The manifest at ``given`` (a file, or a directory that holds ``manifest.json``), ready to be sent.

    Each local url has become ``artifact:DIGEST`` and each empty checksum the file's own. http urls are left as they are. A
    signature beside it (``manifest.json.minisig``) goes along with the manifest as it was signed.

    Raises:
        NotFound: there is no such file. InvalidInput: the manifest breaks a rule, is not ``checksum`` where that is given, or a
            file is not what it says.
    """
    path = given / "manifest.json" if given.is_dir() else given
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"there is no {path}", hint="fledge build prints the path of the manifest that it wrote") from error
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from error
    if checksum and check_digest(checksum) != "sha256:" + hashlib.sha256(content).hexdigest():
        raise InvalidInput(f"{path} is sha256:{hashlib.sha256(content).hexdigest()}, not {checksum}", field="checksum")
    if len(content) > MANIFEST_MAX_BYTES:
        raise InvalidInput(f"{path} is larger than a manifest may be ({MANIFEST_MAX_BYTES} bytes)")
    try:
        manifest = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not JSON: {error}") from error
    manifest, files = prepare_manifest(manifest, path.parent)
    return LocalManifest(manifest, files, _read_signed(path, content))


def prepare_manifest(manifest: Any, beside: Path) -> tuple[dict[str, Any], list[LocalFile]]:
    """The manifest ready to be sent, and the files of it that lie in ``beside``. Raises as ``read_local_manifest``."""
    # As the first Volant's tools wrote it, too: its bare digests are compared with those of the files.
    manifest = modernise(manifest)
    _inline_cloud_init(manifest, beside)
    convert_manifest(manifest)
    files = []
    for role, medium in _find_media(manifest):
        local = _resolve(str(medium["source" if "source" in medium else "url"]), beside)
        if local is None:
            continue
        file = _examine(role, local, str(medium.get("checksum") or ""))
        medium["checksum"] = file.digest
        medium["source" if "source" in medium else "url"] = f"artifact:{file.digest}"
        files.append(file)
    return manifest, files


def _inline_cloud_init(manifest: Any, beside: Path) -> None:
    """Put the files that ``cloud_init.*.path`` names where they are named: volantd opens none of the client's."""
    cloud_init = manifest.get("cloud_init") if isinstance(manifest, dict) else None
    if not isinstance(cloud_init, dict):
        return
    for field in CLOUD_INIT_FILES:
        named = cloud_init.get(field)
        if (
            not isinstance(named, dict)
            or not isinstance(named.get("path"), str)
            or not named["path"]
            or named.get("content")
            or named.get("inline")
        ):
            continue  # what contradicts itself is refused with the other rules
        place = f"cloud_init.{field}.path"
        file = _resolve(named["path"], beside)
        if file is None:
            raise InvalidInput(f"{named['path'][:160]!r} is no file beside the manifest", field=place)
        try:
            with file.open("rb") as stream:
                content = stream.read(MANIFEST_MAX_BYTES + 1)
            if len(content) > MANIFEST_MAX_BYTES:
                raise InvalidInput(f"{file} is larger than a manifest may be ({MANIFEST_MAX_BYTES} bytes)", field=place)
            cloud_init[field] = {"inline": True, "content": content.decode()}
        except OSError as error:
            raise InvalidInput(f"{file}: {error.strerror}", field=place) from error
        except UnicodeDecodeError as error:
            raise InvalidInput(f"{file} is no text", field=place) from error


def _read_signed(path: Path, content: bytes) -> SignedManifest | None:
    signature = path.with_name(path.name + SIGNATURE_SUFFIX)
    try:
        with signature.open("rb") as file:
            text = file.read(SIGNATURE_MAX_BYTES + 1).decode()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidInput(f"{signature}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{signature} is no minisign signature") from error
    if len(text) > SIGNATURE_MAX_BYTES:
        raise InvalidInput(f"{signature} is larger than a minisign signature can be")
    return SignedManifest(manifest=content.decode(), signature=text)


def _find_media(manifest: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    boot = manifest.get("boot") or {}
    for role, medium in (
        ("boot.kernel", boot.get("kernel")),
        ("boot.initramfs", boot.get("initramfs")),
        ("rootfs", manifest.get("rootfs")),
        ("initramfs", manifest.get("initramfs")),
    ):
        if medium:
            yield role, medium
    for disk in manifest.get("disks") or ():
        yield f"disks[{disk['name']}]", disk


def _resolve(url: str, beside: Path) -> Path | None:
    """The path that ``url`` means from the directory ``beside``; None when it is no local file."""
    parts = urlsplit(url)
    if parts.scheme in REMOTE_SCHEMES:
        return None
    if parts.scheme == "file":
        return beside / unquote(parts.netloc + parts.path)
    if "://" in url:
        raise InvalidInput(f"{url[:80]!r} is not a place that files are read from", hint="a path, file:// or https://")
    return beside / url


def _examine(role: str, path: Path, checksum: str) -> LocalFile:
    try:
        with path.open("rb") as content:
            digest = Digest("sha256:" + hashlib.file_digest(content, "sha256").hexdigest())
            size = content.tell()
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}", field=role) from error
    if checksum and check_digest(checksum, f"{role}.checksum") != digest:
        raise InvalidInput(
            f"{path} is not what the manifest says: it has {digest}",
            field=f"{role}.checksum",
            hint="build it again: fledge build",
        )
    return LocalFile(role, path, digest, size)
