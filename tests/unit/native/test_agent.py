"""kestrel's agent outside a guest: channel, workload, exec, logs, health, shutdown."""

from __future__ import annotations

import json
import signal
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .agent import SECRET, SLEEP, Agent, Page, document
from .wire import DATA, ECHO, FIN, MAGIC, RST, WINDOW, ZEROS, Ended, Host, frame, message

pytestmark = pytest.mark.spawns


def read_all(host: Host, stream: int, read: Callable[[int], Any]) -> list[Any]:
    found = []
    while True:
        try:
            found.append(read(stream))
        except EOFError:
            return found


def test_hello_says_what_is(agent: Agent) -> None:
    host = agent.connect()
    host.connection.close()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(agent.path))
    agent.hosts.append(second := Host(connection))
    hello = second.hello()
    assert hello["version"] == 1
    assert hello["state"] == "waiting"
    assert hello["config_digest"] == ""
    assert {"exec", "logs", "http_probe", "renew", "freeze", "sync", "clone", "tty", "attach", "connect", "files"} <= set(
        hello["capabilities"]
    )
    assert hello["max_streams"] == 512


def test_configuration_is_accepted_once_and_again_when_it_is_the_same(agent: Agent) -> None:
    host = agent.run(SLEEP)
    assert host.request("configure", document=document(SLEEP))["ok"] == {}
    assert host.request("configure", document=document(["/bin/true"]))["error"]["code"] == "already_configured"
    assert host.wait_notice(type="workload", state="running")["restarts"] == 0


def test_bad_configuration_names_the_member_and_a_good_one_may_follow(agent: Agent) -> None:
    host = agent.connect()
    error = host.request("configure", document=document(SLEEP, stop_signal=99))["error"]
    assert error["code"] == "malformed"
    assert error["message"].startswith("workloads[0].stop_signal: ")
    assert host.request("configure", document=document(SLEEP))["ok"] == {}


def test_secret_holds_from_the_next_preamble(agent: Agent) -> None:
    host = agent.run(SLEEP)
    host.connection.close()
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(agent.path))
        stranger.sendall(MAGIC + ZEROS + bytes(16))
        stranger.shutdown(socket.SHUT_WR)
        seen = b""
        while chunk := stranger.recv(65536):
            seen += chunk
    assert ECHO not in seen
    agent.connect(SECRET).wait_notice(type="workload", state="running")


def test_stats_and_unknown_requests(agent: Agent) -> None:
    host = agent.connect()
    stats = host.request("stats")["ok"]
    assert stats["memory_total_kb"] > stats["memory_available_kb"] > 0
    assert host.request("clock", unix_ns=1)["ok"] == {}
    assert host.request("clock")["error"]["code"] == "malformed"
    assert host.request("dance")["error"]["code"] == "malformed"


def test_exec_carries_all_three_streams_and_the_exit_code(agent: Agent) -> None:
    host = agent.run(SLEEP)
    host.wait_notice(type="workload", state="running")
    ending, out, err = host.exec(["sh", "-c", "cat; echo bad >&2; exit 3"], stdin=b"some input")
    assert (ending, out, err) == ({"code": 3}, b"some input", b"bad\n")
    assert host.exec(["sh", "-c", "kill -9 $$"])[0] == {"signal": 9}


def test_exec_moves_more_than_its_window_both_ways(agent: Agent) -> None:
    host = agent.run(SLEEP)
    host.wait_notice(type="workload", state="running")
    assert len(host.exec(["head", "-c", "5000000", "/dev/zero"])[1]) == 5_000_000
    stream = host.open({"open": "exec", "workload": "main", "argv": ["wc", "-c"], "stdin": True})
    host.read_message(stream)
    payload = bytes(32768)
    for _ in range(64):
        host.send(stream, struct.pack(">BI", 0, len(payload)) + payload)
    host.send(stream, b"", FIN)
    assert host.read_record(stream) == (1, b"2097152\n")


@pytest.mark.parametrize(
    ("argv", "members", "code", "text"),
    [
        (["nosuch"], {}, "no_such_program", "no such program: nosuch"),
        (["/etc/passwd"], {}, "not_permitted", "permission denied: /etc/passwd"),
        (["id"], {"user": "nobody-here"}, "no_such_user", "no such user or group: nobody-here"),
        ([], {}, "malformed", "argv: not 1 to 1024 arguments"),
        (["id"], {"workdir": "x"}, "malformed", "workdir: not an absolute path"),
    ],
)
def test_exec_says_why_not(agent: Agent, argv: list[str], members: dict[str, str], code: str, text: str) -> None:
    host = agent.run(SLEEP)
    host.wait_notice(type="workload", state="running")
    assert host.exec(argv, **members)[0] == {"error": {"code": code, "message": text}}


def test_exec_needs_a_configuration_and_the_right_workload(agent: Agent) -> None:
    host = agent.connect()
    assert host.exec(["id"])[0]["error"]["code"] == "not_configured"
    host.request("configure", document=document(SLEEP))
    host.wait_notice(type="workload", state="running")
    stream = host.open({"open": "exec", "workload": "other", "argv": ["id"]})
    assert host.read_message(stream)["error"]["code"] == "no_such_workload"
    stream = host.open({"open": "teleport"})
    assert host.read_message(stream)["error"]["code"] == "unknown_stream"


