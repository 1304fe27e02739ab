"""``volar run`` with real guests: output, exit codes, Ctrl-C, and nothing left."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest

from .daemon import BIN, Daemon

READY_S = 90.0
REPOSITORY = Path(__file__).parents[2]


def names(daemon: Daemon) -> tuple[list[str], list[str]]:
    """Of the VMs, and of the plugins."""
    vms, plugins = ([one["name"] for one in daemon.json(kind, "list")["items"]] for kind in ("vms", "plugins"))
    return vms, plugins


class Running:
    """A ``volar run`` in the background; everything that it prints comes by one pipe."""

    def __init__(self, daemon: Daemon, *words: str) -> None:
        self._process = subprocess.Popen(
            [BIN / "volar", "run", *words],
            env={**os.environ, "VOLANT_API": daemon.api},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.seen = b""

    def read_until(self, wanted: str) -> str:
        """All that was printed once ``wanted`` (a pattern) is among it."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + READY_S
        while not re.search(wanted, self.seen.decode()):
            left = deadline - time.monotonic()
            readable, _, _ = select.select([self._process.stdout], [], [], max(left, 0))
            chunk = os.read(self._process.stdout.fileno(), 65536) if readable else b""
            assert chunk, f"no {wanted!r} in {self.seen!r}"
            self.seen += chunk
        return self.seen.decode()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self) -> int:
        """The exit code."""
        out, _ = self._process.communicate(timeout=READY_S)
        self.seen += out
        return self._process.returncode


@pytest.fixture
def fresh(daemon: Daemon) -> Daemon:
    """A volantd that has no plugin."""
    daemon.volar("plugins", "remove", "nginx")
    return daemon


def test_a_workload_runs_once_and_its_output_and_exit_code_come_back(fresh: Daemon, nginx: Path) -> None:
    script = 'echo "to stdout $COLOUR"; echo to stderr >&2; hostname; seq 1 500; exit 3'
    done = fresh.volar("run", str(nginx), "--name", "once", "-e", "COLOUR=blue", "--", "sh", "-c", script, check=False)
    assert done.returncode == 3, done.stderr.decode()
    lines = done.stdout.decode().splitlines()
    assert lines[:2] == ["to stdout blue", "once"] and lines[2:] == [str(number) for number in range(1, 501)]
    assert b"to stderr\n" in done.stderr
    assert names(fresh) == ([], [])


def test_a_directory_with_a_recipe_is_built_first(fresh: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEDGE_CACHE", os.environ.get("FLEDGE_CACHE", str(REPOSITORY / "build" / "fledge-cache")))
    done = fresh.volar("run", str(REPOSITORY / "examples/nginx"), "--", "nginx", "-v", timeout_s=600)
    assert b"nginx version: nginx/" in done.stderr
    refused = fresh.volar("run", str(REPOSITORY / "examples"), check=False)
    assert refused.returncode == 2 and b"has neither fledge.toml nor a Dockerfile" in refused.stderr
    assert names(fresh) == ([], [])


def test_a_workload_that_ends_well_or_by_a_signal(daemon: Daemon) -> None:
    assert daemon.volar("run", "nginx", "-q", "--", "true").stderr == b""
    killed = daemon.volar("run", "nginx", "-q", "--", "sh", "-c", "kill -9 $$", check=False)
    assert killed.returncode == 137, killed.stderr
    absent = daemon.volar("run", "nginx", "-q", "--", "/no/such/program", check=False)
    assert absent.returncode == 1 and b"/no/such/program" in absent.stderr
    assert names(daemon) == ([], ["nginx"])


def test_ctrl_c_stops_a_server_that_answered(daemon: Daemon, nginx: Path) -> None:
    running = Running(daemon, str(nginx), "--name", "web")
    running.read_until("web starts from nginx")
    vm = daemon.wait_vm("web", lambda vm: vm["status"]["ready"], READY_S)
    assert vm["plugin"] == "nginx"
    assert daemon.fetch(vm, "/hostname").strip() == b"web"
    running.read_until(r"GET /hostname HTTP/1\.1")
    assert [one["name"] for one in daemon.json("vms", "list", "-l", "volant.run=yes")["items"]] == ["web"]
    running.signal(signal.SIGINT)
    assert running.end() == 130, running.seen
    assert names(daemon) == ([], ["nginx"]), "what was installed before stays"


def test_a_second_ctrl_c_does_not_wait_for_a_workload_that_will_not_end(fresh: Daemon, nginx: Path) -> None:
    stubborn = 'trap "echo no" INT TERM QUIT; echo here; while :; do sleep 1; done'
    running = Running(fresh, str(nginx), "--name", "stubborn", "--", "sh", "-c", stubborn)
    running.read_until("here")
    running.signal(signal.SIGINT)
    running.read_until("no")
    running.signal(signal.SIGINT)
    assert running.end() == 130, running.seen
    assert names(fresh) == ([], [])


def test_it_ends_when_its_time_is_over(fresh: Daemon, nginx: Path) -> None:
    done = fresh.volar("run", str(nginx), "--timeout", "15s", "--", "sh", "-c", "echo begun; exec sleep 600", check=False)
    assert done.returncode == 124, done.stderr.decode()
    assert names(fresh) == ([], [])


def test_what_a_killed_volar_leaves_is_found_by_its_label(fresh: Daemon, nginx: Path) -> None:
    running = Running(fresh, str(nginx), "--", "sh", "-c", "echo here; exec sleep 600")
    running.read_until("here")
    running.signal(signal.SIGKILL)
    running.end()
    left = [one["name"] for one in fresh.json("vms", "list", "-l", "volant.run=yes")["items"]]
    assert len(left) == 1 and left == names(fresh)[0]
    fresh.volar("vms", "delete", *left)
    fresh.volar("plugins", "remove", *names(fresh)[1])


def test_not_a_line_of_what_a_workload_said_is_lost_when_it_ends(fresh: Daemon, nginx: Path) -> None:
    # More than a reader's window, at the very end of the guest's life.
    done = fresh.volar("run", str(nginx), "--", "sh", "-c", "seq 1 20000; exit 5", check=False, timeout_s=READY_S)
    assert done.returncode == 5
    assert done.stdout.decode().splitlines() == [str(number) for number in range(1, 20001)]
