"""Probes, hooks, ulimits and the limit of restarts, in real guests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .daemon import Daemon

SHELL = ["/bin/sh", "-c"]
LOYAL = """
trap 'echo signal >> /srv/story; exit 0' TERM
echo start >> /srv/story
ulimit -Sn > /srv/nofile
while :; do sleep 0.1; done
"""


def tell(word: str, more: str = "true") -> list[str]:
    return [*SHELL, f"echo {word} >> /srv/story; {more}"]


def test_a_life_is_told_in_its_order(daemon: Daemon, install: Callable[..., None]) -> None:
    workload = {
        "type": "exec",
        "entrypoint": [*SHELL, LOYAL],
        "ulimits": {"nofile": {"soft": 321, "hard": 654}},
    }
    install(
        "told",
        [],
        workload=workload,
        probes={
            "startup": {"exec": tell("startup"), "interval_ms": 200, "timeout_ms": 10_000, "failure_threshold": 100},
            "readiness": {"exec": ["test", "-e", "/srv/ready"], "timeout_ms": 10_000},
        },
        lifecycle={
            "post_start": {"exec": tell("post_start", "touch /srv/ready"), "timeout_ms": 60_000},
            "pre_stop": {"exec": tell("pre_stop"), "timeout_ms": 5_000},
        },
    )
    daemon.volar("vms", "create", "t", "--plugin", "told")
    told = daemon.vm("t")["status"]["workload"]
    assert (told["health"], told["started"], told["live"]) == ("healthy", True, True)
    limits = daemon.volar("vms", "exec", "t", "--", "sh", "-c", "cat /srv/nofile; ulimit -Sn; ulimit -Hn").stdout
    assert limits.split() == [b"321", b"321", b"654"], "the workload has it, and so has what runs beside it"
    daemon.volar("vms", "stop", "t")
    daemon.volar("vms", "start", "t")
    story = daemon.volar("vms", "exec", "t", "--", "cat", "/srv/story").stdout.decode().split()
    assert sorted(story[:2]) == ["post_start", "start"]
    assert story[2:5] == ["startup", "pre_stop", "signal"]


def test_who_fails_liveness_is_started_again_and_says_why(daemon: Daemon, install: Callable[..., None]) -> None:
    probe = {"exec": [*SHELL, "test ! -e /tmp/sick"], "interval_ms": 300, "timeout_ms": 10_000, "failure_threshold": 2}
    install("sick", [*SHELL, "rm -f /tmp/sick; exec sleep 1000000"], probes={"liveness": probe, "readiness": probe})
    daemon.volar("vms", "create", "s", "--plugin", "sick")
    run = daemon.vm("s")["status"]["run_id"]
    daemon.volar("vms", "exec", "s", "--", "touch", "/tmp/sick")
    vm = daemon.wait_vm("s", lambda vm: vm["status"]["workload"]["restarts"] >= 1 and vm["status"]["ready"])
    assert vm["status"]["workload"]["last_end"] == "the liveness probe failed 2 times: exited with code 1"
    assert vm["status"]["workload"]["exit_signal"] == 3, "the stop signal of the image"
    assert (vm["status"]["run_id"], vm["status"]["restarts"]) == (run, 0), "the guest went on"
    told = [event["message"] for event in daemon.events("s") if event["type"] == "Warning"]
    assert any("the liveness probe failed 2 times" in message for message in told)


def test_restarts_have_an_end(daemon: Daemon, install: Callable[..., None]) -> None:
    restart = {"initial_backoff_ms": 50, "max_backoff_ms": 50, "max_restarts": 2}
    install("weary", [], workload={"type": "exec", "entrypoint": [*SHELL, "exit 3"], "restart": restart})
    daemon.volar("vms", "create", "w", "--plugin", "weary", "--no-wait")
    vm = daemon.wait_vm("w", lambda vm: vm["status"]["reason"] == "RestartLimit")
    end: dict[str, Any] = vm["status"]["last_end"]
    assert vm["status"]["phase"] == "Failed"
    assert (end["exit_code"], end["gave_up"], vm["status"]["restarts"]) == (3, True, 0)
    assert "restarted 2 times already" in end["message"]
    daemon.volar("vms", "start", "w", "--no-wait")
    again = daemon.wait_vm("w", lambda vm: vm["status"]["last_end"]["run_id"] != end["run_id"])
    assert again["status"]["last_end"]["gave_up"], "asked for, it is tried once more"
