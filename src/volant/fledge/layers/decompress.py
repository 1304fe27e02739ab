"""The bytes of a compressed file, in pieces that are bounded whatever the file says."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import IO, cast

import zstandard
from isal import isal_zlib
from isal.igzip_lib import IsalError

from volant.core.errors import InvalidInput, TooLarge

PIECE_BYTES = 1 << 20
READ_BYTES = 1 << 17
GZIP_WBITS = 16 + isal_zlib.MAX_WBITS
WINDOW_MAX_BYTES = 1 << 26
"""What decoding zstd may remember: RFC 8878 (section 3.1.1.1.2) recommends 8 MiB, ``zstd --ultra -21`` wants 64."""

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_OTHERS = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x04\x22\x4d\x18": "lz4"}
_END = zstandard.ZstdCompressor(level=1).compress(b"\xa5" * 4096)
_END_CONTENT = b"\xa5" * 4096

Read = Callable[[int], bytes]

# Its type information calls the class an instance.
_DAMAGED = cast("type[Exception]", IsalError)


def decompress(read: Read) -> Iterator[bytes]:
    """What a file holds, unpacked if it begins like gzip (RFC 1952) or zstd (RFC 8878). ``read`` gives bytes, b"" at the end.

    The beginning decides, not a media type: images whose layers are not what their manifest says are about, and the tools that
    run them all look.

    Raises:
        InvalidInput: it is damaged, cut short or followed by something else, or packed in another way.
        TooLarge: zstd would need more memory than WINDOW_MAX_BYTES.
    """
    head = read(READ_BYTES)
    for magic, name in _OTHERS.items():
        if head.startswith(magic):
            raise InvalidInput(f"it is packed with {name}", hint="layers are plain, gzip or zstd: convert the image with skopeo")
    if head.startswith(_GZIP):
        return _read_gzip(head, read)
    if head.startswith(_ZSTD) or (head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50):
        return _read_zstd(head, read)
    return _read_plain(head, read)


def _read_plain(head: bytes, read: Read) -> Iterator[bytes]:
    while head:
        yield head
        head = read(READ_BYTES)


def _read_gzip(chunk: bytes, read: Read) -> Iterator[bytes]:
    member = isal_zlib.decompressobj(GZIP_WBITS)
    try:
        while chunk:
            while chunk:
                if member.eof:
                    member = isal_zlib.decompressobj(GZIP_WBITS)
                if piece := member.decompress(chunk, PIECE_BYTES):
                    yield piece
                chunk = member.unused_data if member.eof else member.unconsumed_tail
            chunk = read(READ_BYTES)
        while not member.eof and (piece := member.decompress(b"", PIECE_BYTES)):
            yield piece
    except _DAMAGED as error:
        raise InvalidInput(f"it is no gzip file, or a damaged one: {error}") from error
    if not member.eof:
        raise InvalidInput("the gzip file is cut short")


def _read_zstd(head: bytes, read: Read) -> Iterator[bytes]:
    source = _ZstdSource(head, read)
    unpacker = zstandard.ZstdDecompressor(max_window_size=WINDOW_MAX_BYTES)
    kept = b""
    try:
        with unpacker.stream_reader(
            cast("IO[bytes]", source), read_size=READ_BYTES, read_across_frames=True, closefd=False
        ) as reader:
            while piece := reader.read(PIECE_BYTES):
                piece = kept + piece
                kept = piece[-len(_END_CONTENT) :]
                if len(piece) > len(kept):
                    yield piece[: -len(kept)]
    except zstandard.ZstdError as error:
        if "memory" in str(error) and not source.ended:
            raise TooLarge(
                f"unpacking it takes more than {WINDOW_MAX_BYTES >> 20} MiB of memory", hint="pack it without zstd --long"
            ) from error
        raise InvalidInput(f"it is no zstd file, or a damaged one: {error}") from error
    if kept != _END_CONTENT:
        raise InvalidInput("the zstd file is cut short")


class _ZstdSource(io.RawIOBase):
    """Adds a frame of our own: it only comes out when the one before is whole, which the library does not tell."""

    def __init__(self, head: bytes, read: Read) -> None:
        self._head = head
        self._read = read
        self.ended = False

    def read(self, size: int = -1) -> bytes:
        piece, self._head = self._head or self._read(READ_BYTES), b""
        if not piece and not self.ended:
            self.ended = True
            return _END
        return piece
