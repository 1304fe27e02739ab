"""Both clients on the whole of volantd: streams that go on, requests that are asked again, and answers without content."""

from __future__ import annotations

import asyncio
import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import volant
from volant.client.connection import Connection
from volant.core.errors import HeadersTooLarge, Malformed, NotAcceptable, PreconditionFailed

from .plane import SimulatedVolantd

WEB = "/api/v1/vms/web"


@pytest.fixture
def client(volantd: SimulatedVolantd) -> volant.Client:
    return volant.Client(volantd.unix)


@pytest.fixture
def asynchronous(volantd: SimulatedVolantd) -> volant.AsyncClient:
    return volant.AsyncClient(volantd.unix)


def test_a_vms_changes_are_followed_from_where_one_was(client: volant.Client) -> None:
    changes = client.vms.watch_all()
    told = [next(changes) for _ in range(2)]
    assert [(change.type, change.vm and change.vm.name, bool(change.id)) for change in told] == [
        ("put", "web", False),
        ("synced", None, True),
    ]
    client.vms.create({"name": "other", "plugin": "nginx", "labels": {"tier": "db"}}, wait="ready")
    later = client.vms.watch_all(since=told[1].id, plugin="nginx")
    assert next(later).vm == next(changes).vm
    none = client.vms.watch_all("tier=web")
    assert next(none).type == "synced"
    client.vms.delete("other")
    while (change := next(changes)).type != "deleted":
        pass
    assert change.vm is not None
    assert change.vm.name == "other"
    for stream in (changes, later, none):
        stream.close()  # type: ignore[attr-defined]  # a generator


