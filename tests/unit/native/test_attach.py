"""The workload's own output and stdin, for whoever looks on."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from .agent import SECRET, Agent
from .wire import FIN, RST, WINDOW, Host, frame

pytestmark = pytest.mark.spawns

STDIN, STDOUT, STDERR, END, SIZE, SIGNAL = 0, 1, 2, 3, 4, 6
ECHO = ["/bin/sh", "-c", 'while read line; do echo "got $line"; done; echo closed; exec sleep 1000']


def record(kind: int, payload: bytes = b"") -> bytes:
    return struct.pack(">BI", kind, len(payload)) + payload


class Onlooker:
    def __init__(self, host: Host, **members: object) -> None:
        self.host = host
        self.stream = host.open({"open": "attach", "workload": "main", **members})
        self.answer: Any = host.read_message(self.stream)
        self.seen = b""

    def send(self, kind: int, payload: bytes = b"") -> None:
        self.host.send(self.stream, record(kind, payload))

    def wait(self, text: bytes, *kinds: int) -> None:
        while text not in self.seen:
            found, payload = self.host.read_record(self.stream)
            assert found in (kinds or (STDOUT, STDERR)), (found, payload)
            self.seen += payload
        self.seen = self.seen[self.seen.index(text) + len(text) :]


def running(agent: Agent, argv: list[str], **members: object) -> Host:
    host = agent.run(argv, **members)
    host.wait_notice(type="workload", state="running")
    return host


def test_what_is_typed_reaches_the_workload_and_all_see_the_answer_and_so_does_the_log(agent: Agent) -> None:
    host = running(agent, ECHO, stdin=True)
    reader, writer = Onlooker(host), Onlooker(host, stdin=True)
    assert writer.answer["ok"]["tty"] is False
    assert writer.answer["ok"]["pid"] > 0
    writer.send(STDIN, b"hello\n")
    reader.wait(b"got hello\n")
    writer.wait(b"got hello\n")
    logs = host.open({"open": "logs", "workload": "main", "after": 0})
    host.read_message(logs)
    assert host.read_log(logs)[3] == b"got hello"


def test_output_of_both_kinds_is_told_apart(agent: Agent) -> None:
    host = running(agent, ["/bin/sh", "-c", "read x; echo out; read x; echo err >&2; exec sleep 1000"], stdin=True)
    onlooker = Onlooker(host, stdin=True)
    onlooker.send(STDIN, b"\n")
    onlooker.wait(b"out\n", STDOUT)
    onlooker.send(STDIN, b"\n")
    onlooker.wait(b"err\n", STDERR)


def test_a_workload_without_stdin_has_none_to_write_to(agent: Agent) -> None:
    host = running(agent, ["/bin/sh", "-c", "exec sleep 1000"])
    assert Onlooker(host, stdin=True).answer["error"]["code"] == "not_permitted"
    assert "ok" in Onlooker(host).answer


def test_one_writes_at_a_time(agent: Agent) -> None:
    host = running(agent, ECHO, stdin=True)
    first = Onlooker(host, stdin=True)
    assert Onlooker(host, stdin=True).answer["error"]["code"] == "busy"
    host.send(first.stream, b"", FIN)
    while first.stream not in host.ended:
        host.step()
    second = Onlooker(host, stdin=True)
    second.send(STDIN, b"mine\n")
    second.wait(b"got mine\n")
    host.connection.sendall(frame(WINDOW, RST, second.stream, 0))
    third = Onlooker(host, stdin=True)
    third.send(STDIN, b"now mine\n")
    third.wait(b"got now mine\n")


def test_who_only_looks_on_cannot_write(agent: Agent) -> None:
    host = running(agent, ECHO, stdin=True)
    reader, writer = Onlooker(host), Onlooker(host, stdin=True)
    for _ in range(20):
        reader.send(STDIN, b"x" * 32768)
    writer.send(STDIN, b"only this\n")
    reader.wait(b"got only this\n")


def test_the_end_of_stdin_closes_it_and_detaching_does_not(agent: Agent) -> None:
    host = running(agent, ECHO, stdin=True)
    first = Onlooker(host, stdin=True)
    host.send(first.stream, record(STDIN, b"one\n"), FIN)
    while first.stream not in host.ended:
        host.step()
    second = Onlooker(host, stdin=True)
    second.send(STDIN, b"two\n")
    second.wait(b"got two\n")
    second.send(STDIN)
    second.wait(b"closed\n")


def test_a_session_that_ends_leaves_the_workload_alone(agent: Agent) -> None:
    host = running(agent, ECHO, stdin=True)
    pid = Onlooker(host, stdin=True).answer["ok"]["pid"]
    host.connection.close()
    again = Onlooker(agent.connect(SECRET), stdin=True)
    assert again.answer["ok"]["pid"] == pid
    again.send(STDIN, b"still here\n")
    again.wait(b"got still here\n")


def test_a_workload_on_a_terminal(agent: Agent) -> None:
    script = "trap 'stty size' WINCH; test -t 0 && echo ready; while :; do read line && echo \"<$line>\"; done"
    host = running(agent, ["/bin/sh", "-c", script], tty=True, stdin=True)
    logs = host.open({"open": "logs", "workload": "main", "after": 0, "follow": True})
    host.read_message(logs)
    assert host.read_log(logs)[3] == b"ready"  # the terminal's CR is not the line's
    onlooker = Onlooker(host, stdin=True, tty={"rows": 33, "cols": 99})
    assert onlooker.answer["ok"]["tty"] is True
    onlooker.send(STDIN, b"typed\r")
    onlooker.wait(b"<typed>\r\n")
    onlooker.send(SIZE, struct.pack(">HH", 40, 120))
    onlooker.wait(b"40 120\r\n")


def test_signals(agent: Agent) -> None:
    script = "trap 'echo caught' USR1; echo ready; while :; do sleep 0.01; done"
    host = running(agent, ["/bin/sh", "-c", script])
    logs = host.open({"open": "logs", "workload": "main", "after": 0, "follow": True})
    host.read_message(logs)
    host.read_log(logs)
    onlooker = Onlooker(host)
    onlooker.send(SIGNAL, b"\x0a")
    onlooker.wait(b"caught\n")


@pytest.mark.parametrize(("ending", "told"), [("exit 3", {"code": 3}), ("kill -9 $$", {"signal": 9})])
def test_the_end_is_told_after_the_last_output(agent: Agent, ending: str, told: dict[str, int]) -> None:
    host = running(agent, ["/bin/sh", "-c", f"read x; echo last words; {ending}"], stdin=True, restart={"policy": "never"})
    onlooker = Onlooker(host, stdin=True)
    onlooker.send(STDIN, b"\n")
    onlooker.wait(b"last words\n")
    kind, payload = host.read_record(onlooker.stream)
    assert (kind, json.loads(payload)) == (END, told)


def test_a_restart_between_goes_unmarked_and_the_new_one_is_written_to(agent: Agent) -> None:
    restart = {"policy": "always", "initial_backoff_ms": 10}
    host = running(agent, ["/bin/sh", "-c", "read line; echo got $line"], stdin=True, restart=restart)
    onlooker = Onlooker(host, stdin=True)
    for number in range(3):
        if number > 0:  # what lies in the pipe of one that ends is lost with it
            host.wait_notice(type="workload", state="running", restarts=number)
        onlooker.send(STDIN, b"word %d\n" % number)
        onlooker.wait(b"got word %d\n" % number)


def test_a_slow_reader_loses_output_and_never_blocks_the_workload(agent: Agent) -> None:
    lines = "i=0; while [ $i -lt 60000 ]; do echo line $i of many that are written one by one; i=$((i+1)); done"
    script = f"read x; {lines}; echo finished; read x; echo more; exec sleep 1000"
    host = running(agent, ["/bin/sh", "-c", script], stdin=True)
    onlooker = Onlooker(host, stdin=True)
    host.give_window = False
    onlooker.send(STDIN, b"\n")
    follower = host.open({"open": "logs", "workload": "main", "after": 0, "follow": True})
    host.read_message(follower)
    host.give_window = True
    host.windows[onlooker.stream] = 262144

    withholding = True
    # The log has every line, although the onlooker's window is not given back.
    given = host.connection.sendall

    def give_only_to_the_log(payload: bytes) -> None:
        kind, stream = payload[1], int.from_bytes(payload[4:8], "big")
        if kind == WINDOW and stream == onlooker.stream and withholding:
            return
        given(payload)

    host.connection = _Filtered(host.connection, give_only_to_the_log)  # type: ignore[assignment]  # it has what the host uses of it
    while host.read_log(follower)[3] != b"finished":
        pass
    withheld = sum(length for kind, _, stream, length in host.frames if kind == 0 and stream == onlooker.stream)
    assert withheld <= 262144 + 64  # it gave back what the answer took
    withholding = False
    given(frame(WINDOW, 0, onlooker.stream, 200000))
    given(frame(0, 0, onlooker.stream, 6, record(STDIN, b"\n")))
    onlooker.wait(b"finished\nmore\n")


class _Filtered:
    def __init__(self, connection: Any, send: Any) -> None:
        self.recv = connection.recv
        self.close = connection.close
        self.sendall = send


@pytest.mark.parametrize("members", [{"stdin": True}, {"tty": True}])
def test_who_asks_for_it_sees_how_a_workload_that_is_talked_with_began(agent: Agent, members: dict[str, bool]) -> None:
    host = running(agent, ["/bin/sh", "-c", "printf 'began> '; exec sleep 1000"], **members)
    first = Onlooker(host, replay=True)
    first.wait(b"began> ")
    host.send(first.stream, b"", FIN)
    again = Onlooker(host, replay=True)
    again.wait(b"began> ")


def test_what_nobody_talks_with_is_not_kept(agent: Agent) -> None:
    host = running(agent, ["/bin/sh", "-c", "echo began; sleep 0.2; echo later; exec sleep 1000"])
    looking = Onlooker(host, replay=True)
    looking.wait(b"later\n")
    assert b"began" not in looking.seen
