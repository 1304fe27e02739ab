"""A deployment's ports before real guests: who is finished before a stop, who is woken; and guests that ask for help."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from .daemon import Daemon

PORT = 8091
PAGE = [
    "perl",
    "-MIO::Socket::INET",
    "-e",
    r"""
    $SIG{CHLD} = "IGNORE";
    my $door = IO::Socket::INET->new(LocalPort => 80, Listen => 64, ReuseAddr => 1) or die "port 80: $!";
    if ($ENV{BUSY} && !fork) { 1 while 1 }
    while (my $client = $door->accept) {
        next if fork;
        my $request = <$client>;
        while (<$client>) { last if /^\r?$/ }
        sleep 4 if $request =~ m{/slow};
        my $body = $request =~ m{/metrics} ? "# TYPE queued gauge\nqueued{kind=\"mail\"} 25\nother NaN\n" : "$ENV{WHO}\n";
        print $client "HTTP/1.0 200 OK\r\nContent-Length: ", length($body), "\r\n\r\n$body";
        exit;
    }
    """,
]
HEALTH = {"endpoint": "/", "interval_ms": 500, "timeout_ms": 2000}


@pytest.fixture
def paged(daemon: Daemon, install: Callable[..., None]) -> Daemon:
    """A volantd with a plugin whose page can be slow, and tells a metric; and its template."""
    install("page", PAGE, health=HEALTH)
    daemon.volar("templates", "build", "page", "--memory", "128")
    return daemon


def deploy(daemon: Daemon, *, env: dict[str, str] | None = None, **fields: Any) -> str:
    """Deploy ``web``, wait for it, and return where its port is."""
    vm = {"plugin": "page", "memory_mb": 128, "env": {"WHO": "me", **(env or {})}}
    wanted = {"name": "web", "replicas": 1, "vm": vm, "ports": [{"port": 80, "host_port": PORT}], **fields}
    daemon.volar("deployments", "create", "--config", "-", stdin=json.dumps(wanted).encode())
    gateway = daemon.vm("web-0")["status"]["addresses"][0]["gateway"]
    return f"http://{gateway}:{PORT}"


def wait_status(daemon: Daemon, satisfied: Callable[[Any], bool], timeout_s: float = 90) -> Any:
    deadline = time.monotonic() + timeout_s
    while not satisfied(status := daemon.json("deployments", "get", "web")["status"]):
        assert time.monotonic() < deadline, f"{json.dumps(status, indent=1)}\n{daemon.log()}"
        time.sleep(0.2)
    return status


def test_a_slow_request_is_finished_before_its_replica_is_stopped(paged: Daemon) -> None:
    url = deploy(paged)
    run_id = paged.vm("web-0")["status"]["run_id"]
    slow = subprocess.Popen(
        ["ip", "netns", "exec", paged.namespace, "curl", "-sS", "-f", "-m", "30", f"{url}/slow"], stdout=subprocess.PIPE
    )
    time.sleep(1)
    # The program has no handler for its stop signal: asked at once, it would be gone at once.
    paged.volar("vms", "restart", "web-0")
    answer, _ = slow.communicate(timeout=60)
    assert (slow.returncode, answer) == (0, b"me\n"), paged.log()
    paged.wait_vm("web-0", lambda vm: vm["status"]["ready"] and vm["status"]["run_id"] != run_id)
    # Who comes while none is ready is held, and not turned away.
    assert paged.curl(url).stdout == b"me\n"


def test_what_nobody_uses_sleeps_and_goes_on_for_who_comes(paged: Daemon) -> None:
    url = deploy(paged, autoscale={"min": 0, "max": 2, "idle_after_s": 2, "interval_s": 1})
    uid = paged.vm("web-0")["uid"]
    for _ in range(2):
        wait_status(paged, lambda status: status["phase"] == "Asleep")
        paged.wait_vm("web-0", lambda vm: vm["status"]["phase"] == "Suspended")
        answers = [
            subprocess.Popen(
                ["ip", "netns", "exec", paged.namespace, "curl", "-sS", "-f", "-m", "60", url], stdout=subprocess.PIPE
            )
            for _ in range(8)
        ]
        assert [answer.communicate(timeout=90)[0] for answer in answers] == [b"me\n"] * 8, paged.log()
    assert paged.vm("web-0")["uid"] == uid, "the same VM went on"
    scaled = [event["message"] for event in paged.events("web") if event["reason"] == "Scaled"]
    assert set(scaled) == {"from 1 to 0: no connection for 2 s", "from 0 to 1: somebody connects"}


def test_what_a_workload_tells_makes_more_of_it(paged: Daemon) -> None:
    metric = {"type": "workload", "name": "queued", "labels": {"kind": "mail"}, "port": 80, "target": 10}
    deploy(paged, autoscale={"max": 3, "metrics": [metric], "interval_s": 1})
    status = wait_status(paged, lambda status: status["available"] == 3)
    assert status["autoscale"]["readings"][0]["value"] == 25
    assert "from 1 to 3: queued is 25 a replica, and should be 10" in [event["message"] for event in paged.events("web")]


def test_busy_processors_make_more_of_it(paged: Daemon) -> None:
    # However busy this host is with other things: a tenth of a processor is what a loop gets.
    metrics = [{"type": "cpu", "target": 10}, {"type": "memory", "target": 99}]
    deploy(paged, env={"BUSY": "1"}, autoscale={"max": 2, "metrics": metrics, "interval_s": 2})
    status = wait_status(paged, lambda status: status["autoscale"]["replicas"] == 2)
    assert status["autoscale"]["readings"][0]["value"] > 11
    wait_status(paged, lambda status: (status["autoscale"]["readings"][1]["value"] or 0) > 5)
