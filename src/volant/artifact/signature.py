"""minisign's keys and signatures (https://jedisct1.github.io/minisign/, "Signature format"), and what our trusted comments say.

A trusted comment of ours has two fields, a tab between them as in minisign's own: the statement, then what the signer added::

    volant:1 name=nginx version=1.25 file=manifest.json sha256=…<TAB>built on a Tuesday

Values are percent-encoded, so that none holds a space.
"""

from __future__ import annotations

import base64
import os
from typing import BinaryIO
from urllib.parse import quote, unquote

import minisign  # type: ignore[import-untyped]  # it publishes no type information
import msgspec
from minisign import PublicKey, SecretKey, Signature

from volant.core.errors import InvalidInput, TooLarge, Untrusted

SIGNATURE_SUFFIX = ".minisig"
SIGNATURE_MAX_BYTES = 16 * 1024
KEY_MAX_BYTES = 4096
LEGACY_MAX_BYTES = 64 * 1024 * 1024
"""A signature of the legacy kind is over the content itself, which has to be in memory as a whole."""

_STATEMENT = "volant:"
_STATEMENT_VERSION = "volant:1"
_KEY_ID = slice(2, 10)


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """What a signature says of the file that it is over. ``name`` and ``version`` are the plugin's, empty for a loose file."""

    file: str
    sha256: str
    name: str = ""
    version: str = ""
    text: str = ""
    """What the signer added."""


def read_signature(content: bytes, what: str = "the signature") -> Signature:
    """The signature in a ``.minisig`` file's ``content``. Raises InvalidInput naming ``what``."""
    if len(content) > SIGNATURE_MAX_BYTES:
        raise InvalidInput(f"{what} is larger than a minisign signature can be ({SIGNATURE_MAX_BYTES} bytes)", field="signature")
    try:
        return Signature.from_bytes(content)
    except minisign.Error as error:
        raise InvalidInput(f"{what} is no minisign signature: {error}", field="signature") from error


def read_public_key(content: bytes, what: str = "the key") -> PublicKey:
    """The key in a ``.pub`` file's ``content``, or in its base64 line alone. Raises InvalidInput naming ``what``."""
    if len(content) > KEY_MAX_BYTES:
        raise InvalidInput(f"{what} is larger than a minisign key can be ({KEY_MAX_BYTES} bytes)")
    try:
        stripped = content.strip()
        return PublicKey.from_bytes(stripped) if b"\n" in stripped else PublicKey.from_base64(stripped)
    except minisign.Error as error:
        raise InvalidInput(f"{what} is no minisign public key: {error}", hint="fledge keygen makes a pair of keys") from error


def format_key_id(of: PublicKey | Signature) -> str:
    """The key's id in 16 hexadecimal digits, as minisign prints it: of a little-endian number."""
    encoded: bytes = of.to_base64() if isinstance(of, PublicKey) else bytes(of).splitlines()[1]
    return base64.b64decode(encoded)[_KEY_ID][::-1].hex().upper()


def verify_content(content: bytes | BinaryIO, signature: Signature, key: PublicKey, what: str = "it") -> None:
    """Return when ``signature`` is by ``key`` over ``content``, its trusted comment included.

    Raises:
        Untrusted: it is not. TooLarge: it is of the legacy kind and over more than LEGACY_MAX_BYTES.
    """
    if not signature.is_prehashed():
        _check_legacy_size(content, what)
    try:
        key.verify(content, signature)
    except minisign.Error as error:
        reason = f"{what} is not what key {format_key_id(key)} signed"
        if format_key_id(signature) != format_key_id(key):
            reason = f"{what} is signed with key {format_key_id(signature)}, not with {format_key_id(key)}"
        raise Untrusted(reason) from error


def sign_content(content: bytes | BinaryIO, key: SecretKey, statement: Statement) -> bytes:
    """The content of a ``.minisig`` file: a prehashed signature by ``key``. The same input gives the same bytes.

    Raises:
        InvalidInput: the statement does not fit into a trusted comment.
    """
    try:
        signature = key.sign(content, trusted_comment=write_statement(statement))
    except minisign.Error as error:
        raise InvalidInput(f"{statement.file} cannot be signed: {error}") from error
    return bytes(signature) + b"\n"


def write_statement(statement: Statement) -> str:
    values = {"name": statement.name, "version": statement.version, "file": statement.file, "sha256": statement.sha256}
    words = [_STATEMENT_VERSION, *(f"{key}={quote(value, safe='+~')}" for key, value in values.items() if value)]
    return " ".join(words) + (f"\t{statement.text}" if statement.text else "")


def read_statement(signature: Signature) -> Statement | None:
    """What a signature's trusted comment says; None when it is not of ours, as minisign's own are not.

    Raises:
        InvalidInput: it is of ours and cannot be read.
    """
    head, _, text = signature.trusted_comment.partition("\t")
    kind, *words = head.split(" ")
    if not kind.startswith(_STATEMENT):
        return None
    if kind != _STATEMENT_VERSION:
        raise InvalidInput(f"the signature's trusted comment is of an unknown kind, {kind[:40]!r}", hint="use a newer Volant")
    values: dict[str, str] = {"text": text}
    for word in words:
        key, is_there, value = word.partition("=")
        if not is_there or key in values or key not in ("name", "version", "file", "sha256"):
            raise InvalidInput(f"the signature's trusted comment holds {word[:40]!r}, which is not understood")
        values[key] = unquote(value)
    if not (values.get("file") and values.get("sha256")):
        raise InvalidInput("the signature's trusted comment does not say which file it is for")
    return msgspec.convert(values, Statement)


def _check_legacy_size(content: bytes | BinaryIO, what: str) -> None:
    size = len(content) if isinstance(content, bytes) else os.fstat(content.fileno()).st_size
    if size > LEGACY_MAX_BYTES:
        raise TooLarge(
            f"{what} has {size} bytes, and a legacy signature is verified up to {LEGACY_MAX_BYTES}",
            hint="sign it again: fledge sign, or minisign without -l",
        )


__all__ = [
    "KEY_MAX_BYTES",
    "SIGNATURE_MAX_BYTES",
    "SIGNATURE_SUFFIX",
    "PublicKey",
    "SecretKey",
    "Signature",
    "Statement",
    "format_key_id",
    "read_public_key",
    "read_signature",
    "read_statement",
    "sign_content",
    "verify_content",
    "write_statement",
]
