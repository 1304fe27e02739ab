"""Who may use a route."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from volant.api.operation import operation_of
from volant.api.protocol import PEER
from volant.auth.peer import Peer, PeerPolicy
from volant.core.errors import Forbidden

if TYPE_CHECKING:
    from volant.intent import Intents
    from volant.node.door import NodeDoor


def require_peer(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """A guard of every route. Raises Forbidden for a peer that the policy does not allow, or that nobody vouches for."""
    operation = operation_of(handler)
    if operation is not None and operation.public:
        return
    peer = connection.scope.get("state", {}).get(PEER)
    policy = cast(PeerPolicy, connection.app.state.policy)
    if not isinstance(peer, Peer) or not policy.allows(peer):
        raise Forbidden(
            "this user may not use volantd", hint=f"use root, or join the group {policy.group}: usermod -aG {policy.group} USER"
        )


def intents_of(app: Litestar) -> Intents:
    return cast("Intents", app.state.intents)


def door_of(app: Litestar) -> NodeDoor:
    return cast("NodeDoor", app.state.door)
