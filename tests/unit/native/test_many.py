"""Many streams at once: all get their turn, what is too much is refused in order, and memory stays bounded."""

from __future__ import annotations

import json
import resource
import struct
from pathlib import Path

import pytest

from .agent import SLEEP, Agent
from .wire import DATA, FIN, RST, WINDOW, Host, frame, message

pytestmark = pytest.mark.spawns


def configured(agent: Agent) -> Host:
    host = agent.run(SLEEP)
    host.wait_notice(type="workload", state="running")
    return host


def rss_kb(agent: Agent) -> int:
    for line in Path(f"/proc/{agent.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError


def test_hundreds_of_execs_at_once_are_all_answered(agent: Agent) -> None:
    host = configured(agent)
    argv = ["sh", "-c", "read line; echo $line; echo err >&2; exit 5"]
    streams = [host.open({"open": "exec", "workload": "main", "argv": argv, "stdin": True}) for _ in range(300)]
    for stream in streams:
        assert "ok" in host.read_message(stream)
    for number, stream in enumerate(streams):
        text = b"%d\n" % number
        host.send(stream, struct.pack(">BI", 0, len(text)) + text)
    for number, stream in enumerate(streams):
        output = {1: b"", 2: b""}
        while (found := host.read_record(stream))[0] != 3:
            output[found[0]] += found[1]
        assert (output, json.loads(found[1])) == ({1: b"%d\n" % number, 2: b"err\n"}, {"code": 5})
        host.send(stream, b"", FIN)
    assert host.exec(["echo", "on"])[1] == b"on\n"


def test_one_stream_more_than_there_may_be_is_reset_and_a_place_is_free_again_when_one_ends(agent: Agent) -> None:
    host = configured(agent)
    logs = {"open": "logs", "workload": "main", "follow": True}
    streams = [host.open(logs) for _ in range(511)]
    for stream in streams:
        host.read_message(stream)
    more = [host.open(logs) for _ in range(200)]
    for stream in more:
        while stream not in host.reset:
            host.step()
    host.send(streams[0], b"", FIN)
    while streams[0] not in host.ended:
        host.step()
    assert "ok" in host.read_message(host.open(logs))
    assert "ok" in host.request("stats")


def test_floods_do_not_starve_a_small_answer(agent: Agent) -> None:
    host = configured(agent)
    floods = [host.open({"open": "exec", "workload": "main", "argv": ["cat", "/dev/zero"]}) for _ in range(20)]
    for stream in floods:
        host.read_message(stream)
        host.read_record(stream)
    for _ in range(5):  # that each stream has its turn is counted in native/test
        host.data = {number: bytearray() for number in host.data}
        stream = host.open({"open": "exec", "workload": "main", "argv": ["echo", "here"]})
        assert "ok" in host.read_message(stream)
        assert host.read_record(stream) == (1, b"here\n")
    for stream in floods:
        host.connection.sendall(frame(WINDOW, RST, stream, 0))


def test_what_programs_do_not_read_is_kept_within_a_bound_and_only_the_stream_beyond_it_is_reset(agent: Agent) -> None:
    host = configured(agent)
    argv = ["sh", "-c", "echo ready; exec sleep 1000"]
    streams = [host.open({"open": "exec", "workload": "main", "argv": argv, "stdin": True}) for _ in range(150)]
    for stream in streams:
        host.read_message(stream)
        host.read_record(stream)
    before = rss_kb(agent)
    chunk = struct.pack(">BI", 0, 60000) + bytes(60000)
    for _ in range(4):
        for stream in streams:
            host.connection.sendall(frame(DATA, 0, stream, len(chunk), chunk))
    assert "ok" in host.request("stats")
    assert rss_kb(agent) - before < 24 * 1024
    lost = [stream for stream in streams if stream in host.reset]
    assert 0 < len(lost) < 150  # 150 windows are more than the bound, one of them is far less
    assert host.exec(["cat"], stdin=b"small input is still taken")[1] == b"small input is still taken"


def test_opening_messages_that_never_end_are_bounded(agent: Agent) -> None:
    host = configured(agent)
    before = rss_kb(agent)
    part = struct.pack(">I", 65536) + b"{" + b" " * 60000
    for number in range(400):
        host.connection.sendall(frame(DATA, 1, 101 + 2 * number, len(part), part))
    assert "ok" in host.request("stats")
    assert rss_kb(agent) - before < 8 * 1024
    assert len(host.reset) >= 300


def test_exec_after_exec_leaves_nothing_behind(agent: Agent) -> None:
    host = configured(agent)
    host.exec(["true"])
    fds = Path(f"/proc/{agent.process.pid}/fd")
    before = len(list(fds.iterdir()))
    for number in range(150):
        tty: dict[str, object] = {"tty": {}} if number % 2 else {}
        assert host.exec(["true"], stdin=b"x", **tty)[0] == {"code": 0}
    assert len(list(fds.iterdir())) <= before + 8  # the last one may still be ending


def test_programs_have_the_usual_number_of_descriptors(agent: Agent) -> None:
    host = configured(agent)
    own = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert host.exec(["sh", "-c", "ulimit -n"])[1] == b"%d\n" % own


def test_pieces_of_one_byte(agent: Agent) -> None:
    host = configured(agent)
    opening = message({"open": "exec", "workload": "main", "argv": ["cat"], "stdin": True})
    records = struct.pack(">BI", 0, 5) + b"hello" + struct.pack(">BI", 0, 0)
    for at, byte in enumerate(opening + records):
        host.connection.sendall(frame(DATA, 1 if at == 0 else 0, 1001, 1, bytes([byte])))
    host.data[1001] = bytearray()
    assert "ok" in host.read_message(1001)
    assert host.read_record(1001) == (1, b"hello")
    assert host.read_record(1001) == (3, b'{"code": 0}')
