"""The way to a VM's workload: HTTP both ways as it comes, and what ends it."""

from __future__ import annotations

import asyncio
import http.client
import socket
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from volant.client.connection import Connection
from volant.core.errors import BadAnswer, InvalidInput, NotFound, TimedOut, Unavailable
from volant.core.plugin import Plugin

from .guest_ports import Handler
from .served import Served

PORT = 8080
ROOT = "/api/v1/vms/web/agent"


class Heard:
    """What the workload was sent, request by request, raw."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.bodies: list[bytes] = []

    @property
    def lines(self) -> list[str]:
        return self.heads[-1].split("\r\n")

    @property
    def headers(self) -> dict[str, str]:
        pairs = (line.split(": ", 1) for line in self.lines[1:] if line)
        return {name.lower(): value for name, value in pairs}


def answering(heard: Heard, answer: bytes) -> Handler:
    """Reads one request, by Content-Length or chunked, then sends ``answer`` and hangs up."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.heads.append((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
        headers = heard.headers
        if "content-length" in headers:
            heard.bodies.append(await reader.readexactly(int(headers["content-length"])))
        elif headers.get("transfer-encoding") == "chunked":
            heard.bodies.append(await reader.readuntil(b"0\r\n\r\n"))
        else:
            heard.bodies.append(b"")
        writer.write(answer)
        await writer.drain()
        writer.close()

    return handle


def hold(served: Served, handler: Handler, **manifest: Any) -> None:
    """The VM ``web``, whose workload is ``handler``."""

    async def make() -> None:
        plugin: Plugin = await served.plane.add_plugin("app")
        changed = {
            **plugin.spec.manifest,
            "workload": {"entrypoint": ["/app"], "base_url": f"http://127.0.0.1:{PORT}"},
            **manifest,
        }
        spec = msgspec.structs.replace(plugin.spec, manifest=changed)
        await served.plane.plugins.table.put(msgspec.structs.replace(plugin, spec=spec))
        served.plane.door.ports.handlers[PORT] = handler

    served.run(make())
    Connection(served.address).request("POST", "/api/v1/vms", document={"name": "web", "plugin": "app"})


