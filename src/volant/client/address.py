"""Where volantd answers, as ``VOLANT_API`` writes it."""

from __future__ import annotations

import os
from typing import NamedTuple
from urllib.parse import urlsplit

from volant.core.errors import InvalidInput

VARIABLE = "VOLANT_API"
TOKEN = "VOLANT_TOKEN"  # noqa: S105  # a variable's name
TOKEN_FILE = "VOLANT_TOKEN_FILE"  # noqa: S105  # likewise
DEFAULT = "unix:///run/volant/volantd.sock"


class Address(NamedTuple):
    """A UNIX socket at ``path``, or a TCP port of ``host``."""

    path: str = ""
    host: str = ""
    port: int = 0

    @property
    def authority(self) -> str:
        """As a URL and the Host header have it."""
        if self.path:
            return "localhost"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else f"http://{self.authority}"


def read_address(text: str) -> Address:
    """``unix:///path``, ``unix:path`` or ``http://127.0.0.1:7777``. Raises InvalidInput."""
    scheme, colon, rest = text.partition(":")
    if scheme == "unix" and colon:
        path = rest.removeprefix("//") if rest.startswith("///") else rest
        if path and not path.startswith("//"):
            return Address(path=path)
    if scheme == "http":
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.hostname and port and parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username):
            return Address(host=parts.hostname, port=port)
    raise InvalidInput(
        f"{text[:80]!r} is not where a volantd answers", field=VARIABLE, hint=f"write {DEFAULT}, or http://127.0.0.1:7777"
    )


def read_token(file: str | None) -> str:
    """What ``file`` holds, else ``$VOLANT_TOKEN``, else what ``$VOLANT_TOKEN_FILE`` holds, else nothing. Raises InvalidInput."""
    if not file and os.environ.get(TOKEN):
        return os.environ[TOKEN].strip()
    named = file or os.environ.get(TOKEN_FILE)
    if not named:
        return ""
    try:
        with open(named, encoding="ascii") as opened:  # noqa: PTH123  # pathlib starts slower
            return opened.read(4096).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the token in {named} cannot be read: {error}", field=TOKEN_FILE) from error
