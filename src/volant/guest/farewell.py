"""The line that a guest leaves on its console for a host that was away when it ended (docs/guest-protocol.md, section 8)."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal, get_args

import msgspec

from volant.guest.protocol import Exit

StopReason = Literal["requested", "workload_ended", "failed", "restart_limit"]

TAIL_BYTES = 16 * 1024
"""How much of the end of a console is looked at. What follows the line is the kernel's, a few lines."""

_LINE = re.compile(
    rb"kestrel: end (?P<digest>sha256:[0-9a-f]{64}) "
    rb"(?:exit=(?P<code>0|[1-9][0-9]{0,2})|signal=(?P<signal>[1-9][0-9]?)|exit=none) reason=(?P<reason>[a-z_]+)\r*"
)


class Farewell(msgspec.Struct, frozen=True, kw_only=True):
    """Why the guest stopped; ``exit``: how the workload ended last, None when it never did."""

    reason: StopReason
    exit: Exit | None = None


def encode_farewell(digest: str, farewell: Farewell) -> bytes:
    """As a guest that holds the document with this digest leaves it, the newlines around it included."""
    how = "exit=none"
    if farewell.exit is not None:
        how = f"exit={farewell.exit.code}" if farewell.exit.signal is None else f"signal={farewell.exit.signal}"
    return f"\nkestrel: end {digest} {how} reason={farewell.reason}\n".encode()


def find_farewell(console: bytes, digests: Collection[str]) -> Farewell | None:
    """The last such line of a guest that holds one of these documents; None when there is none.

    ``console`` is a guest's text and may hold anything. A document is random in part, so whoever writes its digest has it
    of the agent, and could have told us lies through that.
    """
    for line in reversed(console[-TAIL_BYTES:].split(b"\n")[:-1]):
        found = _LINE.fullmatch(line)
        if found is None or found["digest"].decode() not in digests:
            continue
        farewell = _read(found)
        if farewell is not None:
            return farewell
    return None


def _read(found: re.Match[bytes]) -> Farewell | None:
    reason = next((known for known in get_args(StopReason) if known.encode() == found["reason"]), None)
    code, signal = (None if found[name] is None else int(found[name]) for name in ("code", "signal"))
    if reason is None or (code or 0) > 255 or (signal or 0) > 64:
        return None
    return Farewell(reason=reason, exit=None if code is signal is None else Exit(code=code, signal=signal))
