"""Bytes between this end's standard streams and something in a guest."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from types import FrameType
from typing import Literal, NamedTuple, Protocol

from volant.cli.terminal import DetachKeys, raw_terminal
from volant.core.errors import Unavailable

READ_BYTES = 32 * 1024
QUEUED_CHUNKS = 16
"""How much of stdin is read ahead of what the other end takes."""


class Partner(Protocol):
    """What is talked with: an exec, an attach or a console."""

    def __iter__(self) -> Iterator[tuple[Literal["stdout", "stderr"], bytes]]: ...

    def write_stdin(self, content: bytes) -> None: ...

    def close_stdin(self) -> None: ...

    def send_signal(self, number: int) -> None: ...

    def resize(self, rows: int, cols: int) -> None: ...

    def close(self) -> None: ...


def converse(partner: Partner, *, stdin: bool, raw: bool, keys: str = "", pass_signals: bool = True) -> bool:
    """Pass bytes on until the other end is over. True when the user detached.

    ``raw``: the terminal's every key goes through, and ``keys`` detach. Else Ctrl-C does, or, with ``pass_signals``, the first is
    sent on as a signal and the second interrupts.
    """
    sender = _Sender(partner, DetachKeys(keys))
    sender.start()
    if stdin:
        threading.Thread(target=sender.read_stdin, name="stdin", daemon=True).start()
    with contextlib.ExitStack() as stack:
        if raw:
            stack.enter_context(raw_terminal(sender.resize))
        elif pass_signals:
            stack.enter_context(_interrupts_to(sender))
        try:
            for source, content in partner:
                stream = sys.stdout.buffer if source == "stdout" else sys.stderr.buffer
                stream.write(content)
                stream.flush()
        except Unavailable:
            if not sender.has_detached:
                raise
        except KeyboardInterrupt:
            if raw or pass_signals:
                raise
            return True
    return sender.has_detached


class _Size(NamedTuple):
    rows: int
    cols: int


class _Sender(threading.Thread):
    """The one thread that writes to the connection, so that nobody waits for anybody else's write.

    Signals and sizes are told through a SimpleQueue, whose put may interrupt itself.
    """

    def __init__(self, partner: Partner, keys: DetachKeys) -> None:
        super().__init__(name="sender", daemon=True)
        self.has_detached = False
        self._partner = partner
        self._keys = keys
        self._queue: SimpleQueue[bytes | int | _Size | None] = SimpleQueue()
        self._room = threading.Semaphore(QUEUED_CHUNKS)

    def send_signal(self, number: int) -> None:
        self._queue.put(number)

    def resize(self, rows: int, cols: int) -> None:
        self._queue.put(_Size(rows, cols))

    def read_stdin(self) -> None:
        while True:
            self._room.acquire()
            try:
                chunk = os.read(0, READ_BYTES)
            except OSError:
                chunk = b""
            passed, detached = self._keys.feed(chunk)
            if passed:
                self._queue.put(passed)
            else:
                self._room.release()
            if detached:
                self.has_detached = True
                self._partner.close()
                return
            if not chunk:
                self._queue.put(None)
                return

    def run(self) -> None:
        with contextlib.suppress(Unavailable):  # the other end is over; the reader tells how
            while True:
                item = self._queue.get()
                if isinstance(item, _Size):
                    self._partner.resize(item.rows, item.cols)
                elif isinstance(item, int):
                    self._partner.send_signal(item)
                elif item is None:
                    self._partner.close_stdin()
                else:
                    self._partner.write_stdin(item)
                    self._room.release()


@contextlib.contextmanager
def _interrupts_to(sender: _Sender) -> Iterator[None]:
    """The first Ctrl-C goes to the program, the second raises KeyboardInterrupt here."""

    def pass_on(number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sender.send_signal(number)

    before = signal.signal(signal.SIGINT, pass_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