class _Flaky:
    """A TCP port that passes bytes on to a volantd, and drops the answers of the first connections."""

    def __init__(self, target: str, drops: int) -> None:
        self._target = target.removeprefix("http://")
        self._drops = drops
        self.seen = 0

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen += 1
        host, _, port = self._target.rpartition(":")
        behind, onward = await asyncio.open_connection(host, int(port))
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next((int(line[16:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: ")), 0)
            drops = self.seen <= self._drops
            onward.write(head + await reader.readexactly(length))
            if drops:
                await behind.readuntil(b"\r\n\r\n")  # it was done, and nobody hears of it
                return
            answer = await behind.readuntil(b"\r\n\r\n")
            length = next(int(line[16:]) for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length: "))
            writer.write(answer + await behind.readexactly(length))
            await writer.drain()
        finally:
            onward.close()
            writer.close()


async def test_a_lost_answer_is_asked_for_again_and_nothing_done_twice(
    volantd: SimulatedVolantd, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOLANT_TOKEN", volantd.token)
    flaky = _Flaky(volantd.url, 2)
    async with flaky as address:
        before = (await volant.AsyncClient(volantd.unix).vms.get("web")).spec.restart_token
        vm = await volant.AsyncClient(address).vms.restart("web")
        assert (flaky.seen, vm.spec.restart_token) == (3, before + 1)
        flaky.seen = 0
        vm = await asyncio.to_thread(volant.Client(address).vms.restart, "web")
        assert (flaky.seen, vm.spec.restart_token) == (3, before + 2)


async def test_the_asynchronous_client_streams(asynchronous: volant.AsyncClient) -> None:
    async with asyncio.timeout(30):
        await asynchronous.vms.create({"name": "spoken", "plugin": "nginx"}, wait="ready")
        seen = []
        async for vm in asynchronous.vms.watch("spoken"):
            seen.append(vm)
            if len(seen) == 1:
                await asynchronous.vms.delete("spoken")
        assert seen[0] is not None
        assert seen[-1] is None
        listed, place = await asynchronous.events.list(about_name="web")
        assert listed
        assert place
        async for id_, event in asynchronous.events.follow("0", about_name="web"):
            assert (id_, event.spec.about_name) == (str(event.revision), "web")
            break


async def test_the_asynchronous_client_runs_programs_and_copies_files(asynchronous: volant.AsyncClient) -> None:
    async with asyncio.timeout(30):
        await asynchronous.vms.start("web", wait="ready")
        async with asynchronous.vms.exec("web", ("echo", "hello")) as program:
            output = b"".join([content async for _, content in program])
        assert (output, program.code) == (b"hello\n", 0)
        lines = [line async for line in asynchronous.vms.logs("web")]
        assert isinstance(lines, list)


def _ask(volantd: SimulatedVolantd, method: str, path: str, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(volantd.url.removeprefix("http://"), timeout=30)
    connection.request(method, path, headers={"Authorization": f"Bearer {volantd.token}", **(headers or {})})
    answer = connection.getresponse()
    answer.content = answer.read()  # type: ignore[attr-defined]
    connection.close()
    return answer


def test_what_did_not_change_is_not_sent_again(volantd: SimulatedVolantd) -> None:
    for path in ("/api/v1/networks/default", WEB, "/api/v1/plugins"):
        # A controller may write between two requests; it does not for long.
        for _ in range(50):
            tag = _ask(volantd, "GET", path).headers["ETag"]
            same = _ask(volantd, "GET", path, {"If-None-Match": f'"x", {tag}'})
            if same.status == 304:
                break
        assert (same.status, same.headers["ETag"], same.content) == (304, tag, b"")  # type: ignore[attr-defined]
        assert _ask(volantd, "GET", path, {"If-None-Match": '"0.0"'}).status == 200


def test_an_etag_is_a_precondition(client: volant.Client) -> None:
    answer = client.connection.request("GET", WEB)
    generation = int(answer.headers["ETag"].strip('"').partition(".")[0])
    with pytest.raises(PreconditionFailed):
        client.vms.stop("web", generation=generation + 1)
    same = client.connection.request("PATCH", WEB, document={}, headers={"If-Match": answer.headers["ETag"]})
    assert same.status == 200


def test_a_deletion_takes_a_precondition(client: volant.Client) -> None:
    client.networks.create("lan", subnet="10.77.0.0/24")
    with pytest.raises(PreconditionFailed, match="the network 'lan' is at generation 1"):
        client.networks.delete("lan", generation=7)
    assert client.networks.delete("lan", generation=1, wait=True) is None


def test_head_and_options_say_what_get_would(volantd: SimulatedVolantd) -> None:
    get, head = _ask(volantd, "GET", WEB), _ask(volantd, "HEAD", WEB)
    assert (head.status, head.content, head.headers["Content-Type"]) == (200, b"", get.headers["Content-Type"])  # type: ignore[attr-defined]
    assert _ask(volantd, "HEAD", f"{WEB}/watch").status == 200
    assert _ask(volantd, "HEAD", "/api/v1/vms/absent").status == 404
    allowed = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "PUT"}
    for method, status in (("OPTIONS", 204), ("POST", 405)):
        answer = _ask(volantd, method, WEB)
        assert (answer.status, set(answer.headers["Allow"].split(", "))) == (status, allowed)
    assert _ask(volantd, "OPTIONS", WEB, {"Authorization": "Bearer wrong"}).status == 401


def test_every_answer_names_its_request(volantd: SimulatedVolantd) -> None:
    named = _ask(volantd, "GET", "/api/v1/vms/absent", {"Volant-Request-Id": "my-own.1"})
    assert named.headers["Volant-Request-Id"] == "my-own.1"
    assert b'"request_id":"my-own.1"' in named.content  # type: ignore[attr-defined]
    given = {_ask(volantd, "GET", WEB, {"Volant-Request-Id": wrong}).headers["Volant-Request-Id"] for wrong in ("a b", "x" * 65)}
    assert len(given) == 2
    assert not given & {"a b", "x" * 65}


def test_old_routes_say_so(volantd: SimulatedVolantd) -> None:
    answer = _ask(volantd, "GET", "/openapi")
    assert answer.headers["Deprecation"] == "@1796083200"
    assert answer.headers["Sunset"] == "Sat, 01 Jan 2028 00:00:00 GMT"
    assert answer.headers["Link"] == '</openapi.json>; rel="successor-version"'
    assert "Deprecation" not in _ask(volantd, "GET", "/openapi.json").headers


def test_what_nobody_can_read_is_refused_in_the_same_words(client: volant.Client, volantd: SimulatedVolantd) -> None:
    with pytest.raises(NotAcceptable):
        client.connection.request("GET", WEB, headers={"Accept": "text/html"})
    with pytest.raises(HeadersTooLarge):
        client.connection.request("GET", WEB, headers={"X-Long": "x" * 70_000})
    with _raw(volantd) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Endless: " + b"x" * 200_000)
        assert connection.recv(65536).startswith(b"HTTP/1.1 431 ")
    with _raw(volantd) as connection:
        connection.sendall(b"this is not HTTP\r\n\r\n")
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"code":"malformed"' in answer


@contextmanager
def _raw(volantd: SimulatedVolantd) -> Iterator[socket.socket]:
    host, _, port = volantd.url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        yield connection


def test_a_key_that_is_none_is_refused(volantd: SimulatedVolantd) -> None:
    with pytest.raises(Malformed, match="Idempotency-Key"):
        Connection(volantd.unix).request("POST", f"{WEB}/start", headers={"Idempotency-Key": "a b"})
