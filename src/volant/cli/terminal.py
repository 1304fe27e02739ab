"""This end's terminal, while another's program has it: raw, and given back as it was whatever happens."""

from __future__ import annotations

import contextlib
import os
import signal
import termios
import tty
from collections.abc import Callable, Iterator
from types import FrameType

from volant.cli.session import Ended

STDIN = 0
MAX_SIDE = 9_999


def is_terminal(descriptor: int) -> bool:
    """False for what is closed, too."""
    try:
        return os.isatty(descriptor)
    except OSError:
        return False


def read_size() -> dict[str, object]:
    """``rows``, ``cols`` and ``term`` of the terminal that shows the output; 24 by 80 when there is none."""
    rows, cols = 24, 80
    for descriptor in (1, STDIN, 2):
        with contextlib.suppress(OSError):
            found = os.get_terminal_size(descriptor)
            if found.lines and found.columns:  # one that nobody gave a size has none
                rows, cols = found.lines, found.columns
                break
    term = os.environ.get("TERM", "")
    known = "".join(c for c in term if c.isascii() and (c.isalnum() or c in "._+-"))[:64]
    return {"rows": _bound(rows), "cols": _bound(cols), "term": known}


@contextlib.contextmanager
def raw_terminal(on_resize: Callable[[int, int], None]) -> Iterator[None]:
    """Every key goes through as it is; ``on_resize`` is told rows and columns, in a signal handler. Does nothing where stdin is
    no terminal. A SIGTERM or SIGHUP ends the command in good order."""
    if not is_terminal(STDIN):
        yield
        return
    before = termios.tcgetattr(STDIN)

    def enter() -> None:
        tty.setraw(STDIN, termios.TCSADRAIN)  # what was typed ahead is kept

    def resized(_number: int, _frame: FrameType | None) -> None:
        size = read_size()
        on_resize(int(str(size["rows"])), int(str(size["cols"])))

    def continued(number: int, frame: FrameType | None) -> None:
        enter()  # the shell that we were in the background of had it as it likes it
        resized(number, frame)

    def told_to_end(number: int, _frame: FrameType | None) -> None:
        raise Ended(128 + number)

    handlers = {
        signal.SIGWINCH: resized, signal.SIGCONT: continued, signal.SIGTERM: told_to_end, signal.SIGHUP: told_to_end,
    }  # fmt: skip
    old = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        enter()
        yield
    finally:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(STDIN, termios.TCSADRAIN, before)
        for number, handler in old.items():
            signal.signal(number, handler)


class DetachKeys:
    """Finds a sequence of keys in what is typed. ``text`` is as in ``ctrl-p,ctrl-q``; an empty one is never found."""

    def __init__(self, text: str) -> None:
        """Raises ValueError."""
        self._keys = bytes(_read_key(word) for word in text.split(",")) if text else b""
        self._seen = 0

    def feed(self, typed: bytes) -> tuple[bytes, bool]:
        """What of it is to be passed on, and whether the sequence is complete. A beginning of it is held back."""
        if not self._keys:
            return typed, False
        passed = bytearray()
        for byte in typed:
            if byte == self._keys[self._seen]:
                self._seen += 1
                if self._seen == len(self._keys):
                    self._seen = 0
                    return bytes(passed), True
                continue
            passed += self._keys[: self._seen]
            self._seen = 1 if byte == self._keys[0] else 0
            if not self._seen:
                passed.append(byte)
        if self._seen == len(self._keys):
            self._seen = 0
            return bytes(passed), True
        return bytes(passed), False


def _read_key(word: str) -> int:
    head, _, key = word.rpartition("-")
    if not head and len(key) == 1 and key.isascii():
        return ord(key)
    code = ord(key.upper()) - 64 if len(key) == 1 and key.isascii() else -1
    if head.lower() != "ctrl" or not 0 <= code <= 31:
        raise ValueError(f"{word!r} is no key: write ctrl-p, or a single letter")
    return code


def _bound(side: int) -> int:
    return min(max(side, 1), MAX_SIDE)
