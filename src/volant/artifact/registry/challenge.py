"""``WWW-Authenticate`` (RFC 9110, section 11.6.1) as registries send it: Bearer with realm, service and scope, or Basic."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

HEADER_MAX = 8192

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_ITEM = re.compile(
    rf'\s*(?:(?P<name>{_WORD})\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>{_WORD}))|(?P<scheme>{_WORD}))\s*(?P<comma>,?)'
)


class Challenge(msgspec.Struct, frozen=True):
    """``scheme`` is ``bearer`` or ``basic``; the others belong to the first."""

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""


def read_challenges(headers: Sequence[str]) -> tuple[Challenge, ...]:
    """Those that can be answered here, the safer Bearer first. What cannot be read is passed over."""
    found: list[tuple[str, dict[str, str]]] = []
    for header in headers:
        at = 0
        text = header[:HEADER_MAX]
        while item := _ITEM.match(text, at):
            at = item.end()
            if item["scheme"]:
                found.append((item["scheme"].lower(), {}))
            elif found:
                value = re.sub(r"\\(.)", r"\1", item["quoted"]) if item["quoted"] is not None else item["bare"]
                found[-1][1].setdefault(item["name"].lower(), value)
    known = [
        Challenge(scheme, values.get("realm", ""), values.get("service", ""), values.get("scope", ""))
        for scheme, values in found
        if scheme == "basic" or (scheme == "bearer" and values.get("realm"))
    ]
    return tuple(sorted(known, key=lambda challenge: challenge.scheme, reverse=True))
