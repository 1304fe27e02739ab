"""Jobs in real guests: a command that ends well, and one that fails until it is tried again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from .daemon import Daemon

SHELL = ("sh", "-c")
SERVES = ["/bin/sh", "-c", "exec sleep 1000000"]
ODD_ONES_FAIL = 'echo "attempt $VOLANT_JOB_ATTEMPT of $VOLANT_JOB_INDEX"; test "$VOLANT_JOB_ATTEMPT" -ge "$VOLANT_JOB_INDEX"'

LISTENS = "IO::Socket::INET->new(Listen => 1, LocalPort => 80, ReuseAddr => 1)->accept;"
LINE = f"kestrel: end sha256:{'0' * 64} exit=0 reason=workload_ended"
POWER_OFF = "syscall(169, 0xfee1dead, 672274793, 0x4321fedc, 0); sleep"
UNSEEN = {
    "well": "exit 0",
    "badly": "exit 7",
    "lies": f'open(my $console, ">", "/dev/console") or exit 8; print $console "\\n{LINE}\\n"; close $console; exit 9',
    "off": POWER_OFF,
}
"""What each does once somebody has connected to it."""


def run_of(daemon: Daemon, job: str) -> dict[str, Any]:
    found: dict[str, Any] = daemon.json("jobs", "get", job)
    return found


def test_jobs_run_to_their_end(daemon: Daemon, install: Callable[..., None]) -> None:
    # Its probe would fail for ever, were it asked of a command: nothing listens there.
    install("served", SERVES, probes={"readiness": {"tcp": {"port": 81}}, "liveness": {"tcp": {"port": 81}}})
    one = daemon.volar("jobs", "run", "one", "--plugin", "served", "--", *SHELL, "echo to stdout; echo to stderr >&2; uname -n")
    assert one.stdout.decode().split("\n")[:2] == ["to stdout", "one-0-0"]
    assert "to stderr\n" in one.stderr.decode()
    status = run_of(daemon, "one")["status"]
    assert (status["phase"], status["succeeded"], status["failed"], status["runs"][0]["exit_code"]) == ("Succeeded", 1, 0, 0)
    vm = daemon.vm("one-0-0")
    assert (vm["status"]["phase"], vm["status"]["pid"], vm["status"]["last_end"]["clean"]) == ("Stopped", None, True)

    # The second completion fails at its first attempt, and is tried again.
    words = ("jobs", "run", "odd", "--plugin", "served", "--completions", "2", "--parallelism", "2", "--", *SHELL, ODD_ONES_FAIL)
    odd = daemon.volar(*words, timeout_s=180)
    assert "odd-1-1 | attempt 1 of 1" in odd.stdout.decode().splitlines()
    status = run_of(daemon, "odd")["status"]
    assert (status["phase"], status["succeeded"], status["failed"]) == ("Succeeded", 2, 1)
    assert [(run["vm"], run["exit_code"]) for run in status["runs"] if not run["succeeded"]] == [("odd-1-0", 1)]

    # Its exit code is the command's, and a deadline ends what would go on.
    failed = daemon.volar("jobs", "run", "bad", "--plugin", "served", "--retries", "0", "--", *SHELL, "exit 7", check=False)
    assert failed.returncode == 7
    gone = daemon.volar("jobs", "run", "gone", "--plugin", "served", "--retries", "0", "--", "/no/such/program", check=False)
    assert gone.returncode != 0
    assert run_of(daemon, "gone")["status"]["reason"] == "TooManyFailures"
    late = daemon.volar(
        "jobs", "run", "late", "--plugin", "served", "--deadline", "20s", "--", "sleep", "1000", check=False, timeout_s=180
    )
    assert late.returncode == 124
    assert run_of(daemon, "late")["status"]["reason"] == "DeadlineExceeded"

    # A schedule makes the same by name, and all goes with what made it.
    daemon.volar("cron", "create", "tick", "--schedule", "@yearly", "--plugin", "served", "--", "true")
    name = daemon.volar("cron", "trigger", "tick", "-o", "name").stdout.decode().strip()
    daemon.volar("jobs", "wait", name, "--timeout", "120s")
    daemon.volar("cron", "delete", "tick")
    daemon.volar("jobs", "delete", "one", "odd", "bad", "gone", "late", timeout_s=180)
    assert json.loads(daemon.volar("vms", "list", "--json").stdout)["items"] == []


def test_what_ends_while_volantd_is_away_is_known(daemon: Daemon, install: Callable[..., None]) -> None:
    """The guests say on their consoles how it went, for a volantd that comes back."""
    install("served", SERVES)
    for name, script in UNSEEN.items():
        program = ("perl", "-MIO::Socket::INET", "-e", LISTENS + script)
        daemon.volar("jobs", "run", name, "-d", "--plugin", "served", "--retries", "0", "--", *program)
    runs = [f"{name}-0-0" for name in UNSEEN]
    vms = [daemon.wait_vm(run, lambda vm: vm["status"]["ready"], timeout_s=180) for run in runs]
    for vm in vms:
        daemon.volar("vms", "exec", vm["name"], "--", *SHELL, "until grep -q ':0050 .* 0A ' /proc/net/tcp; do sleep 0.1; done")
    daemon.kill()
    for vm in vms:
        daemon.curl(f"http://{vm['status']['addresses'][0]['ip']}/")
    consoles = [daemon.data / "vms" / vm["uid"] / "console.log" for vm in vms]
    deadline = time.monotonic() + 120
    while not all(b"reboot: Power down" in console.read_bytes() for console in consoles):
        assert time.monotonic() < deadline, [console.read_bytes()[-2000:] for console in consoles]
        time.sleep(0.1)
    said = [console.read_bytes() for console in consoles]
    assert [content.count(b"\nkestrel: end sha256:") for content in said] == [1, 1, 2, 0]
    daemon.start()
    daemon.volar("jobs", "wait", *UNSEEN, "--timeout", "120s", check=False)
    seen = {name: run_of(daemon, name)["status"] for name in UNSEEN}
    told = {name: (status["phase"], [run.get("exit_code") for run in status["runs"]]) for name, status in seen.items()}
    assert told == {
        "well": ("Succeeded", [0]),
        "badly": ("Failed", [7]),
        "lies": ("Failed", [9]),
        "off": ("Failed", [None]),
    }
    end = daemon.vm("badly-0-0")["status"]["last_end"]
    assert (end["clean"], end["exit_code"], end["message"]) == (False, 7, "exited with code 7")
