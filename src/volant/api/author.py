"""Who asks for a change, and why."""

from __future__ import annotations

import pwd
from functools import lru_cache
from typing import Any

from litestar import Request

from volant.api.protocol import PEER
from volant.auth.peer import Peer
from volant.core.vm_revision import Author, check_reason

REASON = "Volant-Reason"


def author_of(request: Request[Any, Any, Any]) -> Author:
    """The peer by its user's name, and what the header ``Volant-Reason`` says. Raises InvalidInput for a reason that is none."""
    peer = request.scope.get("state", {}).get(PEER)
    by = name_user(peer.uid) if isinstance(peer, Peer) else ""
    return Author(by=by, reason=check_reason(read_header_text(request.headers.get(REASON, ""))))


@lru_cache(maxsize=256)
def name_user(uid: int) -> str:
    """``root (uid 0)``; the number alone for a user without an entry."""
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def read_header_text(value: str) -> str:
    """A header is read as Latin-1 (RFC 9110, section 5.5); clients send UTF-8 in it."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return value
