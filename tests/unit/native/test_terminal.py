"""Programs on a terminal of their own."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from .agent import SLEEP, Agent
from .wire import FIN, RST, WINDOW, Ended, Host, frame

pytestmark = pytest.mark.spawns

STDIN, STDOUT, END, SIZE, SIGNAL = 0, 1, 3, 4, 6


def record(kind: int, payload: bytes = b"") -> bytes:
    return struct.pack(">BI", kind, len(payload)) + payload


class Terminal:
    """A program on a terminal."""

    def __init__(self, agent: Agent, argv: list[str], **tty: object) -> None:
        self.host: Host = agent.run(SLEEP)
        self.host.wait_notice(type="workload", state="running")
        opening = {"open": "exec", "workload": "main", "argv": argv, "stdin": True, "tty": tty}
        self.stream = self.host.open(opening)
        self.answer: Any = self.host.read_message(self.stream)
        self.seen = b""

    def type(self, text: bytes) -> None:
        self.send(record(STDIN, text))

    def send(self, records: bytes) -> None:
        self.host.send(self.stream, records)

    def wait(self, text: bytes) -> None:
        """Read until the output holds it."""
        while text not in self.seen:
            kind, payload = self.host.read_record(self.stream)
            assert kind == STDOUT, (kind, payload, self.seen)
            self.seen += payload
        self.seen = self.seen[self.seen.index(text) + len(text) :]

    def end(self) -> Any:
        while True:
            kind, payload = self.host.read_record(self.stream)
            if kind == END:
                return json.loads(payload)
            self.seen += payload


def test_a_program_sees_a_terminal_and_its_size_and_type(agent: Agent) -> None:
    script = 'test -t 0 && test -t 1 && test -t 2 && echo "$TERM $(stty size) $(ps -o tpgid= -p $$ | tr -d " ") $$"'
    terminal = Terminal(agent, ["sh", "-c", script], rows=31, cols=117, term="vt100")
    assert terminal.end() == {"code": 0}
    term, rows, cols, foreground, own = terminal.seen.split()
    assert (term, rows, cols) == (b"vt100", b"31", b"117")
    assert foreground == own  # it leads the foreground group of its own controlling terminal


def test_both_outputs_are_one(agent: Agent) -> None:
    terminal = Terminal(agent, ["sh", "-c", "echo out; echo err >&2"])
    assert terminal.end() == {"code": 0}
    assert terminal.seen == b"out\r\nerr\r\n"


def test_what_is_typed_is_echoed_and_read(agent: Agent) -> None:
    terminal = Terminal(agent, ["sh", "-c", "read line; echo got $line; exit 7"])
    terminal.type(b"hello\r")
    assert terminal.end() == {"code": 7}
    assert terminal.seen == b"hello\r\ngot hello\r\n"


def test_a_new_size_is_told(agent: Agent) -> None:
    terminal = Terminal(agent, ["sh", "-c", "trap 'stty size' WINCH; echo ready; while :; do sleep 0.01; done"], rows=24, cols=80)
    terminal.wait(b"ready")
    terminal.send(record(SIZE, struct.pack(">HH", 50, 132)))
    terminal.wait(b"50 132")
    terminal.send(record(SIZE, struct.pack(">HH", 9999, 1)))
    terminal.wait(b"9999 1")


def test_the_end_of_input_is_typed_and_does_not_close_the_terminal(agent: Agent) -> None:
    terminal = Terminal(agent, ["sh", "-c", "cat; echo between; read line; echo $line"])
    terminal.type(b"first\r")
    terminal.wait(b"first\r\nfirst\r\n")
    terminal.send(record(STDIN))
    terminal.wait(b"between")
    terminal.type(b"second\r")
    terminal.wait(b"second\r\nsecond")
    assert terminal.end() == {"code": 0}


def test_fin_is_the_end_of_input_too(agent: Agent) -> None:
    terminal = Terminal(agent, ["cat"])
    terminal.host.send(terminal.stream, b"", FIN)
    assert terminal.end() == {"code": 0}


def test_ctrl_c_and_signals_reach_the_foreground(agent: Agent) -> None:
    terminal = Terminal(agent, ["sh", "-c", "trap 'echo caught' INT USR1; echo ready; while :; do sleep 0.01; done"])
    terminal.wait(b"ready")
    terminal.type(b"\x03")
    terminal.wait(b"caught")
    terminal.send(record(SIGNAL, b"\x0a"))
    terminal.wait(b"caught")
    terminal.send(record(SIGNAL, b"\x09"))
    assert terminal.end() == {"signal": 9}


def test_a_signal_goes_to_the_job_in_front_and_not_to_the_shell(agent: Agent) -> None:
    script = "set -m; trap 'echo shell' TERM; sh -c 'echo started; exec sleep 100'; echo job ended $?; exit 4"
    terminal = Terminal(agent, ["bash", "-c", script])
    terminal.wait(b"started")
    terminal.send(record(SIGNAL, b"\x0f"))
    terminal.wait(b"job ended 143")
    assert terminal.end() == {"code": 4}
    assert b"shell" not in terminal.seen


def test_all_output_comes_before_the_end(agent: Agent) -> None:
    terminal = Terminal(agent, ["sh", "-c", "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done"])
    assert terminal.end() == {"code": 0}
    assert terminal.seen.split(b"\r\n") == [b"line %d" % number for number in range(3000)] + [b""]


def test_who_is_left_behind_does_not_delay_the_end(agent: Agent) -> None:
    terminal = Terminal(agent, ["sh", "-c", "nohup sleep 100 & echo done"])
    assert terminal.end() == {"code": 0}


def test_without_stdin_nothing_can_be_typed(agent: Agent) -> None:
    host = agent.run(SLEEP)
    host.wait_notice(type="workload", state="running")
    stream = host.open({"open": "exec", "workload": "main", "argv": ["sh", "-c", "test -t 0 && sleep 0.2"], "tty": {}})
    host.read_message(stream)
    host.send(stream, record(STDIN, b"\x03"))
    assert host.read_record(stream) == (END, b'{"code": 0}')


def test_a_lost_stream_hangs_up(agent: Agent, tmp_path: Any) -> None:
    told = tmp_path / "told"
    script = f"trap 'echo hung up > {told}; exit' HUP; echo ready; while :; do sleep 0.01; done"
    terminal = Terminal(agent, ["sh", "-c", script])
    terminal.wait(b"ready")
    terminal.host.connection.sendall(frame(WINDOW, RST, terminal.stream, 0))
    while not (told.exists() and told.read_text()):
        terminal.host.request("stats")
    assert told.read_text() == "hung up\n"


@pytest.mark.parametrize(
    ("tty", "text"),
    [
        (7, "tty: not an object"),
        ({"rows": 0}, "tty.rows: out of range"),
        ({"cols": 10000}, "tty.cols: out of range"),
        ({"rows": "x"}, "tty.rows: not an integer"),
        ({"term": "a b"}, "tty.term: no name of a terminal"),
    ],
)
def test_a_bad_terminal_is_malformed(agent: Agent, tty: object, text: str) -> None:
    host = agent.run(SLEEP)
    host.wait_notice(type="workload", state="running")
    stream = host.open({"open": "exec", "workload": "main", "argv": ["id"], "tty": tty})
    assert host.read_message(stream) == {"error": {"code": "malformed", "message": text}}


@pytest.mark.parametrize("size", [b"\x00\x00\x00\x50", b"\x00\x18\x27\x10", b"\x00\x18"])
def test_a_bad_size_is_a_violation(agent: Agent, size: bytes) -> None:
    terminal = Terminal(agent, ["cat"])
    terminal.send(record(SIZE, size))
    with pytest.raises(Ended, match="go away 1"):
        while True:
            terminal.host.step()


def test_a_size_without_a_terminal_is_a_violation(agent: Agent) -> None:
    host = agent.run(SLEEP)
    host.wait_notice(type="workload", state="running")
    stream = host.open({"open": "exec", "workload": "main", "argv": ["cat"], "stdin": True})
    host.read_message(stream)
    host.send(stream, record(SIZE, struct.pack(">HH", 24, 80)))
    with pytest.raises(Ended, match="go away 1"):
        while True:
            host.step()
