"""Who may ask for what: every route of the OpenAPI document, asked by nobody and by somebody."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from litestar.routes import HTTPRoute, WebSocketRoute
from websockets.exceptions import InvalidStatus
from websockets.sync.client import unix_connect

from volant.api.app import HANDLERS, build_app
from volant.api.openapi import build_document, find_operations
from volant.auth.peer import Peer
from volant.client.connection import Connection
from volant.core.errors import Forbidden, VolantError

from .served import Served

ROUTES = [(method, path, operation) for path, method, operation in find_operations(HANDLERS)]
PUBLIC = {("GET", "/healthz")}


def _fill(path: str) -> str:
    return path.replace("{name}", "web").replace("{digest}", "sha256:" + "0" * 64)


def test_the_document_holds_every_route() -> None:
    app = build_app(None, None, "0")  # type: ignore[arg-type]
    routed = {
        (method, route.path.replace(":str}", "}").replace(":path}", "}"))
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for method in route.methods
        if method != "OPTIONS"
    }
    documented = {
        (method.upper(), path) for path, methods in build_document(HANDLERS, "0")["paths"].items() for method in methods
    }
    assert routed == documented
    sockets = {
        route.path.replace(":str}", "}").replace(":path}", "}") for route in app.routes if isinstance(route, WebSocketRoute)
    }
    assert sockets <= {path for _, path in documented}


def test_a_stranger_gets_nothing_from_any_route(tmp_path: Path) -> None:
    with Served(tmp_path, allow=lambda _peer: False) as served:
        api = Connection(served.address)
        answered = set()
        for method, path, _ in ROUTES:
            try:
                api.request(method, _fill(path), document={} if method in ("POST", "PUT") else None)
                answered.add((method, path))
            except Forbidden:
                pass
        assert answered == PUBLIC
        with pytest.raises(InvalidStatus) as refused:
            unix_connect(str(served.path), "ws://localhost/api/v1/vms/web/exec", proxy=None)
        assert refused.value.response.status_code == 403


def test_an_allowed_peer_is_refused_nowhere(served: Served, api: Connection) -> None:
    for method, path, operation in ROUTES:
        try:
            if operation.id == "list_events":
                status = api.request(method, path).status
            else:
                status = api.request(method, _fill(path), document={} if method == "POST" else None).status
        except VolantError as error:
            status = error.status
        assert status not in (401, 403), (method, path)


def test_the_kernel_says_who_asks(served: Served, api: Connection) -> None:
    api.get_json("/api/v1/vms")
    assert served.peers[-1] == Peer(uid=os.getuid(), gid=os.getgid(), pid=os.getpid())