def test_signals_reach_the_process_group(agent: Agent) -> None:
    host = agent.run(SLEEP)
    host.wait_notice(type="workload", state="running")
    stream = host.open(
        {"open": "exec", "workload": "main", "argv": ["sh", "-c", "trap 'exit 5' USR1; echo ready; while :; do sleep 0.01; done"]}
    )
    host.read_message(stream)
    assert host.read_record(stream) == (1, b"ready\n")
    host.send(stream, struct.pack(">BIB", 6, 1, signal.SIGUSR1))
    kind, payload = host.read_record(stream)
    while kind != 3:
        kind, payload = host.read_record(stream)
    assert json.loads(payload) == {"code": 5}


def test_a_program_left_behind_does_not_delay_the_end(agent: Agent) -> None:
    host = agent.run(SLEEP)
    host.wait_notice(type="workload", state="running")
    ending, out, _ = host.exec(["sh", "-c", "sleep 1000 & echo $!"])
    assert ending == {"code": 0}
    assert host.exec(["sh", "-c", f"kill {out.decode().strip()}"])[0] == {"code": 0}


@pytest.mark.parametrize("how", ["reset", "session"])
def test_an_abandoned_exec_is_hung_up_on(agent: Agent, tmp_path: Path, how: str) -> None:
    host = agent.run(SLEEP)
    host.wait_notice(type="workload", state="running")
    mark = tmp_path / "hung-up"
    script = f"trap 'echo > {mark}; exit' HUP; echo ready; while :; do sleep 0.01; done"
    stream = host.open({"open": "exec", "workload": "main", "argv": ["sh", "-c", script]})
    host.read_message(stream)
    host.read_record(stream)
    if how == "reset":
        host.connection.sendall(frame(WINDOW, RST, stream, 0))
    else:
        host.connection.close()
        host = agent.connect(SECRET)
    wait = ["sh", "-c", f"for i in $(seq 500); do test -e {mark} && exit 0; sleep 0.01; done; exit 1"]
    assert host.exec(wait)[0] == {"code": 0}


def test_host_that_reads_nothing_blocks_nobody(agent: Agent) -> None:
    host = agent.run(SLEEP)
    host.wait_notice(type="workload", state="running")
    host.give_window = False
    flood = host.open({"open": "exec", "workload": "main", "argv": ["yes"]})
    host.read_message(flood)
    while len(host.data[flood]) < 262144 - 2 * 16640:
        host.step()
    assert host.request("stats")["ok"]["uptime_ms"] > 0
    host.connection.close()
    assert agent.connect(SECRET).exec(["echo", "still here"])[1] == b"still here\n"


def test_logs_are_kept_numbered_and_followed(agent: Agent) -> None:
    host = agent.run(["/bin/sh", "-c", "echo one; echo two >&2; read x < /dev/null; exec sleep 1000"])
    stream = host.open({"open": "logs", "workload": "main", "after": 0, "follow": True})
    assert host.read_message(stream)["ok"]["oldest"] == 1
    assert sorted(host.read_log(stream)[1:] for _ in range(2)) == [(1, 0, b"one"), (2, 0, b"two")]
    stream = host.open({"open": "logs", "workload": "main", "after": 1})
    assert host.read_message(stream)["ok"]["next"] == 3
    assert [sequence for sequence, *_ in read_all(host, stream, host.read_log)] == [2]


def test_flooding_workload_costs_the_ring_and_no_more(agent: Agent) -> None:
    host = agent.run(["/bin/sh", "-c", "yes flood | head -c 20000000; echo; echo done; exec sleep 1000"])
    stream = host.open({"open": "logs", "workload": "main", "after": 0, "follow": True})
    host.read_message(stream)
    last = 0
    while True:
        sequence, _, _, line = host.read_log(stream)
        assert sequence > last
        last = sequence
        if line == b"done":
            break
    stream = host.open({"open": "logs", "workload": "main"})
    answer = host.read_message(stream)["ok"]
    assert (answer["next"] - answer["oldest"]) * 24 <= 1 << 20
    memory = Path(f"/proc/{agent.process.pid}/statm").read_text().split()
    assert int(memory[1]) * 4096 < 8 << 20


def test_workload_that_ends_is_started_again(agent: Agent) -> None:
    host = agent.run(["/bin/sh", "-c", "exit 4"], restart={"policy": "always", "initial_backoff_ms": 120, "max_backoff_ms": 200})
    notice = host.wait_notice(type="workload", state="backoff")
    assert notice["exit"] == {"code": 4}
    assert notice["next_start_ms"] == 120
    while notice["restarts"] < 3:
        notice = host.wait_notice(type="workload")
    assert host.wait_notice(type="workload", state="backoff")["next_start_ms"] == 200


