"""The preamble that begins a session (docs/guest-protocol.md, section 2). Pure."""

from __future__ import annotations

import hmac
from typing import NamedTuple

HOST_MAGIC = b"VOLANT\x00\x01"
GUEST_MAGIC = b"VOLANT\x01\x01"
SECRET_BYTES = 32
NONCE_BYTES = 16
PREAMBLE_BYTES = len(HOST_MAGIC) + SECRET_BYTES + NONCE_BYTES
ANSWER_BYTES = len(GUEST_MAGIC) + NONCE_BYTES
ZERO_SECRET = bytes(SECRET_BYTES)
"""What holds until the guest has been configured."""


def encode_preamble(secret: bytes, nonce: bytes) -> bytes:
    """The host's first 56 bytes."""
    if len(secret) != SECRET_BYTES or len(nonce) != NONCE_BYTES:
        raise ValueError("a secret has 32 bytes and a nonce 16")
    return HOST_MAGIC + secret + nonce


def encode_answer(nonce: bytes) -> bytes:
    """The guest's first 24 bytes."""
    return GUEST_MAGIC + nonce


class AnswerScanner:
    """Passes over what an earlier session left in the pipe until the answer to this session's nonce. Keeps 23 bytes at most."""

    def __init__(self, nonce: bytes) -> None:
        self._wanted = encode_answer(nonce)
        self._tail = b""

    def feed(self, data: bytes) -> bytes | None:
        """The bytes after the answer once it has been seen, else None."""
        seen = self._tail + data
        at = seen.find(self._wanted)
        if at >= 0:
            return seen[at + ANSWER_BYTES :]
        self._tail = seen[-(ANSWER_BYTES - 1) :]
        return None


class Detected(NamedTuple):
    """``before`` belongs to the session there was; with a ``nonce`` a new one begins, and ``first`` are its first bytes."""

    before: bytes
    nonce: bytes | None = None
    first: bytes = b""


class PreambleDetector:
    """The guest's side: looks for the magic bytes and the current secret at the start of every read."""

    def __init__(self) -> None:
        self._held = b""

    @property
    def is_holding(self) -> bool:
        """A read that could be the beginning of a preamble waits for the next; after 100 ms call release."""
        return bool(self._held)

    def release(self) -> bytes:
        held, self._held = self._held, b""
        return held

    def feed(self, data: bytes, secret: bytes) -> Detected:
        """What one read brought, while ``secret`` holds."""
        held = self.release()
        if held and not _matches(held + data, secret):
            again = self.feed(data, secret)
            return again._replace(before=held + again.before)
        seen = held + data
        if not seen or not _matches(seen, secret):
            return Detected(seen)
        if len(seen) < PREAMBLE_BYTES:
            self._held = seen
            return Detected(b"")
        return Detected(b"", seen[PREAMBLE_BYTES - NONCE_BYTES : PREAMBLE_BYTES], seen[PREAMBLE_BYTES:])


def _matches(seen: bytes, secret: bytes) -> bool:
    wanted = HOST_MAGIC + secret
    head = seen[: len(wanted)]
    return hmac.compare_digest(head, wanted[: len(head)])
