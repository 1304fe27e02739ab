"""One HTTP request to whatever is in a guest."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.core.errors import GuestUnreachable, InvalidInput
from volant.core.prometheus_text import MAX_TEXT_BYTES
from volant.reconcile.autoscale.scrape import get_text


class Stream:
    """A PortStream that answers with what it was given, in pieces; then it ends, or says nothing more."""

    def __init__(self, answer: bytes, *, piece: int = 1000, endless: bool = False) -> None:
        self._answer = answer
        self._piece = piece
        self._endless = endless
        self.sent = b""

    async def read(self, limit: int = 65536) -> bytes:
        if not self._answer and self._endless:
            await asyncio.Event().wait()
        data, self._answer = self._answer[: self._piece], self._answer[self._piece :]
        return data

    async def write(self, content: bytes) -> None:
        self.sent += content

    async def write_eof(self) -> None: ...

    def close(self) -> None: ...


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"Content-Length: 9\r\n\r\nqueued 7\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nqueu\r\n5\r\ned 7\n\r\n0\r\n\r\n",
        HEAD + b"\r\nqueued 7\n",
        b"HTTP/1.0 200 OK\r\n\r\nqueued 7\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + HEAD + b"Content-Length: 9\r\n\r\nqueued 7\n",
    ],
)
@pytest.mark.parametrize("piece", [1, 7, 1000])
async def test_the_body_is_told(answer: bytes, piece: int) -> None:
    stream = Stream(answer, piece=piece)
    assert await get_text(stream, "/metrics", 9100, limit_s=10) == b"queued 7\n"
    assert stream.sent.startswith(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:9100\r\n")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "status 404"),
        (b"HTTP/1.1 301 Moved\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n", "status 301"),
        (b"SSH-2.0-OpenSSH\r\n", "no HTTP"),
        (b"", "no HTTP|whole"),
        (HEAD + b"Content-Length: 90\r\n\r\nqueued 7\n", "no HTTP|whole"),
        (HEAD + b"X: " + b"y" * 100_000, "no HTTP"),
        (HEAD + b"\r\n" + b"#" * (MAX_TEXT_BYTES + 10), "more than"),
        (HEAD + b"Content-Length: 999999999999\r\n\r\n" + b"#" * (MAX_TEXT_BYTES + 10), "more than"),
    ],
)
async def test_what_is_no_good_answer_is_refused(answer: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        await get_text(Stream(answer, piece=65536), "/metrics", 80, limit_s=10)


async def test_who_says_nothing_is_waited_for_no_longer_than_that() -> None:
    with pytest.raises(GuestUnreachable, match="did not answer"):
        await get_text(Stream(HEAD, endless=True), "/metrics", 80, limit_s=0.01)


async def test_a_path_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no path"):
        await get_text(Stream(b""), "/a b\r\nX: y", 80, limit_s=10)


@given(st.binary(max_size=300), st.sampled_from([b"", HEAD, HEAD + b"\r\n", HEAD + b"Transfer-Encoding: chunked\r\n\r\n"]))
def test_anything_is_told_or_refused(content: bytes, before: bytes) -> None:
    try:
        text = asyncio.run(get_text(Stream(before + content), "/metrics", 80, limit_s=10))
    except (InvalidInput, GuestUnreachable):
        return
    assert len(text) <= len(content)
