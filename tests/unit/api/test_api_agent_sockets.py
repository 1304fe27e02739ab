"""WebSockets to a VM's workload."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from socket import SHUT_RDWR

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.sync.client import ClientConnection, unix_connect
from websockets.typing import Subprotocol

from .served import Served
from .test_api_agent import ROOT, _let_go, hold

OnFrame = Callable[[ServerProtocol, Frame], None]


class Workload:
    """Speaks WebSocket on the guest's side; ``on_frame`` answers."""

    def __init__(self, on_frame: OnFrame, *, refuse: bool = False, greeting: bytes = b"", speaks: str = "") -> None:
        self.requests: list[Request] = []
        self.closed: list[tuple[int, str]] = []
        self.gone = asyncio.Event()
        self._on_frame = on_frame
        self._refuse = refuse
        self._greeting = greeting
        self._speaks = [Subprotocol(speaks)] if speaks else None

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = ServerProtocol(subprotocols=self._speaks)
        try:
            while data := await reader.read(65536):
                protocol.receive_data(data)
                for event in protocol.events_received():
                    if isinstance(event, Request):
                        self._answer(protocol, event)
                    elif isinstance(event, Frame):
                        if event.opcode is Opcode.CLOSE and protocol.close_rcvd is not None:
                            self.closed.append((protocol.close_rcvd.code, protocol.close_rcvd.reason))
                        else:
                            self._on_frame(protocol, event)
                for out in protocol.data_to_send():
                    writer.write(out)
                await writer.drain()
                if protocol.close_expected():
                    return
        finally:
            self.gone.set()
            writer.close()

    def _answer(self, protocol: ServerProtocol, request: Request) -> None:
        self.requests.append(request)
        if self._refuse:
            protocol.send_response(protocol.reject(401, "who are you?"))
            return
        protocol.send_response(protocol.accept(request))
        if self._greeting:
            protocol.send_text(self._greeting)


def _echo(protocol: ServerProtocol, frame: Frame) -> None:
    if frame.opcode is Opcode.TEXT:
        protocol.send_text(bytes(frame.data))
    elif frame.opcode is Opcode.BINARY:
        protocol.send_binary(bytes(frame.data))


def connect(served: Served, path: str = "/chat", **options: object) -> ClientConnection:
    return unix_connect(str(served.path), f"ws://volant.test{ROOT}{path}", proxy=None, compression=None, **options)  # type: ignore[arg-type]


def test_messages_go_both_ways_with_the_subprotocol_and_the_goodbye(served: Served) -> None:
    workload = Workload(_echo, greeting=b"welcome", speaks="chat.v2")
    hold(served, workload)
    with connect(
        served, "/v1/chat?room=a%20b", subprotocols=["chat.v1", "chat.v2"], additional_headers={"X-Kept": "1"}
    ) as socket:
        assert socket.subprotocol == "chat.v2"
        assert socket.recv(timeout=10) == "welcome"
        socket.send("grüße")
        assert socket.recv(timeout=10) == "grüße"
        socket.send(bytes(range(256)) * 256)
        assert socket.recv(timeout=10) == bytes(range(256)) * 256
        socket.close(4007, "enough")
    served.run(asyncio.wait_for(workload.gone.wait(), 10))
    assert workload.closed == [(4007, "enough")]
    request = workload.requests[0]
    assert request.path == "/chat?room=a%20b"
    assert request.headers["X-Kept"] == "1"
    assert request.headers["Host"] == "127.0.0.1:8080"
    assert request.headers["X-Forwarded-Host"] == "volant.test"
    assert len(request.headers.get_all("Sec-WebSocket-Key")) == 1
    _let_go(served)


def test_the_workloads_own_goodbye_comes_through(served: Served) -> None:
    hold(served, Workload(lambda protocol, _frame: protocol.send_close(4003, "full")))
    with connect(served) as socket:
        socket.send("x")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=10)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4003, "full")
    _let_go(served)


def test_a_refusal_is_the_workloads_own(served: Served) -> None:
    hold(served, Workload(_echo, refuse=True))
    with pytest.raises(InvalidStatus) as refused:
        connect(served)
    assert refused.value.response.status_code == 401
    assert bytes(refused.value.response.body or b"") == b"who are you?"
    _let_go(served)


def test_what_speaks_no_websocket_is_a_problem(served: Served) -> None:
    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"nonsense\r\n\r\n")

    hold(served, http)
    with pytest.raises(InvalidStatus) as refused:
        connect(served)
    assert refused.value.response.status_code == 502
    assert b"bad_answer" in bytes(refused.value.response.body or b"")
    with pytest.raises(InvalidStatus) as nobody:
        unix_connect(str(served.path), "ws://volant.test/api/v1/vms/nobody/agent/x", proxy=None)
    assert nobody.value.response.status_code == 404
    _let_go(served)


@pytest.mark.parametrize(
    "breach",
    [b"\xff\xff\xff\xff", b"\x81\x7f\x00\x00\x00\x00\x7f\xff\xff\xff", b"\x81\x02\xc3\x28"],
    ids=["reserved bits", "an endless message", "text that is none"],
)
def test_a_workload_that_breaks_the_rules_ends_its_own_socket_only(served: Served, breach: bytes) -> None:
    def break_rules(protocol: ServerProtocol, _frame: Frame) -> None:
        protocol.writes.append(breach)

    hold(served, Workload(break_rules))
    with connect(served) as socket:
        socket.send("x")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code in (1011, 1002, 1009)
    _let_go(served)


def test_a_workload_that_goes_is_told(served: Served) -> None:
    def crash(_protocol: ServerProtocol, _frame: Frame) -> None:
        raise ConnectionError

    hold(served, Workload(crash))
    with connect(served) as socket:
        socket.send("x")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1011
    _let_go(served)


def test_a_client_that_vanishes_lets_go_of_the_guest(served: Served) -> None:
    workload = Workload(_echo, greeting=b"welcome")
    hold(served, workload)
    with connect(served) as socket:
        assert socket.recv(timeout=10) == "welcome"
        socket.socket.shutdown(SHUT_RDWR)
    served.run(asyncio.wait_for(workload.gone.wait(), 10))
    _let_go(served)


def test_volantd_that_stops_says_so(served: Served) -> None:
    hold(served, Workload(_echo, greeting=b"welcome"))
    with connect(served) as socket:
        assert socket.recv(timeout=10) == "welcome"
        served.stop()
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
