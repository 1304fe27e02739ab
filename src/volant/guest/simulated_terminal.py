"""A terminal without a kernel: what is typed is echoed and comes as lines (termios(3), canonical mode)."""

from __future__ import annotations

from typing import Any

from volant.guest.records import MAX_SIDE, decode_size
from volant.guest.simulated_types import Refusal

_INTERRUPT, _END, _QUIT = 3, 4, 28
_SIGNALS = {_INTERRUPT: 2, _QUIT: 3}


class SimulatedTerminal:
    def __init__(self, asked: object) -> None:
        """``asked`` is the opening's ``tty``. Raises Refusal."""
        members: dict[str, Any] = asked if isinstance(asked, dict) else {}
        rows, cols, self.term = members.get("rows", 24), members.get("cols", 80), str(members.get("term", ""))
        if not all(type(side) is int and 1 <= side <= MAX_SIDE for side in (rows, cols)) or not isinstance(asked, dict):
            raise Refusal("malformed", "tty")
        self.size: tuple[int, int] = rows, cols
        self._line = bytearray()

    def resize(self, content: bytes) -> None:
        self.size = decode_size(content)

    def type(self, content: bytes) -> tuple[bytes, list[bytes], int]:
        """What is shown of it, the lines that are whole now (an empty one is the end of file), the signal that it sends or 0."""
        if not content:
            return b"", [bytes(self._line)] if self._line else [b""], 0
        shown = bytearray()
        lines: list[bytes] = []
        for byte in content:
            if byte in _SIGNALS:
                self._line.clear()
                return bytes(shown + b"^%c" % (byte + 64)), lines, _SIGNALS[byte]
            if byte == _END:
                lines.append(bytes(self._line))
                self._line.clear()
            else:
                char = b"\n" if byte == 13 else bytes([byte])
                shown += char
                self._line += char
                if char == b"\n":
                    lines.append(bytes(self._line))
                    self._line.clear()
        return bytes(shown), lines, 0
