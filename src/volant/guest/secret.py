"""Which secret a guest holds, as far as its host can know (docs/guest-protocol.md, section 2)."""

from __future__ import annotations

from volant.guest.preamble import SECRET_BYTES


class SecretGuess:
    """The secrets that a guest may hold, the likeliest first. There are two at most, and one where both are the same."""

    def __init__(self, likeliest: bytes, other: bytes) -> None:
        self._candidates = [_check(likeliest)]
        self.expect(other)

    @property
    def count(self) -> int:
        return len(self._candidates)

    def pick(self, attempt: int) -> bytes:
        """The secret to try at the attempt with this number, counted from 0: each in turn."""
        return self._candidates[attempt % len(self._candidates)]

    def expect(self, secret: bytes) -> None:
        """``secret`` was sent, and whether the guest got it is not known."""
        self._candidates = list(dict.fromkeys((self._candidates[0], _check(secret))))

    def prefer(self, secret: bytes) -> None:
        """The guest has shown that it holds ``secret``."""
        self._candidates = list(dict.fromkeys((secret, *self._candidates)))[:2]


def _check(secret: bytes) -> bytes:
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a channel secret has {SECRET_BYTES} bytes")
    return secret
