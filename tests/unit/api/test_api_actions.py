"""Actions of a workload, where it is found, and who asks it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from volant.api.forwarded import Caller, to_guest
from volant.api.workload import Workload, find_workload
from volant.client.connection import Connection
from volant.core.errors import NotFound, TimedOut, WrongState

from .served import Served
from .test_api_agent import ROOT, Heard, Raw, answering, hold, raw

__all__ = ["raw"]


@pytest.mark.parametrize(("base_url", "host"), [("http://localhost:8080/app/", "127.0.0.1"), ("http://[::1]:8080", "::1")])
def test_the_base_url_says_where(served: Served, raw: Raw, base_url: str, host: str) -> None:
    heard = Heard()
    hold(
        served,
        answering(heard, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        workload={"entrypoint": ["/app"], "base_url": base_url},
    )
    raw.request("GET", f"{ROOT}/x")
    assert raw.getresponse().status == 200
    assert heard.lines[0] == ("GET /app/x HTTP/1.1" if "app" in base_url else "GET /x HTTP/1.1")
    assert served.plane.door.ports.hosts == [host]


@pytest.mark.parametrize(
    "workload", [{"type": "exec", "entrypoint": ["/x"]}, {"entrypoint": ["/x"], "base_url": "http://db.test"}]
)
def test_a_workload_that_nobody_can_find_is_refused(served: Served, api: Connection, workload: dict[str, Any]) -> None:
    hold(served, answering(Heard(), b""), workload=workload)
    with pytest.raises(WrongState):
        api.get_json(f"{ROOT}/")


ACTIONS = {
    "reload": {"method": "POST", "path": "/admin/reload?x=1", "description": "Read it again", "timeout_ms": 50},
    "show": {"method": "GET", "path": "/status"},
}


def test_an_action_asks_what_the_manifest_says(served: Served, raw: Raw, api: Connection) -> None:
    heard = Heard()
    hold(served, answering(heard, b"HTTP/1.1 418 Teapot\r\nContent-Length: 4\r\n\r\nshort"[:-1]), actions=ACTIONS)
    raw.request("POST", "/api/v1/vms/web/actions/reload", body=json.dumps({"a": 1}), headers={"Content-Type": "application/json"})
    answer = raw.getresponse()
    assert (answer.status, answer.read()) == (418, b"shor")
    assert heard.lines[0] == "POST /admin/reload?x=1 HTTP/1.1"
    assert heard.bodies == [b'{"a": 1}']
    assert heard.headers["content-type"] == "application/json"
    raw.request("POST", "/api/v1/vms/web/actions/app/show")
    assert raw.getresponse().status == 418
    assert heard.lines[0] == "GET /status HTTP/1.1"
    listed = api.get_json("/api/v1/vms/web/actions")["items"]
    assert [(one["name"], one["method"], one["path"]) for one in listed] == [
        ("reload", "POST", "/admin/reload?x=1"),
        ("show", "GET", "/status"),
    ]


def test_actions_that_are_not_there_are_refused(served: Served, api: Connection) -> None:
    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    hold(served, silent, actions=ACTIONS)
    with pytest.raises(NotFound, match="no action 'nothing'"):
        api.request("POST", "/api/v1/vms/web/actions/nothing")
    with pytest.raises(WrongState, match="not from 'other'"):
        api.request("POST", "/api/v1/vms/web/actions/other/reload")
    with pytest.raises(TimedOut, match=r"0\.05 s"):
        api.request("POST", "/api/v1/vms/web/actions/reload")
    with pytest.raises(TimedOut, match=r"0\.02 s"):
        api.request("POST", "/api/v1/vms/web/actions/reload", query={"timeout": "20ms"})


def test_volantds_own_token_reaches_no_guest(served: Served) -> None:
    hold(served, answering(Heard(), b""))

    async def find() -> Workload:
        return await find_workload(served.app, "web")

    workload = served.run(find())
    headers = [(b"Authorization", b"Bearer volantds"), (b"X-Forwarded-For", b"6.6.6.6"), (b"Host", b"127.0.0.1:7777")]
    for vouched in (True, False):
        caller = Caller(mount=ROOT, host=b"127.0.0.1:7777", address="" if vouched else "127.0.0.1", is_vouched_for=vouched)
        sent = dict(to_guest(headers, workload, caller))
        assert (b"authorization" in sent) is vouched
        assert sent.get(b"x-forwarded-for") == (None if vouched else b"127.0.0.1")
