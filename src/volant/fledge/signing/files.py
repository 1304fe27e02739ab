"""Signing and verifying files with minisign's signatures, and the directories that a build leaves.

Each signature lies beside its file (``manifest.json.minisig``). The manifest names every artifact by its digest, so its signature
vouches for all of them; each has its own as well, for whoever handles it alone.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit

import msgspec

from volant.artifact.signature import (
    SIGNATURE_MAX_BYTES,
    SIGNATURE_SUFFIX,
    PublicKey,
    SecretKey,
    Statement,
    read_signature,
    read_statement,
    sign_content,
    verify_content,
)
from volant.core.errors import ChecksumMismatch, HostError, InvalidInput, NotFound, Untrusted
from volant.core.manifest import MANIFEST_MAX_BYTES, Manifest, read_manifest
from volant.fledge.signing.key import read_small, write_file

MANIFEST = "manifest.json"
DOCUMENTS = ("build.json", "sbom.spdx.json", "provenance.json")
"""What a build writes beside its artifacts and no manifest names."""

_NO_BUILD = "give a directory that fledge build wrote, or single files"


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """A file, and the signature that lies beside it now."""

    path: str
    signature: str
    comment: str


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is what was signed: by a ``signature`` of its own, or named by digest in a signed ``manifest``."""

    path: str
    by: Literal["signature", "manifest"]
    comment: str = ""


def sign_paths(paths: Sequence[Path], key: SecretKey, text: str = "") -> list[Signed]:
    """Sign each file, and of each directory what a build left in it; ``text`` is added to the trusted comments.

    Raises:
        NotFound: there is no such file. InvalidInput: a directory holds no manifest, or the text cannot be a comment.
        ChecksumMismatch: an artifact is not what its manifest says; nothing of that directory is signed then.
    """
    signed: list[Signed] = []
    for path in paths:
        if path.is_dir():
            signed += _sign_build(path, key, text)
        else:
            signed.append(_sign_file(path, key, _read_manifest(path) if path.name == MANIFEST else None, text))
    return signed


def verify_paths(paths: Sequence[Path], key: PublicKey) -> list[Verified]:
    """Check each file against the signature beside it, and of each directory all that a build left in it.

    Raises:
        Untrusted: something is not what the key signed, or is not signed. NotFound: there is no such file.
        InvalidInput: a signature cannot be read. ChecksumMismatch: an artifact is not what its signed manifest says.
    """
    verified: list[Verified] = []
    for path in paths:
        if path.is_dir():
            verified += _verify_build(path, key)
        elif path.name == MANIFEST:
            verified.append(_verify_manifest(path, key)[0])
        else:
            verified.append(_verify_file(path, key))
    return verified


def _sign_build(directory: Path, key: SecretKey, text: str) -> list[Signed]:
    manifest = _read_manifest(directory / MANIFEST)
    artifacts = _find_artifacts(directory, manifest)
    for path, digest in artifacts.items():
        _check_digest(path, digest)
    documents = [directory / name for name in DOCUMENTS if (directory / name).is_file()]
    # The manifest's comes last: where it lies, all lie.
    return [_sign_file(path, key, manifest, text) for path in (*artifacts, *documents, directory / MANIFEST)]


def _sign_file(path: Path, key: SecretKey, manifest: Manifest | None, text: str) -> Signed:
    name, version = (manifest.name, manifest.version) if manifest is not None else ("", "")
    statement = Statement(file=path.name, sha256=_hash_file(path), name=name, version=version, text=text)
    with _open(path) as content:
        written = sign_content(content, key, statement)
    signature = _signature_of(path)
    write_file(signature, written, mode=0o644)
    return Signed(path=str(path), signature=str(signature), comment=read_signature(written).trusted_comment)


