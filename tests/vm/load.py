"""People who fetch a page again and again, and what became of each of their requests."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from .daemon import Daemon

_ASK = r"""
import collections, json, socket, sys, threading, time
host, port, workers, pause_s, patience_s = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5])
over, telling = threading.Event(), threading.Lock()
answers, faults, lost = collections.Counter(), collections.Counter(), []
asked = longest_s = 0
def fetch():
    with socket.create_connection((host, port), timeout=20) as door:
        door.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        while part := door.recv(4096):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.0 200 ") or not head.endswith(b": %d" % len(body)):
        raise ValueError(f"half an answer: {answer[:80]!r}")
    return body.decode().strip()
def work():
    global asked, longest_s
    while not over.is_set():
        began, answer = time.monotonic(), None
        while answer is None:
            try:
                answer = fetch()
            except (OSError, ValueError) as error:
                with telling:
                    faults[f"{type(error).__name__}: {error}"] += 1
                if time.monotonic() - began > patience_s:
                    lost.append(str(error))
                    break
                time.sleep(0.05)
        with telling:
            asked += 1
            longest_s = max(longest_s, time.monotonic() - began)
            if answer is not None:
                answers[answer] += 1
        over.wait(pause_s)
threads = [threading.Thread(target=work) for _ in range(workers)]
[thread.start() for thread in threads]
print("begun", flush=True)
sys.stdin.read()
over.set()
[thread.join() for thread in threads]
print(json.dumps({"asked": asked, "answers": answers, "faults": faults, "lost": lost, "longest_s": round(longest_s, 2)}))
"""


class Load:
    """``workers`` ask one after the other at ``port`` of the gateway, each on a connection of its own, and wait ``pause_s``
    between two requests. A request that fails is tried again for ``patience_s``; after that it is lost."""

    def __init__(
        self, daemon: Daemon, gateway: str, port: int, *, workers: int = 4, pause_s: float = 0.05, patience_s: float = 60.0
    ) -> None:
        asks = [sys.executable, "-c", _ASK, gateway, str(port), str(workers), str(pause_s), str(patience_s)]
        self._command = ["ip", "netns", "exec", daemon.namespace, *asks]
        self.asked = 0
        self.answers: dict[str, int] = {}
        self.faults: dict[str, int] = {}
        """What went wrong with single attempts, and how often: what a client sees that does not try again."""
        self.lost: list[str] = []
        self.longest_s = 0.0

    def __enter__(self) -> Load:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"begun\n"
        return self

    def __exit__(self, *_: object) -> None:
        told, _ = self._process.communicate(timeout=120)
        found: dict[str, Any] = json.loads(told)
        self.asked, self.answers, self.faults = found["asked"], found["answers"], found["faults"]
        self.lost, self.longest_s = found["lost"], found["longest_s"]

    def describe(self) -> str:
        failed = sum(self.faults.values())
        return f"{self.asked} requests, {failed} attempts failed {self.faults}, {len(self.lost)} lost, longest {self.longest_s} s"
