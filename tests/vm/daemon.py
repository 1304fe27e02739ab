"""A real volantd in a place of its own, and its command line, as a test handles them."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
READY_S = 60.0
CLEAN_S = 60.0


class Daemon:
    """volantd with its directories and network namespace under one roof."""

    def __init__(
        self, root: Path, namespace: str, *, inside: str | None = None, wired: str | None = None, data: Path | None = None
    ) -> None:
        """``inside`` is a namespace in which it runs with its networks, ``wired`` one of the test's own that it is told to
        use; ``data`` is another place for what lasts."""
        self.root = root
        self.namespace = inside or wired or namespace
        self._is_theirs = bool(inside or wired)
        self.data = data or root / "data"
        self._inside = inside
        self.api = f"unix://{root}/run/volantd.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self._log = root / "volantd.log"
        root.mkdir(parents=True, exist_ok=True)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def command(self) -> list[str | Path]:
        enter = ["ip", "netns", "exec", self._inside] if self._inside else []
        space = "host" if self._inside else self.namespace
        directories = ["--data-dir", self.data, "--runtime-dir", self.root / "run"]
        return [*enter, BIN / "volantd", *directories, "--network-namespace", space, "--log-format", "console"]

    def start(self, *flags: str) -> None:
        """Return once it said that it is ready."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*self.command(), *flags], stdout=subprocess.PIPE, stderr=log)
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], READY_S)
        line = self._process.stdout.readline() if readable else b""
        assert line.startswith(b"volantd ready unix:"), f"{line!r}; its log:\n{self.log()}"

    def kill(self) -> None:
        """SIGKILL: nothing is cleaned up."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; return the exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(number)
        status = self._process.wait(timeout=60)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None
        return status

    def log(self) -> str:
        return self._log.read_text(errors="replace")[-6000:]

    def volar(
        self, *words: str, check: bool = True, stdin: bytes | None = None, timeout_s: float = 180
    ) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            [BIN / "volar", *words],
            env={**os.environ, "VOLANT_API": self.api},
            capture_output=True,
            input=stdin,
            timeout=timeout_s,
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"volar {' '.join(words)} gave {done.returncode}: {done.stderr.decode()}\nvolantd's log:\n{self.log()}"
            )
        return done

    def json(self, *words: str) -> Any:
        return json.loads(self.volar(*words, "--json").stdout)

    def vm(self, name: str) -> Any:
        return self.json("vms", "get", name)

    def wait_vm(self, name: str, satisfied: Any, timeout_s: float = 60) -> Any:
        """The VM once ``satisfied(vm)`` is true; fails with what it last was."""
        deadline = time.monotonic() + timeout_s
        while True:
            vm = self.vm(name)
            if satisfied(vm):
                return vm
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout_s} s: {json.dumps(vm['status'], indent=1)}\n{self.log()}")
            time.sleep(0.1)

    def curl(self, url: str, *, timeout_s: float = 10) -> subprocess.CompletedProcess[bytes]:
        """Fetch ``url`` from inside the network namespace."""
        return subprocess.run(
            ["ip", "netns", "exec", self.namespace, "curl", "-sS", "-f", "-m", str(timeout_s), url], capture_output=True
        )

    def fetch(self, vm: Any, path: str = "/") -> bytes:
        done = self.curl(f"http://{vm['status']['addresses'][0]['ip']}{path}")
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def events(self, name: str) -> list[Any]:
        return [event for event in self.json("events")["items"] if event["about_name"] == name]

    def clean_up(self) -> None:
        """Delete every pool, VM and snapshot and end, whatever state the test left it in."""
        if self._process is None or self._process.poll() is not None:
            self._process = None
            self.start()
        for pool in self.json("pools", "list")["items"]:
            self.volar("pools", "set", pool["plugin"], "0")
        for kind in ("cron", "jobs", "deployments", "vms", "snapshots"):
            names = [one["name"] for one in self.json(kind, "list")["items"]]
            if names:
                self.volar(kind, "delete", *names, timeout_s=300)
        deadline = time.monotonic() + CLEAN_S
        while self.json("pools", "list")["items"] and time.monotonic() < deadline:
            time.sleep(0.1)
        assert self.stop() == 0, self.log()

    def leftovers(self) -> list[str]:
        """What is still on the host of a daemon that was cleaned up."""
        made = not self._is_theirs and (Path("/run/netns") / self.namespace).exists()
        found = [f"namespace {self.namespace}"] if made else []
        found += [f"unit {path}" for path in (self.data / "vms").glob("*")]
        found += [f"snapshot {path}" for path in (self.data / "snapshots").glob("*")]
        found += [f"half a template {path}" for path in (self.data / "templates").glob(".*")]
        found += [f"in the runtime directory {path}" for path in (self.root / "run").rglob("*") if path.name != "vms"]
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes()
                links = [os.readlink(link) for link in (process / "fd").iterdir()]
            except OSError:
                continue
            if str(self.root).encode() in command or any(link.startswith(str(self.root)) for link in links):
                found.append(f"process {process.name}: {command[:200]!r}")
        return found
