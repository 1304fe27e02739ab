"""A program on a terminal of the test's own."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LIMIT_S = 60.0


class Terminal:
    """``program`` has the terminal as its controlling one. Use as a context."""

    def __init__(self, program: Sequence[str | Path], env: Mapping[str, str], *, rows: int = 24, cols: int = 80) -> None:
        self._ours, self._theirs = os.openpty()
        self.resize(rows, cols)
        self.settings = termios.tcgetattr(self._theirs)
        self._process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *program], stdin=self._theirs, stdout=self._theirs, stderr=self._theirs, env=dict(env)
        )
        self.seen = b""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)
        os.close(self._theirs)

    def resize(self, rows: int, cols: int) -> None:
        """The program is told (SIGWINCH), as by a window's edge."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    def read_until(self, wanted: str) -> str:
        """What it showed since the last call, up to and with ``wanted``."""
        deadline = time.monotonic() + LIMIT_S
        while wanted.encode() not in self.seen:
            readable, _, _ = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                raise AssertionError(f"{wanted!r} was never shown: {self.seen!r}")
            self.seen += os.read(self._ours, 65_536)
        at = self.seen.index(wanted.encode()) + len(wanted.encode())
        shown, self.seen = self.seen[:at], self.seen[at:]
        return shown.decode(errors="replace")

    def ask_until(self, keys: str, prompt: str, wanted: str) -> None:
        """Type ``keys`` after each prompt until the answer has ``wanted``: nobody promises that a new size comes before the keys
        that are typed after it."""
        for _ in range(100):
            self.type(keys)
            if wanted in self.read_until(prompt):
                return
        raise AssertionError(f"{wanted!r} was never the answer")

    def wait(self) -> int:
        """The exit status; what is shown meanwhile is read on."""
        deadline = time.monotonic() + LIMIT_S
        while self._process.poll() is None:
            assert time.monotonic() < deadline, f"it did not end: {self.seen!r}"
            readable, _, _ = select.select([self._ours], [], [], 0.05)
            if readable:
                self.seen += os.read(self._ours, 65_536)
        return self._process.returncode

    @property
    def is_restored(self) -> bool:
        """The terminal is set as it was before the program began."""
        return bool(self._comparable(termios.tcgetattr(self._theirs)) == self._comparable(self.settings))

    @staticmethod
    def _comparable(settings: list[Any]) -> list[Any]:
        return settings[:4]
