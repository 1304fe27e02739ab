"""Answers that go on: watch, events, logs, console; and how they are cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from volant.api.protocol import ABORT
from volant.api.streamed import Stalled, Streamed, peek
from volant.client.client import Client
from volant.client.connection import Connection
from volant.core.errors import GuestUnreachable, InvalidInput, Malformed, NotFound, Unavailable, WrongState

from .served import Served

WEB = {"name": "web", "plugin": "nginx"}


def test_watch_tells_every_change_and_the_end(served: Served) -> None:
    client = Client(served.address)
    client.vms.create(WEB)
    states = client.vms.watch("web")
    seen = [next(states)]
    served.run(served.plane.make_ready("web"))
    seen.append(next(states))
    served.run(served.plane.vms.table.drop("web"))

    assert [vm.status.phase for vm in seen if vm] == ["Pending", "Running"]
    assert list(states) == [None]
    with pytest.raises(NotFound):
        next(client.vms.watch("web"))


def test_events_resume_where_the_last_was(served: Served) -> None:
    client = Client(served.address)
    for reason in ("Created", "Booted"):
        served.run(served.plane.events.record("web", reason, "so it is"))
    listed, since = client.events.list(about_name="web")
    assert [event.spec.reason for event in listed] == ["Created", "Booted"]
    assert [event.spec.reason for event in client.events.list(limit=1)[0]] == ["Booted"]

    followed = client.events.follow("1")
    id_, event = next(followed)
    assert (id_, event.spec.reason) == ("2", "Booted")
    served.run(served.plane.events.record("db", "Created", "another"))
    assert next(followed)[1].spec.about_name == "db"
    followed.close()

    served.run(served.plane.events.record("web", "Ready", "at last"))
    assert next(client.events.follow(since, about_name="web"))[1].spec.reason == "Ready"


def test_an_event_id_that_is_none_is_refused(api: Connection) -> None:
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "x"}
    with pytest.raises(Malformed, match="Last-Event-ID"), api.stream("/api/v1/events", headers=headers):
        pass


def test_logs_come_as_records_or_as_text(served: Served, api: Connection) -> None:
    client = Client(served.address)
    client.vms.create(WEB)
    served.run(served.plane.door.write_line("one"))
    served.run(served.plane.door.write_line("two", "stderr", partial=True))
    served.run(served.plane.door.write_line("three"))

    assert [(line["source"], line["text"]) for line in client.vms.logs("web", tail=2)] == [("stderr", "two"), ("stdout", "three")]
    answer = api.request("GET", "/api/v1/vms/web/logs", headers={"Accept": "text/plain"})
    assert answer.content == b"one\ntwothree\n"
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_followed_logs_go_on_and_end_with_the_problem(served: Served) -> None:
    client = Client(served.address)
    client.vms.create(WEB)
    lines = client.vms.logs("web", follow=True)
    served.run(served.plane.door.write_line("one"))
    assert next(lines)["text"] == "one"
    served.run(served.plane.door.write_line("BREAK"))
    with pytest.raises(GuestUnreachable, match="went away"):
        next(lines)


def test_what_fails_at_once_is_a_proper_answer(served: Served) -> None:
    client = Client(served.address)
    client.vms.create(WEB)
    with pytest.raises(WrongState, match="no run before"):
        next(client.vms.logs("web", previous=True))
    with pytest.raises(InvalidInput, match="not a time"):
        next(client.vms.logs("web", since="yesterday"))
    with pytest.raises(NotFound):
        next(client.vms.logs("absent"))


def test_text_that_breaks_off_is_not_taken_for_all(served: Served) -> None:
    api = Connection(served.address, retry_s=0)
    Client(served.address).vms.create(WEB)
    served.run(served.plane.door.write_line("one"))
    served.run(served.plane.door.write_line("BREAK"))
    with pytest.raises(Unavailable, match="ended the connection"):
        api.request("GET", "/api/v1/vms/web/logs", headers={"Accept": "text/plain"})


def test_console_is_binary_clean(served: Served) -> None:
    client = Client(served.address)
    client.vms.create(WEB)
    served.plane.door.console = bytes(range(256)) * 1000
    assert b"".join(client.vms.console("web")) == served.plane.door.console
    assert b"".join(client.vms.console("web", tail_bytes=3)) == b"\xfd\xfe\xff"


def test_streams_end_when_the_server_stops(served: Served) -> None:
    client = Client(served.address, reconnect_s=0)
    client.vms.create(WEB)
    states = client.vms.watch("web")
    next(states)
    served.stop()
    with pytest.raises(Unavailable):
        next(states)


async def test_a_silent_stream_shows_that_it_lives(served: Served) -> None:
    sent = await _send(served, _never(), heartbeat=b": still here\n\n", heartbeat_s=0.001)
    assert sent == b": still here\n\n"


async def test_a_client_that_goes_closes_the_source(served: Served) -> None:
    closed = asyncio.Event()

    async def source() -> AsyncIterator[bytes]:
        try:
            yield b"x"
            await asyncio.Event().wait()
        finally:
            closed.set()

    assert await _send(served, source()) == b"x"
    assert closed.is_set()


async def test_a_client_that_stops_reading_is_cut(served: Served) -> None:
    closed, aborted = asyncio.Event(), asyncio.Event()

    async def source() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 1000
        finally:
            closed.set()

    async def send(message: object) -> None:
        if message["type"] == "http.response.body":  # type: ignore[index]
            await asyncio.Event().wait()

    async def receive() -> object:
        return await asyncio.Event().wait()

    answer = Streamed(served.app, source(), media_type="text/event-stream", stall_s=0.001).to_asgi_response()
    scope = {"path": "/", "state": {ABORT: aborted.set}}
    with pytest.raises(Stalled, match="took nothing"):
        await answer(scope, receive, send)  # type: ignore[arg-type]
    assert (closed.is_set(), aborted.is_set()) == (True, True)


async def test_much_at_once_is_sent_together(served: Served) -> None:
    async def source() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b"line\n"

    assert await _send(served, source()) == b"line\n" * 1000


async def test_a_peeked_source_gives_all_of_it() -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        yield 2

    assert [item async for item in await peek(source(), 10.0)] == [1, 2]
    unread = await peek(_never(), 0.0)
    await unread.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(await peek(_nothing(), 10.0))


async def _send(served: Served, source: AsyncIterator[bytes], heartbeat: bytes = b"", heartbeat_s: float = 60.0) -> bytes:
    """The first body message of an answer whose client then goes."""
    chunks: list[bytes] = []
    gone = asyncio.Event()

    async def send(message: object) -> None:
        if message["type"] == "http.response.body":  # type: ignore[index]
            chunks.append(message["body"])  # type: ignore[index]
            gone.set()

    async def receive() -> object:
        await gone.wait()
        return {"type": "http.disconnect"}

    answer = Streamed(served.app, source, media_type="text/plain", heartbeat=heartbeat, heartbeat_s=heartbeat_s)
    await answer.to_asgi_response()({}, receive, send)  # type: ignore[arg-type, typeddict-item]
    return chunks[0]


async def _never() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


async def _nothing() -> AsyncIterator[bytes]:
    for nothing in ():
        yield nothing