class Raw(http.client.HTTPConnection):
    """Plain HTTP over the socket of ``served``."""

    def __init__(self, served: Served) -> None:
        super().__init__("volantd", timeout=20)
        self._path = str(served.path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(self._path)


@pytest.fixture
def raw(served: Served) -> Iterator[Raw]:
    connection = Raw(served)
    yield connection
    connection.close()


def _let_go(served: Served) -> None:
    """Return once nobody holds a connection into the guest."""

    async def wait() -> None:
        async with asyncio.timeout(10):
            while served.plane.door.ports.open_now:
                await served.plane.door.ports.let_go.wait()

    served.run(wait())


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_every_method_and_its_content_reach_the_workload(served: Served, raw: Raw, method: str) -> None:
    heard = Heard()
    hold(served, answering(heard, b"HTTP/1.1 201 Made\r\nContent-Length: 5\r\nX-Own: yes\r\nContent-Type: a/b\r\n\r\nhello"))
    raw.request(method, f"{ROOT}/a%2Fb//c?x=%20&timeout=5", body=b"what", headers={"Content-Type": "text/plain"})
    answer = raw.getresponse()
    assert (answer.status, answer.read(), answer.headers["X-Own"], answer.headers["Content-Type"]) == (
        201,
        b"hello",
        "yes",
        "a/b",
    )
    assert heard.lines[0] == f"{method} /a%2Fb//c?x=%20&timeout=5 HTTP/1.1"
    assert heard.bodies == [b"what"]
    assert heard.headers["host"] == f"127.0.0.1:{PORT}"
    _let_go(served)


def test_head_has_the_length_and_no_content(served: Served, raw: Raw) -> None:
    heard = Heard()
    hold(served, answering(heard, b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"))
    raw.request("HEAD", f"{ROOT}/big")
    answer = raw.getresponse()
    assert (answer.status, answer.headers["Content-Length"], answer.read()) == (200, "5000", b"")
    assert heard.lines[0] == "HEAD /big HTTP/1.1"


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("", "/"),
        ("/", "/"),
        ("/v1", "/"),
        ("/v1/", "/"),
        ("/v1/x", "/x"),
        ("/v1/v1/x", "/v1/x"),
        ("/v1x", "/v1x"),
        ("/x?q", "/x?q"),
    ],
)
def test_the_prefix_of_the_original_is_understood_once(served: Served, raw: Raw, path: str, target: str) -> None:
    heard = Heard()
    hold(served, answering(heard, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    raw.request("GET", ROOT + path)
    assert raw.getresponse().status == 200
    assert heard.lines[0] == f"GET {target} HTTP/1.1"


def test_hop_by_hop_headers_stay_on_their_hop(served: Served, raw: Raw) -> None:
    heard = Heard()
    hold(
        served,
        answering(
            heard,
            b"HTTP/1.1 200 OK\r\nConnection: X-Mine, close\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\nAlt-Svc: h3\r\n"
            b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
    )
    sent = {
        "Connection": "X-Hop, keep-alive", "X-Hop": "1", "TE": "trailers", "Proxy-Authorization": "x", "Upgrade": "h2c",
        "X-Forwarded-For": "6.6.6.6", "X-Forwarded-Host": "evil", "Forwarded": "for=6.6.6.6", "Via": "1.0 evil",
        "Authorization": "Bearer theirs", "Host": "volant.test", "Volant-Timeout": "5s", "X-Kept": "yes",
    }  # fmt: skip
    raw.request("GET", f"{ROOT}/", headers=sent)
    answer = raw.getresponse()
    assert answer.read() == b"ok"
    assert answer.headers.get_all("Set-Cookie") == ["a=1", "b=2"]
    assert not {"x-mine", "keep-alive", "alt-svc"} & {name.lower() for name in answer.headers}
    there = heard.headers
    assert not {"x-hop", "te", "proxy-authorization", "upgrade", "forwarded", "volant-timeout", "connection"} & set(there)
    assert there["x-kept"] == "yes"
    assert there["via"] == "1.1 volantd"
    assert there["x-forwarded-host"] == "volant.test"
    assert there["x-forwarded-prefix"] == ROOT
    assert "x-forwarded-for" not in there
    assert there["authorization"] == "Bearer theirs"  # the kernel vouches for who asks: it is not volantd's


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("/login?next=%2F", f"{ROOT}/v1/login?next=%2F"),
        (f"http://127.0.0.1:{PORT}/x", f"{ROOT}/v1/x"),
        ("http://elsewhere.test/x", "http://elsewhere.test/x"),
        ("relative", "relative"),
    ],
)
def test_a_place_inside_is_told_as_where_it_appears(served: Served, raw: Raw, said: str, told: str) -> None:
    hold(served, answering(Heard(), f"HTTP/1.1 302 Found\r\nLocation: {said}\r\nContent-Length: 0\r\n\r\n".encode()))
    raw.request("GET", f"{ROOT}/")
    assert raw.getresponse().headers["Location"] == told


def test_chunks_reach_the_client_as_they_come(served: Served, raw: Raw) -> None:
    may_go_on = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
        )
        await may_go_on.wait()
        writer.write(b"6\r\nsecond\r\n0\r\n\r\n")

    hold(served, handle)
    raw.request("GET", f"{ROOT}/events")
    answer = raw.getresponse()
    assert answer.read1(5) == b"first"  # it came although the rest did not
    served.run(_set(may_go_on))
    assert answer.read() == b"second"


def test_content_reaches_the_workload_as_it_comes(served: Served, raw: Raw) -> None:
    seen = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readuntil(b"first")
        seen.set()
        await reader.readuntil(b"0\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    hold(served, handle)

    def chunks() -> Iterator[bytes]:
        yield b"first"
        served.run(asyncio.wait_for(seen.wait(), 10))  # it arrived before the second was sent
        yield b"second"

    raw.request("POST", f"{ROOT}/upload", body=chunks(), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    assert raw.getresponse().status == 200


def test_more_than_anybody_buffers_goes_both_ways_at_once(served: Served, raw: Raw) -> None:
    size = 20 * 1024 * 1024

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
        left = size
        while left:
            chunk = await reader.read(65536)
            left -= len(chunk)
            writer.write(chunk)
            await writer.drain()

    hold(served, echo)
    raw.putrequest("POST", f"{ROOT}/echo")
    raw.putheader("Content-Length", str(size))
    raw.endheaders()
    content = bytes(range(256)) * (size // 256)

    async def send() -> None:
        await asyncio.to_thread(raw.sock.sendall, content)

    sending = asyncio.run_coroutine_threadsafe(send(), served._loop)
    answer = raw.getresponse()
    assert answer.read() == content
    sending.result(20)


def test_a_client_that_goes_ends_the_request_in_the_guest(served: Served, raw: Raw) -> None:
    gone = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nbegun")
        try:
            await reader.read()
        finally:
            gone.set()

    hold(served, endless)
    raw.request("GET", f"{ROOT}/endless")
    answer = raw.getresponse()
    assert answer.read1(5) == b"begun"
    answer.close()
    raw.close()
    served.run(asyncio.wait_for(gone.wait(), 10))
    _let_go(served)


def test_a_client_that_goes_before_the_answer_ends_it_too(served: Served, raw: Raw) -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        try:
            await reader.read()
        finally:
            gone.set()

    hold(served, silent)
    raw.request("GET", f"{ROOT}/silent")
    served.run(asyncio.wait_for(asked.wait(), 10))
    raw.close()
    served.run(asyncio.wait_for(gone.wait(), 10))
    _let_go(served)


def test_an_answer_that_is_cut_is_cut_for_the_client(served: Served, raw: Raw) -> None:
    hold(served, answering(Heard(), b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"))
    raw.request("GET", f"{ROOT}/")
    with pytest.raises(http.client.IncompleteRead):
        raw.getresponse().read()
    _let_go(served)


def test_an_answer_that_comes_before_all_was_sent_is_the_answer(served: Served, raw: Raw) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        await writer.drain()
        writer.close()

    hold(served, refuse)
    raw.putrequest("POST", f"{ROOT}/")
    raw.putheader("Content-Length", "1000000")
    raw.endheaders()
    raw.send(b"x" * 1000)
    answer = raw.getresponse()
    assert (answer.status, answer.read()) == (413, b"no")


def test_who_asks_to_continue_is_told_when_the_workload_says_so(served: Served, raw: Raw) -> None:
    async def careful(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"expect: 100-continue" in head.lower()
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await reader.readexactly(4) == b"body"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    hold(served, careful)
    raw.putrequest("POST", f"{ROOT}/")
    raw.putheader("Content-Length", "4")
    raw.putheader("Expect", "100-continue")
    raw.endheaders()
    reading = raw.sock.makefile("rb")
    assert reading.readline().startswith(b"HTTP/1.1 100")
    reading.readline()
    raw.send(b"body")
    assert reading.readline().startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "answer",
    [
        b"not http at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 103 Early\r\n\r\n" * 40,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_a_guest_that_talks_nonsense_is_a_bad_gateway(served: Served, api: Connection, answer: bytes) -> None:
    hold(served, answering(Heard(), answer))
    with pytest.raises(BadAnswer):
        api.get_json(f"{ROOT}/")
    _let_go(served)


def test_a_workload_that_says_nothing_is_given_up(served: Served, api: Connection) -> None:
    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    hold(served, silent)
    with pytest.raises(TimedOut):
        api.request("GET", f"{ROOT}/", headers={"Volant-Timeout": "50ms"})
    with pytest.raises(InvalidInput, match="not a duration"):
        api.request("GET", f"{ROOT}/", headers={"Volant-Timeout": "soon"})
    _let_go(served)


def test_what_cannot_be_reached_says_so(served: Served, api: Connection) -> None:
    hold(served, answering(Heard(), b""))
    with pytest.raises(BadAnswer, match="before its answer was whole"):
        api.get_json(f"{ROOT}/")
    del served.plane.door.ports.handlers[PORT]
    with pytest.raises(Unavailable, match="nobody listens"):
        api.get_json(f"{ROOT}/")
    with pytest.raises(NotFound):
        api.get_json("/api/v1/vms/nobody/agent/")


def test_two_lengths_and_other_smuggling_are_refused_at_the_door(served: Served) -> None:
    heard = Heard()
    hold(served, answering(heard, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    head = f"POST {ROOT}/ HTTP/1.1\r\nHost: x\r\n".encode()
    for framing in (
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n",
        b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    ):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(str(served.path))
            connection.sendall(head + framing)
            answer = connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 400"), framing
    assert not any("evil" in one for one in heard.heads)
    _let_go(served)


def test_volantd_that_stops_cuts_what_is_under_way(served: Served, raw: Raw) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n")
        await reader.read()

    hold(served, endless)
    raw.request("GET", f"{ROOT}/endless")
    answer = raw.getresponse()
    assert answer.read1(5) == b"begun"
    served.stop()
    with pytest.raises(http.client.IncompleteRead):
        answer.read()


async def _set(event: asyncio.Event) -> None:
    event.set()
