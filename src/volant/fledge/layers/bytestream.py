"""Bytes that arrive in chunks, taken in the pieces that a reader of archives wants."""

from __future__ import annotations

import os
from collections.abc import Callable

from volant.core.errors import InvalidInput

COPY_BYTES = 1 << 18
HOLE_BYTES = 65536
"""So many zero bytes in one piece become a hole."""


class ByteStream:
    """``next_chunk`` returns b"" at the end. Every method raises InvalidInput when the stream ends too soon."""

    def __init__(self, next_chunk: Callable[[], bytes]) -> None:
        self._next_chunk = next_chunk
        self._chunk = b""
        self._at = 0
        self._zeros = b""
        self._ended = False

    def take(self, size: int) -> bytes:
        """Exactly ``size`` bytes."""
        end = self._at + size
        if end <= len(self._chunk):
            piece = self._chunk[self._at : end]
            self._at = end
            return piece
        pieces = []
        while size:
            found = self._piece(size)
            pieces.append(bytes(found))
            size -= len(found)
        return b"".join(pieces)

    def take_block(self, size: int) -> bytes:
        """``size`` bytes, or b"" when the stream ends here."""
        if self._at == len(self._chunk) and not self._fill():
            return b""
        return self.take(size)

    def skip(self, size: int) -> None:
        while size:
            size -= len(self._piece(size))

    def skip_some(self, size: int) -> None:
        """As ``skip``, but what is left when the stream ends sooner."""
        while size and (self._at < len(self._chunk) or self._fill()):
            size -= len(self._piece(size))

    def copy(self, descriptor: int, size: int) -> bool:
        """Write ``size`` bytes to a file at its position. True when it ended in a hole: the caller sets the length."""
        if self._at + size <= len(self._chunk) and size < HOLE_BYTES:
            _write_all(descriptor, self.take(size))
            return False
        hole = False
        while size:
            piece = self._piece(min(size, COPY_BYTES))
            size -= len(piece)
            hole = len(piece) >= HOLE_BYTES and self._is_zero(piece)
            if hole:
                os.lseek(descriptor, len(piece), os.SEEK_CUR)
            else:
                _write_all(descriptor, piece)
        return hole

    def drain_zeros(self) -> bool:
        """Read to the end. False when anything but zero bytes was left."""
        clean = True
        while self._at < len(self._chunk) or self._fill():
            piece = self._piece(len(self._chunk) - self._at)
            clean = clean and self._is_zero(piece)
        return clean

    def _fill(self) -> bool:
        if not self._ended:
            self._chunk, self._at = self._next_chunk(), 0
            self._ended = not self._chunk
        return not self._ended

    def _piece(self, size: int) -> memoryview:
        if self._at == len(self._chunk) and not self._fill():
            raise InvalidInput("the archive is cut short")
        end = min(self._at + size, len(self._chunk))
        piece = memoryview(self._chunk)[self._at : end]
        self._at = end
        return piece

    def _is_zero(self, piece: memoryview) -> bool:
        # The first bytes settle it for nearly all; two views would be compared item by item.
        if any(piece[:16]):
            return False
        if len(self._zeros) != len(piece):
            self._zeros = bytes(len(piece))
        return piece.tobytes() == self._zeros


def _write_all(descriptor: int, content: bytes | memoryview) -> None:
    written = os.write(descriptor, content)
    while written < len(content):
        content = content[written:]
        written = os.write(descriptor, content)
