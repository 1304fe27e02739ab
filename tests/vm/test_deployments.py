"""Deployments of real guests: rolled out under load without a lost request, healed, and rolled back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from .daemon import Daemon
from .load import Load

PORT = 8090
PAGE = [
    "perl",
    "-MIO::Socket::INET",
    "-e",
    r"""
    my $over = 0;
    $SIG{TERM} = sub { $over = 1 };
    my $door = IO::Socket::INET->new(LocalPort => 80, Listen => 1024, ReuseAddr => 1) or die "port 80: $!";
    exit 3 if $ENV{BROKEN};
    until ($over) {
        my $client = $door->accept or next;
        while (<$client>) { last if /^\r?$/ }
        my $body = "version $ENV{VERSION}\n";
        print $client "HTTP/1.0 200 OK\r\nContent-Length: ", length($body), "\r\n\r\n$body";
        close($client);
    }
    """,
]
HEALTH = {"endpoint": "/", "interval_ms": 500, "timeout_ms": 1000, "unhealthy_threshold": 3}


@pytest.fixture
def paged(daemon: Daemon, install: Callable[..., None]) -> Daemon:
    """A volantd with a plugin whose page tells its version, and its template."""
    install("page", PAGE, health=HEALTH)
    daemon.volar("templates", "build", "page", "--memory", "128")
    return daemon


def create(daemon: Daemon, *words: str, replicas: int = 3) -> str:
    """Deploy ``web``; return the address of the host that its port is on."""
    shape = ["--plugin", "page", "--memory", "128", "--env", "VERSION=1", "--publish", f"{PORT}:80"]
    daemon.volar("deployments", "create", "web", "--replicas", str(replicas), *shape, *words)
    gateway = daemon.vm("web-0")["status"]["addresses"][0]["gateway"]
    assert isinstance(gateway, str)
    return gateway


def deployment(daemon: Daemon) -> Any:
    return daemon.json("deployments", "get", "web")


def wait_deployment(daemon: Daemon, satisfied: Callable[[Any], bool], timeout_s: float = 90) -> Any:
    deadline = time.monotonic() + timeout_s
    while not satisfied(found := deployment(daemon)):
        assert time.monotonic() < deadline, f"{found}\n{daemon.log()}"
        time.sleep(0.2)
    return found


def replicas(daemon: Daemon) -> list[Any]:
    return [vm for vm in daemon.json("vms", "list")["items"] if vm["labels"].get("volant.deployment") == "web"]


def test_a_rolling_update_under_load_loses_no_request(paged: Daemon) -> None:
    gateway = create(paged, "--max-surge", "1", "--max-unavailable", "0")
    with Load(paged, gateway, PORT) as load:
        time.sleep(1)
        paged.volar("deployments", "update", "web", "--env", "VERSION=2")
        paged.volar("deployments", "rollout", "status", "web")
        paged.volar("deployments", "rollout", "restart", "web")
        paged.volar("deployments", "rollout", "status", "web")
        time.sleep(1)
    assert load.faults == {}, load.describe()
    assert set(load.answers) == {"version 1", "version 2"}
    assert load.asked > 100
    assert sorted(vm["name"] for vm in replicas(paged)) == ["web-0", "web-1", "web-2"]


def test_a_revision_that_does_not_start_is_taken_back_and_nobody_notices(paged: Daemon) -> None:
    gateway = create(paged, "--max-surge", "1", "--max-unavailable", "0", "--progress-deadline", "15s", replicas=2)
    with Load(paged, gateway, PORT, workers=2) as load:
        paged.volar("deployments", "update", "web", "--env", "BROKEN=1", "--no-wait")
        failed = paged.volar("deployments", "rollout", "status", "web", check=False)
        assert failed.returncode == 1, failed.stdout
        wait_deployment(paged, lambda one: one["status"]["rollout"]["phase"] == "RolledBack")
    assert load.faults == {}, load.describe()
    assert set(load.answers) == {"version 1"}
    wait_deployment(paged, lambda one: one["status"]["available"] == one["status"]["replicas"] == 2)
    assert all("BROKEN" not in vm["env"] for vm in replicas(paged))


def test_what_breaks_is_made_whole_again(paged: Daemon) -> None:
    create(paged)
    before = {vm["name"]: vm for vm in replicas(paged)}

    def is_whole(one: Any) -> bool:
        return bool(one["status"]["available"] == one["status"]["replicas"] == 3)

    os.kill(before["web-0"]["status"]["pid"], signal.SIGKILL)
    paged.wait_vm("web-0", lambda vm: vm["status"]["ready"] and vm["status"]["run_id"] != before["web-0"]["status"]["run_id"])
    paged.volar("vms", "delete", "web-1")
    wait_deployment(paged, is_whole)
    assert paged.vm("web-1")["uid"] != before["web-1"]["uid"]
    stopped = paged.volar("vms", "stop", "web-2", check=False)
    assert (stopped.returncode, b"its deployment 'web' asks for it to run" in stopped.stderr) == (1, True), stopped
    wait_deployment(paged, is_whole)
    assert paged.vm("web-2")["uid"] == before["web-2"]["uid"], "it was started again"
    paged.volar("vms", "config", "set", "web-2", "memory_mb=160")
    paged.wait_vm("web-2", lambda vm: vm["memory_mb"] == 128)
    reasons = {event["reason"] for event in paged.events("web")}
    assert "Repaired" in reasons, reasons
    # A guest that hangs: its processes stand still, and its agent with them.
    os.kill(paged.vm("web-0")["status"]["pid"], signal.SIGSTOP)
    stuck = paged.vm("web-0")["uid"]
    paged.volar("deployments", "update", "web", "--set", "replace_after_s=5")
    paged.wait_vm("web-0", lambda vm: vm["uid"] != stuck and vm["status"]["ready"], timeout_s=120)
    wait_deployment(paged, is_whole)
