"""Asking a workload by its own operations and its plugin's actions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from volant.cli.vm_call import fill_path
from volant.core.errors import InvalidInput

from ..api.served import Served  # noqa: TID252  # importlib mode knows no top-level name for it
from ..api.test_api_agent import hold  # noqa: TID252  # likewise

Volar = Callable[..., Any]
DOCUMENT = {
    "openapi": "3.1.0",
    "servers": [{"url": "/api"}],
    "paths": {
        "/pets/{id}": {"get": {"operationId": "getPet", "summary": "One pet", "parameters": [{"name": "id", "in": "path"}]}},
        "/pets": {
            "get": {"operationId": "listPets", "parameters": [{"name": "limit", "in": "query", "required": True}]},
            "post": {"operationId": "addPet", "requestBody": {"required": True, "content": {"text/plain": {}}}},
        },
    },
}
ACTIONS = {"reload": {"method": "POST", "path": "/reload", "description": "Read it again"}}


class App:
    """A workload that tells what it was asked, and answers with ``status``."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        self.status = "200 OK"
        self.kind = "application/json"
        self.cut = False

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:] if line)}
        body = b""
        if "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
        elif "transfer-encoding" in headers:
            body = await reader.readuntil(b"0\r\n\r\n")
        asked = head[0].removesuffix(" HTTP/1.1")
        if asked == "GET /openapi.json":
            content, status = json.dumps(DOCUMENT).encode(), "200 OK"
        else:
            self.asked.append((asked, headers, body))
            content, status = json.dumps({"asked": asked}).encode(), self.status
        length = len(content) + (10 if self.cut else 0)
        writer.write(f"HTTP/1.1 {status}\r\nContent-Type: {self.kind}\r\nContent-Length: {length}\r\n\r\n".encode() + content)
        await writer.drain()
        writer.close()


@pytest.fixture
def app(served: Served) -> App:
    made = App()
    hold(served, made, actions=ACTIONS)
    return made


def test_operations_are_listed(app: App, volar: Volar) -> None:
    lines = volar("vms", "operations", "web").out.splitlines()
    assert lines[0].split() == ["OPERATION", "METHOD", "PATH", "NEEDS", "SUMMARY"]
    assert lines[1].split() == ["getPet", "GET", "/pets/{id}", "path", "id", "One", "pet"]
    assert "query limit" in lines[2]
    assert "body" in lines[3]
    assert volar("vms", "operations", "web", "-o", "name").out == "getPet\nlistPets\naddPet\n"
    assert volar("vms", "operations", "web", "--openapi").json == DOCUMENT


def test_an_operation_is_asked_by_its_id(app: App, volar: Volar) -> None:
    ran = volar("vms", "call", "web", "GETPET", "--path", "id=a/b c", "--query", "x=1", "--query", "x=2 3", "-H", "X-Own: yes")
    assert (ran.code, ran.json) == (0, {"asked": "GET /api/pets/a%2Fb%20c?x=1&x=2+3"})
    assert app.asked[0][1]["x-own"] == "yes"


def test_a_body_is_sent_as_what_the_operation_takes(app: App, volar: Volar, tmp_path: Path) -> None:
    assert volar("vms", "call", "web", "addPet", "--body", "Rex").code == 0
    assert (app.asked[0][0], app.asked[0][1]["content-type"], app.asked[0][2]) == ("POST /api/pets", "text/plain", b"Rex")
    (tmp_path / "pet").write_bytes(b"\x00\xff" * 1000)
    ran = volar(
        "vms", "call", "web", "POST:/raw?a=b", "--body-file", str(tmp_path / "pet"), "-H", "Content-Type: image/png", "-q", "c=d"
    )
    assert ran.code == 0
    asked, headers, body = app.asked[1]
    assert (asked, headers["content-type"], headers["content-length"]) == ("POST /raw?a=b&c=d", "image/png", "2000")
    assert body == b"\x00\xff" * 1000


def test_the_head_is_printed_when_asked_for(app: App, volar: Volar) -> None:
    ran = volar("vms", "call", "web", "GET:/", "-i")
    head, _, content = ran.out.partition("\n\n")
    assert head.splitlines()[0] == "HTTP/1.1 200 OK"
    assert "content-type: application/json" in head
    assert json.loads(content) == {"asked": "GET /"}


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("204 No Content", 0),
        ("302 Found", 0),
        ("400 Bad", 2),
        ("404 Not Found", 3),
        ("409 Conflict", 4),
        ("418 T", 1),
        ("503 No", 1),
    ],
)
def test_the_exit_code_says_what_the_workload_said(app: App, volar: Volar, status: str, code: int) -> None:
    app.status = status
    ran = volar("vms", "call", "web", "GET:/")
    assert ran.code == code
    assert ("the workload answered" in ran.err) == (code != 0)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("call", "web", "getPets"), 3, "did you mean getPet or listPets?"),
        (("call", "web", "getPet"), 2, "--path id=VALUE"),
        (("call", "web", "getPet", "--path", "id=1", "--path", "no=1"), 2, "has no {no}"),
        (("call", "web", "listPets"), 2, "--query limit=VALUE"),
        (("call", "web", "addPet"), 2, "needs something to be sent"),
        (("call", "web", "addPet", "--body", "a", "--body-file", "b"), 2, "one too many"),
        (("call", "web", "addPet", "--body-file", "/absent"), 2, "No such file"),
        (("call", "web", "BREW:/pot"), 2, "is no method"),
        (("call", "web", "GET:/", "-H", "nonsense"), 2, "not NAME:VALUE"),
        (("call", "web", "GET:/", "-H", "A B: c"), 2, "not NAME:VALUE"),
        (("call", "web", "GET:/", "-q", "nonsense"), 2, "not NAME=VALUE"),
        (("call", "absent", "GET:/"), 3, "there is no VM named 'absent'"),
        (("operations", "absent"), 3, "there is no VM named 'absent'"),
        (("action", "web", "nothing"), 3, "it has: reload"),
    ],
)
def test_what_cannot_be_asked_is_said(app: App, volar: Volar, arguments: tuple[str, ...], code: int, said: str) -> None:
    ran = volar("vms", *arguments)
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err
    assert app.asked == []


def test_an_answer_that_is_cut_fails(app: App, volar: Volar) -> None:
    app.cut = True
    ran = volar("vms", "call", "web", "GET:/")
    assert ran.code == 1
    assert "was cut" in ran.err


def test_actions_are_listed_and_asked(app: App, volar: Volar) -> None:
    assert volar("vms", "actions", "web").out.splitlines()[1].split() == ["reload", "POST", "/reload", "Read", "it", "again"]
    assert volar("vms", "actions", "web", "--json").json["items"][0]["path"] == "/reload"
    ran = volar("vms", "action", "web", "reload", "--body", '{"a": 1}')
    assert (ran.code, ran.json) == (0, {"asked": "POST /reload"})
    assert (app.asked[0][1]["content-type"], app.asked[0][2]) == ("application/json", b'{"a": 1}')
    app.status = "500 Oops"
    assert volar("vms", "action", "web", "reload").code == 1


def test_paths_are_filled_in_whole() -> None:
    assert fill_path("/a/{x}/b/{y.z}", {"x": "1", "y.z": "?#"}) == "/a/1/b/%3F%23"
    with pytest.raises(InvalidInput):
        fill_path("/a/{x}", {"x": ""})