def _verify_build(directory: Path, key: PublicKey) -> list[Verified]:
    verified, manifest = _verify_manifest(directory / MANIFEST, key)
    found = [verified]
    for path, digest in _find_artifacts(directory, manifest).items():
        _check_digest(path, digest)
        has_own = _signature_of(path).exists()
        found.append(_verify_file(path, key, manifest) if has_own else Verified(path=str(path), by="manifest"))
    return found + [_verify_file(directory / name, key, manifest) for name in DOCUMENTS if (directory / name).is_file()]


def _verify_manifest(path: Path, key: PublicKey) -> tuple[Verified, Manifest]:
    """Read once, and nothing in it is believed before its signature is."""
    content = read_small(path, MANIFEST_MAX_BYTES, hint=_NO_BUILD)
    verified, statement = _verify_content(path, content, key)
    manifest = _parse_manifest(path, content)
    _check_statement(path, statement, manifest)
    return verified, manifest


def _verify_file(path: Path, key: PublicKey, manifest: Manifest | None = None) -> Verified:
    with _open(path) as file:
        verified, statement = _verify_content(path, file, key)
    _check_statement(path, statement, manifest)
    return verified


def _verify_content(path: Path, content: bytes | io.BufferedReader, key: PublicKey) -> tuple[Verified, Statement | None]:
    beside = _signature_of(path)
    try:
        signature = read_signature(read_small(beside, SIGNATURE_MAX_BYTES), str(beside))
    except NotFound:
        raise Untrusted(f"{path} is not signed: there is no {beside.name} beside it", hint="sign it: fledge sign") from None
    verify_content(content, signature, key, str(path))
    return Verified(path=str(path), by="signature", comment=signature.trusted_comment), read_statement(signature)


def _check_statement(path: Path, statement: Statement | None, manifest: Manifest | None) -> None:
    """A good signature does not help a file that lies where another belongs."""
    if statement is None:
        return
    if statement.file != path.name:
        raise Untrusted(f"{path} was signed as {statement.file[:80]!r}", hint="give it back that name if it is that file")
    if manifest is not None and (statement.name, statement.version) != (manifest.name, manifest.version):
        said = f"{statement.name} {statement.version}".strip() or "no plugin"
        raise Untrusted(f"{path} was signed for {said[:160]!r}, and lies with {manifest.name} {manifest.version}")


def _find_artifacts(directory: Path, manifest: Manifest) -> dict[Path, str]:
    """The digest of each file that the manifest names beside itself."""
    boot = manifest.boot
    media = (boot.kernel if boot else None, boot.initramfs if boot else None, manifest.rootfs, manifest.initramfs)
    found: dict[Path, str] = {}
    for medium in media:
        if medium is None or urlsplit(medium.url).scheme not in ("", "file"):
            continue
        parts = urlsplit(medium.url)
        name = unquote(parts.netloc + parts.path) if parts.scheme else medium.url
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise InvalidInput(f"{directory / MANIFEST} names {name[:80]!r}, which lies elsewhere", hint=_NO_BUILD)
        if not medium.checksum:
            raise InvalidInput(f"{directory / MANIFEST} names {name[:80]!r} without its checksum", hint="build it again")
        found[directory / name] = medium.checksum
    return found


def _check_digest(path: Path, digest: str) -> None:
    found = f"sha256:{_hash_file(path)}"
    if found != digest:
        raise ChecksumMismatch(f"{path} is not what its manifest says: it has {found}", hint="build it again: fledge build")


def _hash_file(path: Path) -> str:
    with _open(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _open(path: Path) -> io.BufferedReader:
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise NotFound(f"there is no {path}") from error
    except OSError as error:
        raise HostError(f"{path} cannot be read: {error.strerror}") from error


def _read_manifest(path: Path) -> Manifest:
    return _parse_manifest(path, read_small(path, MANIFEST_MAX_BYTES, hint=_NO_BUILD))


def _parse_manifest(path: Path, content: bytes) -> Manifest:
    try:
        return read_manifest(content)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error.message}", field=error.field, hint=error.hint) from error


def _signature_of(path: Path) -> Path:
    return path.with_name(path.name + SIGNATURE_SUFFIX)
