"""The channel as vsock carries it: a UNIX socket stands in for everything but the address, which native/test sees to."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from .agent import AGENT, SECRET, SLEEP, Agent
from .wire import ECHO, MAGIC, Ended

pytestmark = pytest.mark.spawns


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    if not AGENT.is_file():
        pytest.skip("kestrel-test is not built: make -C native test-agent")
    started = Agent(tmp_path / "agent.sock", "--replace-fd")
    yield started
    started.close()


def connect(agent: Agent) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(str(agent.path))
    return connection


def test_a_session_over_it(agent: Agent) -> None:
    host = agent.run(SLEEP)
    host.wait_notice(type="workload", state="running")
    assert host.exec(["cat"], stdin=b"words")[1] == b"words"


def test_a_new_connection_takes_the_old_ones_place(agent: Agent) -> None:
    first = agent.run(SLEEP)
    first.wait_notice(type="workload", state="running")
    second = agent.connect(SECRET)
    with pytest.raises(Ended):
        while True:
            first.step()
    second.wait_notice(type="workload", state="running")
    assert second.exec(["echo", "here"])[1] == b"here\n"


def test_execs_end_with_their_connection(agent: Agent, tmp_path: Path) -> None:
    host = agent.run(SLEEP)
    host.wait_notice(type="workload", state="running")
    told = tmp_path / "told"
    script = f"trap 'echo gone > {told}; exit' HUP; echo ready; while :; do sleep 0.01; done"
    stream = host.open({"open": "exec", "workload": "main", "argv": ["sh", "-c", script]})
    host.read_message(stream)
    host.read_record(stream)
    host.connection.close()
    again = agent.connect(SECRET)
    while not (told.exists() and told.read_text()):
        again.request("stats")


def test_without_the_secret_nothing_is_said_and_the_next_one_is_served(agent: Agent) -> None:
    agent.run(SLEEP).wait_notice(type="workload", state="running")
    with connect(agent) as stranger:
        stranger.sendall(MAGIC + bytes(32) + bytes(16) + bytes(1000))
        stranger.shutdown(socket.SHUT_WR)
        seen = b""
        while chunk := stranger.recv(65536):
            seen += chunk
    assert seen == b""
    assert ECHO not in seen
    assert agent.connect(SECRET).exec(["echo", "here"])[1] == b"here\n"


def test_many_connections_one_after_the_other(agent: Agent) -> None:
    agent.run(SLEEP).wait_notice(type="workload", state="running")
    idle = [connect(agent) for _ in range(4)]
    host = agent.connect(SECRET)
    assert host.exec(["echo", "last"])[1] == b"last\n"
    for connection in idle:
        assert connection.recv(1) == b""
        connection.close()
