"""Whose signatures are trusted: a directory of publishers' public keys, and what a policy makes of one plugin by them.

``DIR/PUBLISHER.pub`` holds one key of a publisher, ``DIR/PUBLISHER/*.pub`` any number. The directory is read for each
decision, so that a key that is taken away has no effect from then on.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import msgspec

from volant.artifact.signature import (
    KEY_MAX_BYTES,
    PublicKey,
    Signature,
    format_key_id,
    read_public_key,
    read_signature,
    read_statement,
    verify_content,
)
from volant.core.errors import InvalidInput, VolantError
from volant.core.manifest import Manifest, convert_manifest, read_manifest
from volant.core.plugin import name_by_content
from volant.core.trust import PUBLISHER_LABEL, Policy, Reason, SignedManifest, Verdict

KEY_SUFFIX = ".pub"
MAX_KEYS = 4096


class TrustedKey(msgspec.Struct, frozen=True, kw_only=True):
    publisher: str
    key: PublicKey
    path: Path


class KeyRing(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of a directory. ``problems`` names each file that is none, and why."""

    directory: Path
    keys: tuple[TrustedKey, ...] = ()
    problems: tuple[str, ...] = ()


class Trust:
    """Implements Judge for one policy and one directory of keys."""

    def __init__(self, policy: Policy, directory: Path) -> None:
        self.policy: Policy = policy
        self.directory = directory

    async def judge(self, manifest: object, signed: SignedManifest | None) -> Verdict:
        return await asyncio.to_thread(self._judge, manifest, signed)

    def _judge(self, manifest: object, signed: SignedManifest | None) -> Verdict:
        return judge_manifest(manifest, signed, read_keys(self.directory), self.policy)


def read_keys(directory: Path) -> KeyRing:
    """Every key in ``directory``, ordered by publisher. What cannot be read becomes one of the ring's problems."""
    keys: list[TrustedKey] = []
    problems: list[str] = []
    for publisher, path in _list_files(directory, problems):
        if len(keys) == MAX_KEYS:
            problems.append(f"{directory} holds more than {MAX_KEYS} keys")
            break
        if not path.is_file():
            problems.append(f"{path} is no file")
            continue
        try:
            with path.open("rb") as file:
                content = file.read(KEY_MAX_BYTES + 1)
            keys.append(TrustedKey(publisher=publisher, key=read_public_key(content, str(path)), path=path))
        except InvalidInput as error:
            problems.append(error.message)
        except OSError as error:
            problems.append(f"{path}: {error.strerror}")
    return KeyRing(directory=directory, keys=tuple(keys), problems=tuple(problems))


def judge_manifest(manifest: object, signed: SignedManifest | None, ring: KeyRing, policy: Policy) -> Verdict:
    """What ``policy`` makes of a plugin with ``manifest`` (the plain document as installed) by the keys of ``ring``.

    The signature decides only over the very bytes in ``signed``; that they describe this manifest is looked at too. A publisher's
    key vouches for manifests that name that publisher, or none.
    """

    def give(reason: Reason, message: str, hint: str = "", *, publisher: str = "", key_id: str = "") -> Verdict:
        return Verdict(policy=policy, reason=reason, message=message, hint=hint, publisher=publisher, key_id=key_id)

    if signed is None:
        return give("NotSigned", "it is not signed", f"sign it with a key that {ring.directory} holds: fledge sign")
    content = signed.manifest.encode()
    try:
        signature = read_signature(signed.signature.encode())
    except InvalidInput as error:
        return give("Unreadable", error.message)
    key_id = format_key_id(signature)
    candidates = [trusted for trusted in ring.keys if format_key_id(trusted.key) == key_id]
    if not candidates:
        known = f"key {key_id} is none of the {len(ring.keys)} keys in {ring.directory}"
        broken = f" (and {ring.problems[0]})" if ring.problems else ""
        hint = f"if you trust who signed it, put their public key there: {ring.directory / 'PUBLISHER.pub'}"
        return give("UnknownKey", f"{known}{broken}", hint, key_id=key_id)
    good = [trusted for trusted in candidates if _is_by(trusted.key, content, signature)]
    if not good:
        publisher = candidates[0].publisher
        said = f"its manifest or its signature was changed after {publisher} signed it"
        return give("BadSignature", said, "build it again and sign that: fledge sign DIR", publisher=publisher, key_id=key_id)
    publisher = good[0].publisher
    try:
        vouched = read_manifest(content)
        same = name_by_content(convert_manifest(manifest)) == name_by_content(vouched)
    except InvalidInput as error:
        return give("OtherManifest", f"what was signed is no manifest: {error.message}", publisher=publisher, key_id=key_id)
    if not same:
        return give("OtherManifest", "what was signed is another manifest", publisher=publisher, key_id=key_id)
    other = _find_other_statement(signature, vouched, content)
    if other:
        return give("OtherStatement", other, publisher=publisher, key_id=key_id)
    label = vouched.labels.get(PUBLISHER_LABEL)
    if label is not None:
        fitting = [trusted.publisher for trusted in good if trusted.publisher == label]
        if not fitting:
            said = f"it says that it is by {label[:80]!r}, and is signed by {publisher}"
            return give("OtherPublisher", said, publisher=publisher, key_id=key_id)
        publisher = fitting[0]
    return give("Trusted", f"signed by {publisher}", publisher=publisher, key_id=key_id)


def _list_files(directory: Path, problems: list[str]) -> list[tuple[str, Path]]:
    """``(publisher, path)`` of every file that should hold a key."""
    found: list[tuple[str, Path]] = []
    for entry in _scan(directory, problems):
        if entry.suffix == KEY_SUFFIX and not entry.is_dir():
            found.append((entry.stem, entry))
        elif entry.is_dir():
            found += [(entry.name, path) for path in _scan(entry, problems) if path.suffix == KEY_SUFFIX]
    return found


def _scan(directory: Path, problems: list[str]) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    except OSError as error:
        problems.append(f"{directory}: {error.strerror}")
        return []


def _is_by(key: PublicKey, content: bytes, signature: Signature) -> bool:
    try:
        verify_content(content, signature, key)
    except VolantError:
        return False
    return True


def _find_other_statement(signature: Signature, manifest: Manifest, content: bytes) -> str:
    """How the trusted comment speaks of something else than this manifest; empty when it does not.

    One of minisign's own says nothing of a plugin, and needs not: the signature is over the manifest, which does.
    """
    try:
        statement = read_statement(signature)
    except InvalidInput as error:
        return error.message
    if statement is None:
        return ""
    if (statement.name, statement.version) != (manifest.name, manifest.version):
        said = f"{statement.name} {statement.version}".strip() or statement.file
        return f"its signature is for {said[:160]!r}, not for {manifest.name} {manifest.version}"
    if statement.sha256 != hashlib.sha256(content).hexdigest():
        return "its signature is for another file"
    return ""
