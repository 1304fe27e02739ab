"""A visitor of guests: fetches their pages from inside the network namespace in which they are."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from pyroute2 import netns

CONNECT_S = 0.02
"""An attempt that nobody answers is given up after this: the next one may meet the guest."""

ANSWER_S = 1.0
PAUSE_S = 0.005
LIMIT_S = 60.0


class Visitor:
    """One thread in a namespace. What it is asked for comes as a future: who starts a guest meanwhile need not wait."""

    def __init__(self, thread: ThreadPoolExecutor) -> None:
        self._thread = thread

    def fetch_first(self, address: str, port: int = 80, *, connect_s: float = CONNECT_S) -> Future[float]:
        """The monotonic time at which the first 200 came; asks again and again until then."""
        return self._thread.submit(_fetch_first, address, port, connect_s)

    def fetch_once(self, address: str, port: int = 80) -> bool:
        """Whether one request was answered with 200."""
        return self._thread.submit(_fetch, address, port, ANSWER_S).result()


@contextmanager
def open_visitor(namespace: str) -> Iterator[Visitor]:
    with ThreadPoolExecutor(1, initializer=netns.setns, initargs=(namespace,)) as thread:
        yield Visitor(thread)


def _fetch_first(address: str, port: int, connect_s: float) -> float:
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        if _fetch(address, port, connect_s):
            return time.monotonic()
        time.sleep(PAUSE_S)
    raise TimeoutError(f"no page came from {address}:{port} within {LIMIT_S:g} s")


def _fetch(address: str, port: int, connect_s: float) -> bool:
    try:
        with socket.create_connection((address, port), timeout=connect_s) as connection:
            connection.settimeout(max(ANSWER_S, connect_s))
            connection.sendall(b"GET / HTTP/1.0\r\nHost: bench\r\n\r\n")
            return connection.recv(4096).split(b" ", 2)[1:2] == [b"200"]
    except OSError:
        return False