def test_workload_that_cannot_start_says_why(agent: Agent) -> None:
    host = agent.run(["nosuch"])
    notice = host.wait_notice(type="workload", state="backoff")
    assert notice["message"] == "no such program: nosuch"
    assert "exit" not in notice


@pytest.mark.parametrize(
    ("policy", "script", "state", "reason"),
    [
        ("never", "exit 3", "exited", "workload_ended"),
        ("on-failure", "exit 0", "exited", "workload_ended"),
        ("never", None, "failed", "failed"),
    ],
)
def test_workload_that_ended_for_good_ends_the_guest(
    agent: Agent, policy: str, script: str | None, state: str, reason: str
) -> None:
    argv = ["nosuch"] if script is None else ["/bin/sh", "-c", script]
    host = agent.run(argv, restart={"policy": policy})
    seen: list[dict[str, Any]] = []
    with pytest.raises(Ended):
        while True:
            seen.append(host.read_message(host.control))
    notices = [*host.notices, *seen]
    assert [notice["state"] for notice in notices if notice["type"] == "workload"][-1] == state
    assert [notice["reason"] for notice in notices if notice["type"] == "stopping"] == [reason]
    assert agent.process.wait(5) == 0


def test_shutdown_gives_the_workload_its_grace(agent: Agent) -> None:
    host = agent.run(
        ["/bin/sh", "-c", "trap 'exit 9' QUIT; echo ready; while :; do sleep 0.01; done"], stop_signal=int(signal.SIGQUIT)
    )
    logs = host.open({"open": "logs", "workload": "main", "follow": True})
    host.read_message(logs)
    host.read_log(logs)
    assert host.request("shutdown", grace_ms=5000)["ok"] == {}
    assert host.wait_notice(type="workload", state="exited")["exit"] == {"code": 9}
    assert agent.process.wait(5) == 0


def test_shutdown_kills_what_does_not_end(agent: Agent) -> None:
    host = agent.run(["/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.01; done"])
    logs = host.open({"open": "logs", "workload": "main", "follow": True})
    host.read_message(logs)
    host.read_log(logs)
    assert host.request("shutdown", grace_ms=50)["ok"] == {}
    assert host.wait_notice(type="workload", state="exited")["exit"] == {"signal": 9}
    assert agent.process.wait(5) == 0


def test_probe_follows_the_answers(agent: Agent, page: int) -> None:
    probe = {"type": "http", "port": page, "path": "/ready", "interval_ms": 10, "start_interval_ms": 10, "unhealthy_threshold": 2}
    Page.status = 503
    host = agent.run(SLEEP, health=probe)
    assert host.wait_notice(type="health", message="HTTP 503")["state"] == "unknown"
    Page.status = 302
    assert host.wait_notice(type="health", state="healthy")["message"] == "HTTP 302"
    Page.status = 500
    assert host.wait_notice(type="health", state="unhealthy")["message"] == "HTTP 500"
    Page.status = 204
    assert host.wait_notice(type="health", state="healthy")["message"] == "HTTP 204"


def test_probe_of_a_closed_port_says_so(agent: Agent) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = agent.run(SLEEP, health={"type": "http", "port": unused.getsockname()[1]})
        assert host.wait_notice(type="health", message="Connection refused")["state"] == "unknown"


def test_without_a_probe_it_is_healthy_while_it_runs(agent: Agent) -> None:
    host = agent.run(["/bin/sh", "-c", "sleep 0.2"], restart={"policy": "always", "initial_backoff_ms": 10000})
    assert host.wait_notice(type="health")["state"] == "healthy"
    assert host.wait_notice(type="health")["state"] == "unknown"


def test_latest_state_is_told_to_a_host_that_comes_back(agent: Agent) -> None:
    agent.run(SLEEP).connection.close()
    host = agent.connect(SECRET)
    host.wait_notice(type="workload", state="running")
    host.wait_notice(type="health", state="healthy")


def test_garbage_ends_the_session_and_nothing_else(agent: Agent) -> None:
    host = agent.run(SLEEP)
    host.wait_notice(type="workload", state="running")
    host.connection.sendall(b"\xff" * 100_000)
    with pytest.raises(Ended, match="go away 1"):
        while True:
            host.step()
    host.connection.close()
    assert agent.connect(SECRET).exec(["echo", "alive"])[1] == b"alive\n"


def test_a_new_preamble_replaces_a_session_in_the_middle_of_a_frame(agent: Agent) -> None:
    host = agent.run(SLEEP)
    host.wait_notice(type="workload", state="running")
    host.connection.sendall(frame(DATA, 0, host.control, 1000, b"half"))
    host.connection.close()
    assert agent.connect(SECRET).exec(["echo", "ok"])[1] == b"ok\n"


def test_requests_whose_answers_nobody_reads_end_the_session(agent: Agent) -> None:
    host = agent.connect()
    host.give_window = False
    host.connection.sendall(
        b"".join(frame(DATA, 0, host.control, len(m), m) for m in [message({"id": 1, "type": "stats"})] * 6000)
    )
    with pytest.raises(Ended, match="go away 1"):
        while True:
            host.step()
