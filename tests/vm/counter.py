"""A workload that counts on its disk, and those who have it count."""

from __future__ import annotations

import subprocess
import sys
import threading
from itertools import pairwise
from typing import Any

from .daemon import Daemon

ENTRYPOINT = [
    "perl",
    "-MIO::Handle",
    "-MIO::Socket::INET",
    "-MSocket=SOL_SOCKET,SO_RCVTIMEO",
    "-e",
    r"""
    STDOUT->autoflush(1);
    my $kept = "/srv/count";
    my $n = 0;
    if (open(my $old, "<", $kept)) { while (<$old>) { $n = $1 if /^(\d+)\n/ } }
    open(my $file, ">>", $kept) or die "$kept: $!";
    my $door = IO::Socket::INET->new(LocalPort => 80, Listen => 1024, ReuseAddr => 1) or die "port 80: $!";
    print "begins at $n\n";
    while (my $client = $door->accept) {
        # In a guest that goes on from what another was, whoever was just asking is there no more.
        setsockopt($client, SOL_SOCKET, SO_RCVTIMEO, pack("l!l!", 2, 0));
        my $asked = <$client> // "";
        while (<$client>) { last if /^\r?$/ }
        if ($asked =~ m{^GET /next}) {
            $n++;
            syswrite($file, "$n\n") or die "$kept: $!";
            $file->sync or die "fsync: $!";
            print "$n\n" if $asked =~ m{^GET /next-told};
        }
        my $body = "$n\n";
        print $client "HTTP/1.0 200 OK\r\nContent-Length: ", length($body), "\r\n\r\n$body";
        close($client);
    }
    """,
]
"""Answers each GET /next with the next number, once that is on its disk; /next-told tells its log, too. GET / is the last."""

HEALTH = {"endpoint": "/", "interval_ms": 2000, "timeout_ms": 1000, "unhealthy_threshold": 3}

_ASK = r"""
import socket, sys, threading
host, port, path, wait_s, times = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4]), int(sys.argv[5])
telling = threading.Lock()
def ask():
    with socket.create_connection((host, port), timeout=wait_s) as door:
        door.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = b""
        while part := door.recv(4096):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    number = int(body) if head.endswith(b": %d" % len(body)) else None
    if number is not None:
        with telling:
            print(number, flush=True)
def ask_and_tell():
    try:
        ask()
    except (OSError, ValueError) as error:
        with telling:
            print(type(error).__name__, error, file=sys.stderr, flush=True)
if times:
    threads = [threading.Thread(target=ask_and_tell) for _ in range(times)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
else:
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    while not over.is_set():
        try:
            ask()
        except (OSError, ValueError):
            over.wait(0.02)
"""


def _command(daemon: Daemon, host: str, port: int, path: str, wait_s: float, times: int) -> list[str]:
    asks = [sys.executable, "-c", _ASK, host, str(port), path, str(wait_s), str(times)]
    return ["ip", "netns", "exec", daemon.namespace, *asks]


def ask_at_once(daemon: Daemon, host: str, port: int, times: int, *, path: str = "/next", wait_s: float = 60) -> list[int]:
    """What was answered to so many who came in the same moment, in the order of the answers."""
    done = subprocess.run(
        _command(daemon, host, port, path, wait_s, times), capture_output=True, text=True, timeout=wait_s + 30, check=True
    )
    assert done.stderr == "", f"not all were answered: {done.stderr[:2000]}"
    return [int(line) for line in done.stdout.split()]


class Asking:
    """Somebody who asks one VM for number after number, on its own address, as soon as the one before came or is given up."""

    def __init__(self, daemon: Daemon, vm: Any, *, wait_s: float = 1.0) -> None:
        self._command = _command(daemon, vm["status"]["addresses"][0]["ip"], 80, "/next", wait_s, 0)
        self.acknowledged: list[int] = []
        self._more = threading.Condition()

    def __enter__(self) -> Asking:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        status = self._process.wait(timeout=30)
        self._reader.join(timeout=30)
        assert self._process.stdout is not None
        self._process.stdout.close()
        assert status == 0

    def wait_more(self, count: int = 1, *, timeout_s: float = 30) -> None:
        """Return once so many more were acknowledged."""
        with self._more:
            wanted = len(self.acknowledged) + count
            assert self._more.wait_for(lambda: len(self.acknowledged) >= wanted, timeout_s), "nobody answers"

    def check(self) -> int:
        """The last number, every one of which was greater than the one before."""
        numbers = self.acknowledged
        backwards = [(one, other) for one, other in pairwise(numbers) if other <= one]
        assert not backwards, f"the counter went back: {backwards[:5]}"
        return numbers[-1]

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._more:
                self.acknowledged.append(int(line))
                self._more.notify_all()
