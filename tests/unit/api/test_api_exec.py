"""A program over a WebSocket."""

from __future__ import annotations

import threading

import pytest
from websockets.sync.client import unix_connect

from volant.client.client import Client
from volant.client.connection import Connection
from volant.client.exec import ExecConnection
from volant.core.errors import GuestUnreachable, InvalidInput, Malformed, NotFound, Unavailable

from .served import Served

WEB = {"name": "web", "plugin": "nginx"}


@pytest.fixture
def client(served: Served) -> Client:
    client = Client(served.address)
    client.vms.create(WEB)
    return client


def test_output_and_the_code_come_back(client: Client, served: Served) -> None:
    with client.vms.exec("web", ("echo", "a", "b"), env={"A": "b"}, user="1:1", workdir="/srv") as running:
        assert list(running) == [("stdout", b"a b\n")]
    assert (running.code, running.signal) == (0, None)
    asked = served.plane.door.requests[0]
    assert (asked.env, asked.user, asked.workdir, asked.stdin) == ({"A": "b"}, "1:1", "/srv", False)

    with client.vms.exec("web", ("fail", "7")) as running:
        assert list(running) == [("stderr", b"it went wrong\n")]
    assert running.code == 7


def test_stdin_goes_through_unchanged(client: Client) -> None:
    content = bytes(range(256)) * 1024
    with client.vms.exec("web", ("cat",), stdin=True) as running:
        running.write_stdin(content)
        running.close_stdin()
        assert b"".join(chunk for _, chunk in running) == content


def test_a_flood_arrives_whole(client: Client) -> None:
    with client.vms.exec("web", ("flood",)) as running:
        assert sum(len(chunk) for _, chunk in running) == 200 * 32768


def test_a_signal_ends_it(client: Client) -> None:
    with client.vms.exec("web", ("hang",)) as running:
        output = iter(running)
        assert next(output) == ("stdout", b"hanging\n")
        running.send_signal(15)
        assert list(output) == []
    assert (running.code, running.signal) == (None, 15)


def test_leaving_hangs_up(client: Client, served: Served) -> None:
    with client.vms.exec("web", ("hang",)) as running:
        next(iter(running))
    served.run(served.plane.door.sessions[0].hung_up.wait())
    with pytest.raises(Unavailable):
        running.write_stdin(b"x")


def test_stopping_the_server_hangs_up(client: Client, served: Served) -> None:
    with client.vms.exec("web", ("hang",)) as running:
        output = iter(running)
        next(output)
        stopping = threading.Thread(target=served.stop)
        stopping.start()
        with pytest.raises(Unavailable, match="lost"):
            next(output)
        stopping.join()


def test_errors_are_told_as_what_they_are(client: Client) -> None:
    for name, argv, error in [
        ("absent", ("echo",), NotFound),
        ("web", ("unreachable",), GuestUnreachable),
        ("web", ("",), InvalidInput),
        ("web", (), InvalidInput),
    ]:
        with pytest.raises(error), client.vms.exec(name, argv) as running:
            list(running)


@pytest.mark.parametrize("first", ["{", '{"argv": ["echo"], "shell": true}', b"\0", '{"argv": "echo"}'])
def test_a_first_message_that_cannot_be_read_is_a_problem(client: Client, served: Served, first: str | bytes) -> None:
    with unix_connect(str(served.path), "ws://localhost/api/v1/vms/web/exec", proxy=None) as socket:
        socket.send(first)
        answer = socket.recv()
    assert '"status":4' in str(answer)
    assert served.plane.door.requests == []


@pytest.mark.parametrize("message", ["text", b"", b"\7x", b"\6", b"\6\xff"])
def test_a_later_message_that_cannot_be_read_ends_the_exec(client: Client, served: Served, message: str | bytes) -> None:
    with unix_connect(str(served.path), "ws://localhost/api/v1/vms/web/exec", proxy=None) as socket:
        socket.send('{"argv": ["hang"]}')
        assert socket.recv() == b"\1hanging\n"
        socket.send(message)
        assert '"code":"malformed"' in str(socket.recv())
    served.run(served.plane.door.sessions[0].hung_up.wait())


def test_without_an_upgrade_it_says_what_to_do(client: Client, api: Connection) -> None:
    with pytest.raises(Malformed, match="WebSocket"):
        api.request("GET", "/api/v1/vms/web/exec")


def test_a_server_that_is_not_there_is_said_plainly(served: Served) -> None:
    with pytest.raises(Unavailable, match="no volantd answers"):
        ExecConnection(Connection(f"{served.address}x"), "/api/v1/vms/web/exec", {"argv": ["echo"]})
