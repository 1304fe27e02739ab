"""The way to a real guest's workload, through the channel: streams, WebSockets, and what ends them."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import unix_connect

from .counter import HEALTH
from .daemon import Daemon

ENTRYPOINT = [
    "perl",
    "-MIO::Handle",
    "-MIO::Socket::INET",
    "-e",
    Path(__file__).with_name("web_workload.pl").read_text(),
]
ACTIONS = {"greet": {"method": "GET", "path": "/greeting?from=action", "description": "Say hello"}}
ROOT = "/api/v1/vms/web/agent"


class Raw(http.client.HTTPConnection):
    """Plain HTTP to volantd."""

    def __init__(self, path: str) -> None:
        super().__init__("volantd", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self._path)


@pytest.fixture
def web(daemon: Daemon, install: Callable[..., None]) -> Daemon:
    install("app", ENTRYPOINT, health=HEALTH, actions=ACTIONS)
    daemon.volar("vms", "create", "web", "--plugin", "app", "--label", "app=shop")
    return daemon


@pytest.fixture
def raw(web: Daemon) -> Iterator[Raw]:
    connection = Raw(web.api.removeprefix("unix://"))
    yield connection
    connection.close()


def _wait_logged(daemon: Daemon, text: str) -> None:
    """Return once the workload wrote the line."""
    command = ("vms", "logs", "web", "--json")

    def lines() -> list[str]:
        return [json.loads(line)["text"] for line in daemon.volar(*command).stdout.splitlines()]

    daemon.wait_vm("web", lambda _vm: text in lines(), timeout_s=30)


def test_the_workload_answers_through_the_channel(web: Daemon, raw: Raw) -> None:
    raw.request("GET", f"{ROOT}/v1/plain%20path?x=1")
    answer = raw.getresponse()
    assert (answer.status, answer.read()) == (200, b"GET /plain%20path?x=1 via 1.1 volantd\n")

    # Content, both ways: more than windows hold.
    content = bytes(range(256)) * 16384
    raw.request("POST", f"{ROOT}/echo", body=content)
    assert raw.getresponse().read() == f"{len(content)} {sum(content) % 2**32}\n".encode()
    raw.request("GET", f"{ROOT}/flood")
    flood = raw.getresponse().read()
    assert flood == bytes(n % 251 for n in range(32768)) * 256

    # A stream comes as it is made, and is over in the guest when its client goes.
    raw.request("GET", f"{ROOT}/stream")
    answer = raw.getresponse()
    assert answer.readline() == b"line 0\n"
    assert answer.readline() == b"line 1\n"
    answer.close()
    raw.close()
    _wait_logged(web, "stream gone")
    raw.request("GET", f"{ROOT}/silent")
    _wait_logged(web, "silent asked")
    raw.close()
    _wait_logged(web, "silent gone")
    raw.request("GET", f"{ROOT}/silent", headers={"Volant-Timeout": "300ms"})
    late = raw.getresponse()
    assert (late.status, json.loads(late.read())["code"]) == (504, "timed_out")

    # A WebSocket is one at the other end too.
    with unix_connect(str(web.api.removeprefix("unix://")), f"ws://x{ROOT}/ws", proxy=None, compression=None) as opened:
        for message in ("hello", "x" * 5000, b"\x00\xff"):
            opened.send(message)
            assert opened.recv(timeout=30) == message
        opened.close(4001)
    _wait_logged(web, "socket gone")
    with unix_connect(str(web.api.removeprefix("unix://")), f"ws://x{ROOT}/ws", proxy=None, compression=None) as opened:
        opened.send("still here")
        assert opened.recv(timeout=30) == "still here"
        web.volar("vms", "stop", "web")
        with pytest.raises(ConnectionClosed):
            opened.recv(timeout=60)
    raw.request("GET", f"{ROOT}/")
    stopped = raw.getresponse()
    assert (stopped.status, json.loads(stopped.read())["code"]) == (409, "wrong_state")


def test_the_command_line_reaches_operations_actions_and_numbers(web: Daemon) -> None:
    operations = web.json("vms", "operations", "web")["items"]
    assert [(one["id"], one["path"]) for one in operations] == [("hello", "/hello/{who}")]
    assert web.volar("vms", "call", "web", "hello", "--path", "who=you").stdout == b"GET /hello/you via 1.1 volantd\n"
    assert web.volar("vms", "action", "web", "greet").stdout == b"GET /greeting?from=action via 1.1 volantd\n"

    before = web.json("vms", "stats")["items"][0]
    web.volar("vms", "call", "web", "GET:/flood")
    web.fetch(web.vm("web"), "/flood")
    after: Any = web.json("vms", "stats", "-l", "app=shop")["items"][0]
    assert after["name"] == "web"
    assert after["network_sent_bytes"] - before["network_sent_bytes"] >= 8 * 1024 * 1024
    assert after["cpu_s"] > before["cpu_s"]
    assert after["guest_memory_total_bytes"] > 64 * 1024 * 1024
    assert web.volar("top").stdout.splitlines()[3].startswith(b"web ")

    web.volar("vms", "wait", "web", "--for", "condition=Ready")
    web.volar("vms", "stop", "-l", "app=shop")
    web.volar("vms", "wait", "-l", "app=shop", "--for", "phase=Stopped")
    late = web.volar("vms", "wait", "web", "--for", "condition=Ready", "--timeout", "300ms", check=False)
    assert late.returncode == 1
    assert b"Ready is False" in late.stderr
