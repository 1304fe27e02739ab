"""Records on exec and log streams (docs/guest-protocol.md, sections 4.2 and 4.3). Pure."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Literal

from volant.core.log import CONTINUES, LogRecord, LogSource
from volant.guest.breach import Breach
from volant.guest.message import convert_message, decode_body
from volant.guest.protocol import Exit

EXEC_HEAD_BYTES = 5
MAX_EXEC_BYTES = 65_531
MAX_SIGNAL = 64
LOG_HEAD_BYTES = 24
MAX_LOG_BYTES = 16_384
MAX_SIDE = 9_999
"""Rows or columns of a terminal."""

_SIZE = struct.Struct(">HH")
_EXEC_HEAD = struct.Struct(">BI")
_LOG_HEAD = struct.Struct(">QQBBHI")


class ExecType(IntEnum):
    STDIN = 0
    STDOUT = 1
    STDERR = 2
    END = 3
    RESIZE = 4
    SIGNAL = 6


def encode_exec(kind: ExecType, data: bytes) -> bytes:
    if len(data) > MAX_EXEC_BYTES:
        raise ValueError(f"an exec record has at most {MAX_EXEC_BYTES} bytes")
    return _EXEC_HEAD.pack(kind, len(data)) + data


def encode_size(rows: int, cols: int) -> bytes:
    """The content of a resize record."""
    if not (1 <= rows <= MAX_SIDE and 1 <= cols <= MAX_SIDE):
        raise ValueError(f"a terminal of {rows} rows and {cols} columns")
    return _SIZE.pack(rows, cols)


def decode_size(content: bytes) -> tuple[int, int]:
    """Rows and columns. Raises Breach."""
    if len(content) == _SIZE.size:
        rows, cols = _SIZE.unpack(content)
        if 1 <= rows <= MAX_SIDE and 1 <= cols <= MAX_SIDE:
            return rows, cols
    raise Breach("a resize record holds no rows and columns from 1 to 9,999")


def encode_log(record: LogRecord) -> bytes:
    if len(record.data) > MAX_LOG_BYTES:
        raise ValueError(f"a log record has at most {MAX_LOG_BYTES} bytes")
    return _LOG_HEAD.pack(record.seq, record.time_ns, record.source, record.flags, 0, len(record.data)) + record.data


class ExecDecoder:
    """Bytes in, whole exec records of one side out, each as docs/guest-protocol.md, section 4.2, wants it."""

    def __init__(self, sender: Literal["guest", "host"], *, tty: bool = False) -> None:
        """``tty``: the program is on a terminal."""
        self._tty = tty
        self._held = bytearray()
        self._check = self._check_guest if sender == "guest" else self._check_host
        self._stdin_ended = False
        self.end: Exit | None = None
        """How the program ended, once the guest has said so."""

    def feed(self, data: bytes) -> list[tuple[ExecType, bytes]]:
        """(type, bytes) of each record that ``data`` completes. Raises Breach for what may not be."""
        held = self._held
        held += data
        found: list[tuple[ExecType, bytes]] = []
        at = 0
        while len(held) - at >= EXEC_HEAD_BYTES:
            kind, length = _EXEC_HEAD.unpack_from(held, at)
            if length > MAX_EXEC_BYTES:
                raise Breach(f"an exec record of {length} bytes was announced, more than {MAX_EXEC_BYTES}")
            end = at + EXEC_HEAD_BYTES + length
            if len(held) < end:
                break
            content = bytes(held[at + EXEC_HEAD_BYTES : end])
            self._check(kind, content)
            found.append((ExecType(kind), content))
            at = end
        del held[:at]
        return found

    @property
    def incomplete_bytes(self) -> int:
        return len(self._held)

    def _check_guest(self, kind: int, content: bytes) -> None:
        if self.end is not None:
            raise Breach("an exec record follows the last")
        if kind == ExecType.END:
            ended = convert_message(decode_body(content), Exit)
            if (ended.code is None) == (ended.signal is None):
                raise Breach("the end of an exec names not one of code and signal")
            self.end = ended
        elif kind not in (ExecType.STDOUT, ExecType.STDERR):
            raise Breach(f"an exec record of type {kind} came from the guest")

    def _check_host(self, kind: int, content: bytes) -> None:
        if kind == ExecType.STDIN:
            if self._stdin_ended and content and not self._tty:
                raise Breach("stdin goes on after its end")
            self._stdin_ended = not content
        elif kind == ExecType.RESIZE and self._tty:
            decode_size(content)
        elif kind != ExecType.SIGNAL:
            raise Breach(f"an exec record of type {kind} came from the host")
        elif len(content) != 1 or not 1 <= content[0] <= MAX_SIGNAL:
            raise Breach("a signal record holds no number from 1 to 64")


class LogDecoder:
    """Bytes in, whole log records out, their sequence numbers rising."""

    def __init__(self, after: int = 0) -> None:
        self._held = bytearray()
        self._last = after

    def feed(self, data: bytes) -> list[LogRecord]:
        """The records that ``data`` completes.

        Raises:
            Breach: a length above 16,384, an unknown source or flag, or a sequence number that does not rise.
        """
        held = self._held
        held += data
        found: list[LogRecord] = []
        at = 0
        while len(held) - at >= LOG_HEAD_BYTES:
            seq, time_ns, source, flags, reserved, length = _LOG_HEAD.unpack_from(held, at)
            if length > MAX_LOG_BYTES:
                raise Breach(f"the guest's agent announced a log record of {length} bytes, more than {MAX_LOG_BYTES}")
            if source not in _SOURCES or flags & ~CONTINUES or reserved:
                raise Breach(f"the guest's agent sent a log record of unknown source {source} or flags {flags}")
            if seq <= self._last:
                raise Breach(f"the guest's agent sent log record {seq} after {self._last}")
            end = at + LOG_HEAD_BYTES + length
            if len(held) < end:
                break
            found.append(LogRecord(seq, time_ns, _SOURCES[source], flags, bytes(held[at + LOG_HEAD_BYTES : end])))
            self._last = seq
            at = end
        del held[:at]
        return found

    @property
    def incomplete_bytes(self) -> int:
        return len(self._held)


_SOURCES = {int(source): source for source in LogSource}
