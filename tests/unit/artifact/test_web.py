"""Files over https: bounds, retries, and where redirects and other urls may lead."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from ipaddress import ip_address

import httpx2
import pytest

from volant.artifact.registry.allowance import read_allowance
from volant.artifact.registry.settings import RegistrySettings
from volant.artifact.web import Web, read_url
from volant.core.errors import ChecksumMismatch, Forbidden, HostError, InvalidInput, NotFound, TooLarge, Unavailable, VolantError

from .registry_fake import Broken, InstantClock, Whole

START = "https://www.example.org/web/manifest.json"
FILE = "https://www.example.org/web/rootfs"
ADDRESSES = {
    "www.example.org": ("93.184.216.34",),
    "cdn.example.org": ("93.184.216.35",),
    "inside.example.org": ("10.0.0.7",),
    "both.example.org": ("93.184.216.36", "127.0.0.1"),
    "meta.example.org": ("169.254.169.254",),
    "private.example.org": ("192.168.1.9",),
}
Answering = Callable[[httpx2.Request], httpx2.Response]


class Endless(httpx2.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            yield bytes(65536)


class Server:
    """Answers by path: a function, or what is given in the order of asking."""

    def __init__(self, start: str = START, allow: str | None = None) -> None:
        self.answers: dict[str, list[httpx2.Response] | Answering] = {}
        self.asked: list[httpx2.Request] = []
        self.clock = InstantClock()
        settings = RegistrySettings(attempts=3, allowance=None if allow is None else read_allowance(allow))
        self.web = Web(
            start, settings, clock=self.clock, random=lambda: 1.0, lookup=self._lookup,
            transport=httpx2.MockTransport(self._answer),
        )  # fmt: skip

    async def _lookup(self, host: str, _port: int) -> tuple[str, ...]:
        if host not in ADDRESSES:
            raise OSError("unknown")
        return ADDRESSES[host]

    async def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        answers = self.answers[request.url.path]
        return answers.pop(0) if isinstance(answers, list) else answers(request)

    async def stream(self, url: str = FILE, max_bytes: int = 10**9) -> bytes:
        async with aclosing(self.web.stream(url, max_bytes)) as chunks:
            return b"".join([chunk async for chunk in chunks])


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    async with made.web:
        yield made


def redirect(to: str) -> httpx2.Response:
    return httpx2.Response(302, headers={"Location": to})


def sized(content: bytes, stream: httpx2.AsyncByteStream, status: int = 200, **headers: str) -> httpx2.Response:
    return httpx2.Response(status, headers={"Content-Length": str(len(content)), **headers}, stream=stream)


async def test_a_small_file_is_read_whole_and_a_large_one_refused(server: Server) -> None:
    server.answers["/web/manifest.json"] = lambda _: sized(b"x" * 100, Whole(b"x" * 100))
    assert await server.web.read(START, 100) == b"x" * 100
    with pytest.raises(TooLarge):
        await server.web.read(START, 99)


async def test_a_file_without_end_is_cut_off(server: Server) -> None:
    server.answers["/web/rootfs"] = lambda _: httpx2.Response(200, stream=Endless())
    with pytest.raises(TooLarge):
        await server.stream(max_bytes=10**6)
    server.answers["/web/rootfs"] = lambda _: sized(b"x" * 1001, Whole(b"x" * 1001))
    with pytest.raises(TooLarge, match="1001 bytes"):
        await server.stream(max_bytes=1000)


async def test_what_broke_off_goes_on_where_it_ended(server: Server) -> None:
    content = bytes(range(256)) * 8
    server.answers["/web/rootfs"] = [
        sized(content, Broken(content[:1000], httpx2.ReadError("gone"))),
        sized(content[1000:], Whole(content[1000:]), 206, **{"Content-Range": f"bytes 1000-2047/{len(content)}"}),
    ]
    assert await server.stream() == content
    assert [request.headers.get("range") for request in server.asked] == [None, "bytes=1000-"]
    assert server.clock.slept == [0.5]


async def test_a_server_without_ranges_begins_anew_and_nothing_comes_twice(server: Server) -> None:
    content = bytes(range(256)) * 8
    server.answers["/web/rootfs"] = [
        sized(content, Broken(content[:1000], httpx2.ReadError("gone"))),
        sized(content, Whole(content)),
    ]
    assert await server.stream() == content


@pytest.mark.parametrize(
    "second",
    [
        sized(b"x" * 2000, Whole(b"x" * 2000)),
        httpx2.Response(206, headers={"Content-Range": "bytes 1001-2047/2048"}, stream=Whole(b"x")),
        httpx2.Response(206, stream=Whole(b"x")),
        httpx2.Response(416),
    ],
)
async def test_a_file_that_changed_meanwhile_is_not_pieced_together(server: Server, second: httpx2.Response) -> None:
    content = b"x" * 2048
    server.answers["/web/rootfs"] = [sized(content, Broken(content[:1000], httpx2.ReadError("gone"))), second]
    with pytest.raises(ChecksumMismatch, match="changed while it was fetched"):
        await server.stream()


async def test_a_chunked_answer_ends_where_it_says(server: Server) -> None:
    server.answers["/web/rootfs"] = lambda _: httpx2.Response(200, stream=Whole(b"x" * 100_000))
    assert await server.stream() == b"x" * 100_000


async def test_a_server_that_is_busy_is_asked_again_when_it_says_and_not_for_ever(server: Server) -> None:
    server.answers["/web/rootfs"] = [
        httpx2.Response(429, headers={"Retry-After": "7"}),
        sized(b"ok", Whole(b"ok")),
    ]
    assert await server.stream() == b"ok"
    assert server.clock.slept == [7.0]
    server.answers["/web/rootfs"] = lambda _: httpx2.Response(503)
    with pytest.raises(Unavailable, match="answers 503"):
        await server.stream()
    assert len(server.asked) == 5


@pytest.mark.parametrize(
    ("status", "error"), [(404, NotFound), (410, NotFound), (403, Forbidden), (401, Forbidden), (400, HostError)]
)
async def test_an_error_is_told_without_the_query(server: Server, status: int, error: type[VolantError]) -> None:
    server.answers["/web/rootfs"] = lambda _: httpx2.Response(status)
    with pytest.raises(error) as raised:
        await server.stream(FILE + "?token=secret")
    assert "secret" not in str(raised.value)
    assert len(server.asked) == 1


async def test_a_redirect_is_followed_to_the_addresses_that_were_checked(server: Server) -> None:
    server.answers["/web/rootfs"] = lambda _: redirect("https://cdn.example.org/blob?signature=x")
    server.answers["/blob"] = lambda _: sized(b"content", Whole(b"content"))
    assert await server.stream() == b"content"
    last = server.asked[-1]
    assert (last.url.host, last.headers["host"], last.extensions["sni_hostname"]) == (
        "93.184.216.35", "cdn.example.org", "cdn.example.org",
    )  # fmt: skip


@pytest.mark.parametrize(
    "to",
    [
        "http://www.example.org/rootfs",
        "http://cdn.example.org/rootfs",
        "file:///etc/shadow",
        "ftp://cdn.example.org/x",
        "https://name:password@cdn.example.org/x",
        "https://inside.example.org/x",
        "https://private.example.org/x",
        "https://both.example.org/x",
        "https://meta.example.org/x",
        "https://127.0.0.1/x",
        "https://[::1]/x",
        "https://[::ffff:10.0.0.1]/x",
        "https://169.254.169.254/x",
    ],
)
async def test_a_public_host_sends_nobody_into_a_network_of_its_readers(server: Server, to: str) -> None:
    server.answers["/web/rootfs"] = lambda _: redirect(to)
    with pytest.raises(Forbidden):
        await server.stream()
    assert len(server.asked) == 1


@pytest.mark.parametrize("url", ["https://inside.example.org/x", "https://127.0.0.1/x", "https://meta.example.org/x"])
async def test_a_manifest_may_not_either(server: Server, url: str) -> None:
    with pytest.raises(Forbidden):
        await server.stream(server.web.resolve(url))
    assert server.asked == []


async def test_who_is_inside_may_point_inside_but_not_to_this_machine() -> None:
    server = Server("https://inside.example.org/manifest.json")
    server.answers["/x"] = lambda _: sized(b"content", Whole(b"content"))
    async with server.web:
        assert await server.stream("https://private.example.org/x") == b"content"
        for url in ("https://127.0.0.1/x", "https://meta.example.org/x"):
            with pytest.raises(Forbidden):
                await server.stream(url)


async def test_redirects_have_an_end(server: Server) -> None:
    server.answers["/web/rootfs"] = lambda _: redirect("/web/rootfs")
    with pytest.raises(HostError, match="more than 3 times"):
        await server.stream()
    assert len(server.asked) == 4


def test_urls_are_relative_to_the_start() -> None:
    web = Web(START)
    assert web.resolve("rootfs") == "https://www.example.org/web/rootfs"
    assert web.resolve("/x/../rootfs") == "https://www.example.org/rootfs"
    assert web.resolve("https://cdn.example.org/rootfs") == "https://cdn.example.org/rootfs"
    for url in ("file:///etc/shadow", "http://www.example.org/x", "ftp:x", "//name:password@cdn.example.org/x"):
        with pytest.raises(InvalidInput):
            web.resolve(url)


@pytest.mark.parametrize(
    "text",
    ["", "x", "http://www.example.org/x", "https://", "https://a:b@www.example.org/", "https://[::1", "https://x/" + "y" * 3000],
)
def test_what_is_no_https_url_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        read_url(text)


@pytest.mark.parametrize(
    ("host", "allow", "is_spoken_to"),
    [
        ("www.example.org", "", True),
        ("inside.example.org", "", False),
        ("inside.example.org", "private", True),
        ("inside.example.org", "loopback", False),
        ("inside.example.org", "inside.example.org", True),
        ("inside.example.org", "INSIDE.example.org:443", True),
        ("inside.example.org", "inside.example.org:8443", False),
        ("inside.example.org", "private.example.org, 10.0.0.0/24", True),
        ("inside.example.org", "10.0.1.0/24", False),
        ("both.example.org", "", False),
        ("both.example.org", "private", False),
        ("both.example.org", "loopback", True),
        ("127.0.0.1", "", False),
        ("127.0.0.1", "127.0.0.0/8", True),
        ("[::1]", "private", False),
        ("[::1]", "loopback", True),
        ("[::ffff:10.0.0.7]", "10.0.0.0/8", True),
        ("meta.example.org", "private loopback meta.example.org 169.254.0.0/16", False),
        ("169.254.169.254", "private loopback 0.0.0.0/0", False),
        ("[fe80::1]", "private loopback ::/0", False),
        ("0.0.0.0", "private loopback", False),
    ],
)
async def test_only_what_is_allowed_is_spoken_to(host: str, allow: str, is_spoken_to: bool) -> None:
    server = Server(f"https://{host}/manifest.json", allow)
    server.answers["/manifest.json"] = lambda _: sized(b"x", Whole(b"x"))
    async with server.web:
        if is_spoken_to:
            assert await server.web.read(f"https://{host}/manifest.json", 10) == b"x"
            # To the address that was looked at, by the name that was asked for: it cannot mean another one a moment later.
            looked_up = ADDRESSES.get(host, (host.strip("[]"),))
            assert ip_address(server.asked[0].url.host) in {ip_address(each) for each in looked_up}
            assert server.asked[0].headers["host"] == host
        else:
            with pytest.raises(Forbidden, match="address"):
                await server.web.read(f"https://{host}/manifest.json", 10)
            assert server.asked == []


async def test_a_redirect_needs_leave_as_well() -> None:
    server = Server("https://inside.example.org/manifest.json", "inside.example.org")
    server.answers["/manifest.json"] = lambda _: redirect("https://private.example.org/x")
    async with server.web:
        with pytest.raises(Forbidden, match=r"192\.168\.1\.9 is a private address"):
            await server.web.read("https://inside.example.org/manifest.json", 10)
    assert len(server.asked) == 1


@pytest.mark.parametrize("word", ["10.0.0.0/99", "http://x", "name@host", "*", "a/b"])
def test_what_nothing_can_be_allowed_from_is_refused(word: str) -> None:
    with pytest.raises(InvalidInput, match="nothing that downloads can be allowed from"):
        read_allowance(word)


async def test_what_is_taken_up_has_to_be_the_same_file(server: Server) -> None:
    tag = {"ETag": '"one"'}
    server.answers["/web/rootfs"] = [
        sized(b"content", Broken(b"con", httpx2.ReadError("cut")), 200, **tag),
        httpx2.Response(206, headers={"Content-Range": "bytes 3-6/7", **tag}, stream=Whole(b"tent")),
    ]
    assert await server.stream() == b"content"
    assert (server.asked[1].headers["range"], server.asked[1].headers["if-range"]) == ("bytes=3-", '"one"')


async def test_a_weak_tag_says_nothing_of_bytes(server: Server) -> None:
    server.answers["/web/rootfs"] = [
        sized(b"content", Broken(b"con", httpx2.ReadError("cut")), 200, ETag='W/"one"'),
        httpx2.Response(206, headers={"Content-Range": "bytes 3-6/7"}, stream=Whole(b"tent")),
    ]
    assert await server.stream() == b"content"
    assert "if-range" not in server.asked[1].headers


async def test_a_stream_begins_where_it_is_asked_to(server: Server) -> None:
    server.answers["/web/rootfs"] = lambda _: httpx2.Response(
        206, headers={"Content-Range": "bytes 3-6/7", "Content-Length": "4"}, stream=Whole(b"tent")
    )
    async with aclosing(server.web.stream(FILE, 100, offset=3)) as chunks:
        assert b"".join([chunk async for chunk in chunks]) == b"tent"
    assert server.asked[0].headers["range"] == "bytes=3-"


async def test_no_credentials_go_to_another_host(server: Server) -> None:
    server.answers["/web/rootfs"] = lambda _: redirect("https://cdn.example.org/blob")
    server.answers["/blob"] = lambda _: sized(b"content", Whole(b"content"))
    await server.stream()
    assert all(not {"authorization", "cookie"} & set(asked.headers) for asked in server.asked)
