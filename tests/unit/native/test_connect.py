"""Connections that kestrel makes for the host."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from .agent import SECRET, SLEEP, Agent
from .wire import FIN, RST, WINDOW, Host, frame

pytestmark = pytest.mark.spawns


@contextlib.contextmanager
def serving(serve: Callable[[socket.socket], None], family: int = socket.AF_INET) -> Iterator[int]:
    """A listener on loopback that handles one connection; its port."""
    with socket.socket(family) as listener:
        listener.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        listener.listen()
        listener.settimeout(10)

        def handle() -> None:
            with listener.accept()[0] as connection:
                connection.settimeout(10)
                serve(connection)

        thread = threading.Thread(target=handle)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)
        assert not thread.is_alive()


def read_to_end(connection: socket.socket) -> bytes:
    seen = bytearray()
    while chunk := connection.recv(65536):
        seen += chunk
    return bytes(seen)


def configured(agent: Agent) -> Host:
    host = agent.run(SLEEP)
    host.wait_notice(type="workload", state="running")
    return host


def read_rest(host: Host, stream: int) -> bytes:
    while stream not in host.ended and stream not in host.reset:
        host.step()
    return bytes(host.data[stream])


def test_connect_needs_a_configuration(agent: Agent) -> None:
    host = agent.connect()
    assert host.read_message(host.open({"open": "connect", "port": 1}))["error"]["code"] == "not_configured"


@pytest.mark.parametrize(
    ("opening", "text"),
    [
        ({}, "port: missing"),
        ({"port": 0}, "port: out of range"),
        ({"port": 65536}, "port: out of range"),
        ({"port": "80"}, "port: not an integer"),
        ({"port": 80, "host": "localhost"}, "host: no IPv4 or IPv6 address"),
        ({"port": 80, "host": 7}, "host: not a string without NUL"),
    ],
)
def test_connect_says_what_is_wrong_with_its_opening(agent: Agent, opening: dict[str, object], text: str) -> None:
    host = configured(agent)
    error = host.read_message(host.open({"open": "connect", **opening}))["error"]
    assert error == {"code": "malformed", "message": text}


def test_bytes_go_both_ways_and_each_end_closes_its_own(agent: Agent) -> None:
    def serve(connection: socket.socket) -> None:
        said = read_to_end(connection)  # ends with the host's FIN, while this direction stays open
        connection.sendall(b"heard " + said)

    host = configured(agent)
    with serving(serve) as port:
        stream = host.open({"open": "connect", "port": port})
        assert host.read_message(stream) == {"ok": {}}
        host.send(stream, b"one ")
        host.send(stream, b"two")
        host.send(stream, b"", FIN)
        assert read_rest(host, stream) == b"heard one two"
        assert stream not in host.reset


def test_the_guests_end_may_close_first(agent: Agent) -> None:
    heard: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"bye")
        connection.shutdown(socket.SHUT_WR)
        heard.append(read_to_end(connection))

    host = configured(agent)
    with serving(serve) as port:
        stream = host.open({"open": "connect", "port": port})
        host.read_message(stream)
        assert read_rest(host, stream) == b"bye"
        host.send(stream, b"late words")
        host.send(stream, b"", FIN)
    assert heard == [b"late words"]


def test_ipv6(agent: Agent) -> None:
    host = configured(agent)
    with serving(lambda connection: connection.sendall(b"six"), socket.AF_INET6) as port:
        stream = host.open({"open": "connect", "host": "::1", "port": port})
        assert host.read_message(stream) == {"ok": {}}
        assert read_rest(host, stream) == b"six"


def test_nobody_listens(agent: Agent) -> None:
    host = configured(agent)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        stream = host.open({"open": "connect", "port": unused.getsockname()[1]})
        assert host.read_message(stream)["error"]["code"] == "refused"
        host.send(stream, b"what nobody wants" * 1000)
        host.send(stream, b"", FIN)
    assert host.exec(["echo", "on"])[1] == b"on\n"


def test_no_way_there(agent: Agent) -> None:
    host = configured(agent)
    stream = host.open({"open": "connect", "host": "255.255.255.255", "port": 9})
    assert host.read_message(stream)["error"]["code"] == "unreachable"


def test_what_was_said_before_the_answer_is_not_lost(agent: Agent) -> None:
    heard: list[bytes] = []
    host = configured(agent)
    with serving(lambda connection: heard.append(read_to_end(connection))) as port:
        stream = host.open({"open": "connect", "port": port})
        host.send(stream, b"early")
        host.send(stream, b"", FIN)
        assert host.read_message(stream) == {"ok": {}}
    assert heard == [b"early"]


def test_more_than_the_window_both_ways(agent: Agent) -> None:
    def echo(connection: socket.socket) -> None:
        while chunk := connection.recv(65536):
            connection.sendall(chunk)

    host = configured(agent)
    payload = bytes(range(256)) * 8192
    with serving(echo) as port:
        stream = host.open({"open": "connect", "port": port})
        host.read_message(stream)
        for at in range(0, len(payload), 32768):
            host.send(stream, payload[at : at + 32768])
        host.send(stream, b"", FIN)
        assert read_rest(host, stream) == payload


def test_a_server_that_reads_nothing_holds_back_its_own_stream_only(agent: Agent) -> None:
    go_on = threading.Event()
    heard: list[int] = []

    def serve(connection: socket.socket) -> None:
        assert go_on.wait(10)
        heard.append(len(read_to_end(connection)))

    host = configured(agent)
    with serving(serve) as port:
        stream = host.open({"open": "connect", "port": port})
        host.read_message(stream)
        sent = 0
        # As much as the window allows without waiting: the sockets' buffers and kestrel's own take it.
        while host.windows[stream] >= 16384 and sent < 64 * 1048576:
            host.send(stream, bytes(16384))
            sent += 16384
            assert host.exec(["echo", "on"])[1] == b"on\n"
        assert sent < 64 * 1048576
        go_on.set()
        host.send(stream, b"", FIN)
    assert heard == [sent]


def test_a_host_that_reads_nothing_stops_the_server(agent: Agent) -> None:
    host = configured(agent)
    sent: list[int] = []

    def serve(connection: socket.socket) -> None:
        connection.settimeout(0.5)
        total = 0
        with contextlib.suppress(TimeoutError, ConnectionError):
            while total < 64 * 1048576:
                total += connection.send(bytes(65536))
        sent.append(total)

    with serving(serve) as port:
        stream = host.open({"open": "connect", "port": port})
        host.read_message(stream)
        host.give_window = False
        while sum(length for kind, _, number, length in host.frames if kind == 0 and number == stream) < 262144:
            host.step()
    assert sent[0] < 64 * 1048576
    host.connection.sendall(frame(WINDOW, RST, stream, 0))


def test_reset_by_the_server_is_reset_for_the_host(agent: Agent) -> None:
    def serve(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert connection.recv(1) == b"x"  # a reset that comes before the answer would be a refusal

    host = configured(agent)
    with serving(serve) as port:
        stream = host.open({"open": "connect", "port": port})
        assert host.read_message(stream) == {"ok": {}}
        host.send(stream, b"x")
        read_rest(host, stream)
        assert stream in host.reset


def test_reset_by_the_host_is_reset_for_the_server(agent: Agent) -> None:
    seen: list[type[BaseException] | bytes] = []

    def serve(connection: socket.socket) -> None:
        try:
            seen.append(connection.recv(1))
        except ConnectionResetError as error:
            seen.append(type(error))

    host = configured(agent)
    with serving(serve) as port:
        stream = host.open({"open": "connect", "port": port})
        host.read_message(stream)
        host.connection.sendall(frame(WINDOW, RST, stream, 0))
    assert seen == [ConnectionResetError]


def test_connections_end_with_their_session(agent: Agent) -> None:
    host = configured(agent)
    ended = threading.Event()

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(ConnectionResetError):
            read_to_end(connection)
        ended.set()

    with serving(serve) as port:
        host.read_message(host.open({"open": "connect", "port": port}))
        host.connection.close()
        agent.connect(SECRET)
        assert ended.wait(10)
