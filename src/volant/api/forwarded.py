"""Which headers cross a proxy, and which it sets (RFC 9110, section 7.6)."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

import msgspec

from volant.api.workload import Workload

Headers = list[tuple[bytes, bytes]]

TIMEOUT_HEADER = "volant-timeout"
"""How long the workload may take to begin its answer. No query parameter: the query is the workload's."""

_HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te", b"trailer",
     b"transfer-encoding", b"upgrade")
)  # fmt: skip
_SET_HERE = frozenset((b"host", b"via", b"forwarded", TIMEOUT_HEADER.encode()))
_HANDSHAKE = b"sec-websocket-"
_ABOUT_THE_ORIGIN = frozenset((b"alt-svc", b"strict-transport-security", b"clear-site-data"))
"""What a guest may say of its own host and not of volantd's."""

ANSWERED_BY = (b"volant-answered-by", b"workload")
"""On every answer that is the workload's own, so that its problems can be told from volantd's."""


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, as the guest is told. ``mount`` is the path of volantd under which the workload appears.

    ``is_vouched_for``: volantd knows who it is without an Authorization header, so that one is meant for the workload. Else it
    holds volantd's own token, which no guest may see.
    """

    mount: str
    host: bytes
    address: str
    is_vouched_for: bool


def to_guest(headers: Iterable[tuple[bytes, bytes]], workload: Workload, caller: Caller, *, upgrade: bool = False) -> Headers:
    """What the workload is sent of the client's headers. Its content has the length that the client announced, or is chunked."""
    given = [(name.lower(), value) for name, value in headers]
    dropped = _named_by_connection(given)
    kept: Headers = [(b"host", workload.authority.encode())]
    is_chunked = any(name == b"transfer-encoding" for name, _ in given)
    for name, value in given:
        if name in dropped or name in _SET_HERE or name.startswith(b"x-forwarded-"):
            continue
        if name == b"authorization" and not caller.is_vouched_for:
            continue
        if name == b"content-length" and (is_chunked or upgrade):
            continue
        if upgrade and name.startswith(_HANDSHAKE):
            continue
        kept.append((name, value))
    if is_chunked and not upgrade:
        kept.append((b"transfer-encoding", b"chunked"))
    kept += [(b"via", b"1.1 volantd"), (b"x-forwarded-proto", b"http"), (b"x-forwarded-prefix", caller.mount.encode())]
    if caller.host:
        kept.append((b"x-forwarded-host", caller.host))
    if caller.address:
        kept.append((b"x-forwarded-for", caller.address.encode()))
    return kept


def from_guest(headers: Iterable[tuple[bytes, bytes]], workload: Workload, caller: Caller) -> Headers:
    """What the client is sent of the workload's headers; a place inside the workload is told as where it appears."""
    given = [(name.lower(), value) for name, value in headers]
    dropped = _named_by_connection(given) | _ABOUT_THE_ORIGIN
    kept = [
        (name, _translate_place(value, workload, caller) if name in (b"location", b"content-location") else value)
        for name, value in given
        if name not in dropped and name != ANSWERED_BY[0]
    ]
    return [*kept, ANSWERED_BY]


def _named_by_connection(headers: Headers) -> frozenset[bytes]:
    named = (word.strip().lower() for name, value in headers if name == b"connection" for word in value.split(b","))
    return _HOP_BY_HOP.union(named) - {b"host", b"content-length"}


def _translate_place(value: bytes, workload: Workload, caller: Caller) -> bytes:
    try:
        parts = urlsplit(value.decode("ascii"))
        is_elsewhere = bool(parts.netloc) and (parts.hostname not in (workload.host, "localhost") or parts.port != workload.port)
        if parts.netloc and parts.port is None:
            is_elsewhere = parts.hostname not in (workload.host, "localhost") or workload.port != 80
    except ValueError:
        return value
    if is_elsewhere or not parts.path.startswith("/"):
        return value
    path = parts.path.removeprefix(workload.prefix) if parts.path.startswith(f"{workload.prefix}/") else parts.path
    query = f"?{parts.query}" if parts.query else ""
    fragment = f"#{parts.fragment}" if parts.fragment else ""
    return f"{caller.mount}/v1{path}{query}{fragment}".encode()
