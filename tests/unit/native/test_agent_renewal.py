"""kestrel's agent when it is given another identity: what holds at once, what at the next start, and its health."""

from __future__ import annotations

import socket

import pytest

from .agent import SECRET, SLEEP, Agent, Page, document
from .wire import ZEROS

pytestmark = pytest.mark.spawns


def test_a_guest_that_is_told_the_time_is_probed_at_once(agent: Agent, page: int) -> None:
    probe = {"type": "http", "port": page, "interval_ms": 3_600_000, "unhealthy_threshold": 1}
    host = agent.run(SLEEP, health=probe)
    host.wait_notice(type="health", state="healthy")
    Page.status = 500
    assert host.request("clock", unix_ns=1)["ok"] == {}
    assert host.wait_notice(type="health", state="unhealthy")["message"] == "HTTP 500"


def test_renewed_probe_is_made_at_once_and_as_it_now_says(agent: Agent, page: int) -> None:
    rare = {"interval_ms": 3_600_000, "unhealthy_threshold": 1}
    host = agent.run(SLEEP)
    assert host.wait_notice(type="health", state="healthy")["message"] != "HTTP 200"
    probed = document(SLEEP, health={"type": "http", "port": page, **rare})
    assert host.request("renew", document=probed)["ok"] == {}
    assert host.wait_notice(type="health", message="HTTP 200")["state"] == "healthy"
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = document(SLEEP, health={"type": "http", "port": unused.getsockname()[1], **rare})
        assert host.request("renew", document=closed)["ok"] == {}
        assert host.wait_notice(type="health", state="unhealthy")["message"] == "Connection refused"
    assert host.request("renew", document=document(SLEEP))["ok"] == {}
    host.wait_notice(type="health", state="healthy")


def test_renewed_workload_goes_on_and_is_started_again_as_it_now_says(agent: Agent) -> None:
    host = agent.run(SLEEP)
    pid = host.wait_notice(type="workload", state="running")["pid"]
    renewed = document(
        ["/bin/sh", "-c", "echo new; exec sleep 1000"],
        restart={"policy": "always", "initial_backoff_ms": 77},
        env={"WHO": "other"},
    )
    assert host.request("renew", document=renewed)["ok"] == {}
    script = f'kill -0 {pid} && echo "$WHO" && kill {pid}'
    assert host.exec(["/bin/sh", "-c", script])[:2] == ({"code": 0}, b"other\n")
    assert host.wait_notice(type="workload", state="backoff")["next_start_ms"] == 77
    assert host.wait_notice(type="workload", state="running")["pid"] != pid
    logs = host.open({"open": "logs", "workload": "main", "follow": True})
    host.read_message(logs)
    while host.read_log(logs)[3] != b"new":
        pass


def test_renewed_secret_holds_from_the_next_preamble(agent: Agent) -> None:
    host = agent.run(SLEEP)
    host.wait_notice(type="workload", state="running")
    other = bytes.fromhex("0f" * 32)
    for secret in (ZEROS, other):
        renewed = document(SLEEP).replace(SECRET.hex(), secret.hex())
        assert host.request("renew", document=renewed)["ok"] == {}
        assert host.request("stats")["ok"]["uptime_ms"] > 0
    host.connection.close()
    agent.connect(other).wait_notice(type="workload", state="running")
