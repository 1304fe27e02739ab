"""The token of who connects by TCP: one secret a volantd, in a file that only its own user can read."""

from __future__ import annotations

import contextlib
import hmac
import os
import re
import secrets
from hashlib import sha256
from pathlib import Path

from volant.core.errors import HostError

TOKEN_BYTES = 32
FILE_MAX_BYTES = 4096
_BEARER = re.compile(r"Bearer +([A-Za-z0-9._~+/-]{1,512}=*) *", re.IGNORECASE)


class TokenFile:
    """The token lies in ``path``; it is read at every question, so that another one holds as soon as it lies there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def ensure(self) -> None:
        """Make a token unless there is one. Raises HostError."""
        if self._read() is None:
            self.rotate()

    def rotate(self) -> str:
        """Put a new token in the place of the old one, which is worth nothing from now on. Raises HostError."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        beside = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(token + "\n")
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise HostError(f"the token cannot be written to {self.path}: {error.strerror}") from error
        return token

    def vouches_for(self, authorization: str) -> bool:
        """Whether an Authorization header (RFC 6750, section 2.1) carries the token. Takes the same time wherever they differ."""
        found = _BEARER.fullmatch(authorization)
        token = self._read()
        if found is None or token is None:
            return False
        return hmac.compare_digest(sha256(found[1].encode()).digest(), sha256(token.encode()).digest())

    def _read(self) -> str | None:
        """None when there is none. Raises HostError when it cannot be read, or others can read it too."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise HostError(f"the token in {self.path} cannot be read: {error.strerror}") from error
        with os.fdopen(descriptor, "rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise HostError(f"others than its owner may read {self.path}", hint=f"chmod 600 {self.path}, then rotate it")
            text = file.read(FILE_MAX_BYTES).decode("ascii", "replace").strip()
        return text or None
