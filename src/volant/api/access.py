"""Who may use a route."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from volant.api.operation import operation_of
from volant.api.protocol import PEER
from volant.auth.peer import Peer, PeerPolicy
from volant.auth.token import TokenFile
from volant.core.errors import Forbidden, Unauthorized

if TYPE_CHECKING:
    from volant.intent import Intents
    from volant.node.door import NodeDoor

LOOPBACK_NAMES = frozenset({"127.0.0.1", "::1", "localhost"})


def require_peer(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """A guard of every route: on a UNIX socket the kernel vouches for who asks, on TCP the token does.

    Raises:
        Forbidden: the policy does not allow this user, or a web page of another place asks.
        Unauthorized: over TCP, and without the token.
    """
    _check_place(connection)
    operation = operation_of(handler)
    if operation is not None and operation.public:
        return
    peer = connection.scope.get("state", {}).get(PEER)
    if not isinstance(peer, Peer):
        _check_token(connection)
        return
    policy = cast(PeerPolicy, connection.app.state.policy)
    if not policy.allows(peer):
        raise Forbidden(
            "this user may not use volantd", hint=f"use root, or join the group {policy.group}: usermod -aG {policy.group} USER"
        )


def _check_place(connection: ASGIConnection[Any, Any, Any, Any]) -> None:
    """A browser lets any page send requests to this host, and any name lead here (DNS rebinding): it only says which they are."""
    if isinstance(connection.scope.get("state", {}).get(PEER), Peer):
        return
    host = connection.headers.get("host", "")
    name = urlsplit(f"//{host}").hostname if host.isprintable() and "/" not in host else None
    if name not in LOOPBACK_NAMES:
        raise Forbidden(f"{host[:80]!r} is not this host", hint="ask for 127.0.0.1, [::1] or localhost")
    origin = connection.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        raise Forbidden("a web page of another place may not ask", hint="clients that are no browser send no Origin")


def _check_token(connection: ASGIConnection[Any, Any, Any, Any]) -> None:
    tokens = connection.app.state.tokens
    if tokens is None:
        raise Forbidden("nobody vouches for who asks")
    given = connection.headers.getall("authorization", [])
    if len(given) != 1 or not cast(TokenFile, tokens).vouches_for(given[0]):
        raise Unauthorized(
            "the token is missing or wrong" if given else "over TCP volantd wants its token",
            hint="VOLANT_TOKEN_FILE names a file that holds it; on the host of volantd it lies in token in its data directory",
        )


def intents_of(app: Litestar) -> Intents:
    return cast("Intents", app.state.intents)


def door_of(app: Litestar) -> NodeDoor:
    return cast("NodeDoor", app.state.door)
