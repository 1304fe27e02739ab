"""What a VM process says of itself (its ``--event-monitor``): JSON objects with an empty line after each, through a pipe.

The process holds both ends. So a pipe's worth stays for a volantd that was away, and what a guest causes beyond that is lost
and fills nothing. A guest that resets is booted again by the process at once; this is where that is heard of.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Literal

import msgspec

BUFFER_MAX_BYTES = 64 << 10
_READ_BYTES = 16 << 10

Kind = Literal["powered_off", "reset"]

_KINDS: dict[tuple[str, str], Kind] = {
    ("vm", "rebooting"): "reset",
    ("vm", "shutdown"): "powered_off",
}


class _Event(msgspec.Struct, frozen=True):
    source: str
    event: str


class Events:
    """The reading end. ``descriptor`` is non-blocking and belongs to it from now on; -1 for none."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = b""
        self._ended = asyncio.Event()
        self._is_watched = False
        self.kind: Kind | None = None
        """How the guest ended, by the first event that says so."""

    async def wait_ended(self) -> Kind:
        """Return once an event says that the guest has ended; never, when none does. May be cancelled."""
        if self.kind is None and self._descriptor >= 0 and not self._is_watched:
            asyncio.get_running_loop().add_reader(self._descriptor, self.read)
            self._is_watched = True
        await self._ended.wait()
        assert self.kind is not None
        return self.kind

    def read(self) -> None:
        """Take in what is there now."""
        while self._descriptor >= 0:
            try:
                content = os.read(self._descriptor, _READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                content = b""
            if not content:
                self.close()
                return
            self._take(content)

    def close(self) -> None:
        if self._descriptor < 0:
            return
        if self._is_watched:
            # A loop that is closed already watches nothing.
            with contextlib.suppress(RuntimeError):
                asyncio.get_running_loop().remove_reader(self._descriptor)
            self._is_watched = False
        os.close(self._descriptor)
        self._descriptor = -1

    def _take(self, content: bytes) -> None:
        *whole, self._buffer = (self._buffer + content).split(b"\n\n")
        if len(self._buffer) > BUFFER_MAX_BYTES:
            self._buffer = b""
        for text in whole:
            try:
                event = msgspec.json.decode(text, type=_Event)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # the pipe was full once, and what is here is a part
            kind = _KINDS.get((event.source, event.event))
            if kind is not None and self.kind is None:
                self.kind = kind
                self._ended.set()


def open_events(pid: int, number: int) -> Events:
    """Of process ``pid``, which holds the reading end as ``number``. A process that is gone has none."""
    try:
        return Events(os.open(f"/proc/{pid}/fd/{number}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return Events(-1)
