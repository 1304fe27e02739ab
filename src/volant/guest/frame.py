"""yamux frames, version 0 (https://github.com/hashicorp/yamux/blob/master/spec.md), within our bounds. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum, IntFlag
from typing import NamedTuple

from volant.guest.breach import Breach

HEADER_BYTES = 12
MAX_PAYLOAD_BYTES = 65_536
WINDOW_BYTES = 262_144
MAX_STREAMS = 64
_HEADER = struct.Struct(">BBHII")


class FrameType(IntEnum):
    DATA = 0
    WINDOW_UPDATE = 1
    PING = 2
    GO_AWAY = 3


class Flag(IntFlag):
    NONE = 0
    SYN = 1
    ACK = 2
    FIN = 4
    RST = 8


class GoAwayCode(IntEnum):
    NORMAL = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2


_ALL_FLAGS = 15
_DATA, _WINDOW_UPDATE, _PING, _GO_AWAY = (int(kind) for kind in FrameType)


class Frame(NamedTuple):
    """``value`` is the header's length field: payload bytes, window delta, ping value or reason for going away."""

    type: int
    flags: int
    stream_id: int
    value: int
    payload: bytes = b""


def encode_frame(frame: Frame) -> bytes:
    return _HEADER.pack(0, frame.type, frame.flags, frame.stream_id, frame.value) + frame.payload


def encode_data(stream_id: int, payload: bytes | memoryview, flags: int = 0) -> bytes:
    return b"".join((_HEADER.pack(0, _DATA, flags, stream_id, len(payload)), payload))


def encode_window_update(stream_id: int, delta: int, flags: int = 0) -> bytes:
    return _HEADER.pack(0, _WINDOW_UPDATE, flags, stream_id, delta)


def encode_ping(value: int, flags: Flag) -> bytes:
    return _HEADER.pack(0, _PING, flags, 0, value)


def encode_go_away(code: GoAwayCode) -> bytes:
    return _HEADER.pack(0, _GO_AWAY, 0, 0, code)


class FrameDecoder:
    """Bytes in, whole frames out. A header is judged before its payload is waited for, so at most one frame is held."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that ``data`` completes. Run it to its end before the next feed.

        Raises:
            Breach: a frame outside the bounds of docs/guest-protocol.md, section 3.
        """
        held = self._held
        held += data
        at = 0
        try:
            while len(held) - at >= HEADER_BYTES:
                version, kind, flags, stream_id, value = _HEADER.unpack_from(held, at)
                _check_header(version, kind, flags, stream_id, value)
                if kind != _DATA:
                    at += HEADER_BYTES
                    yield Frame(kind, flags, stream_id, value)
                    continue
                end = at + HEADER_BYTES + value
                if len(held) < end:
                    return
                payload = bytes(memoryview(held)[at + HEADER_BYTES : end])
                at = end
                yield Frame(kind, flags, stream_id, value, payload)
        finally:
            del held[:at]

    @property
    def incomplete_bytes(self) -> int:
        return len(self._held)


def _check_header(version: int, kind: int, flags: int, stream_id: int, value: int) -> None:
    if version != 0:
        raise Breach(f"the guest's agent sent a frame of version {version}")
    if kind > _GO_AWAY:
        raise Breach(f"the guest's agent sent a frame of unknown type {kind}")
    if flags & ~_ALL_FLAGS:
        raise Breach(f"the guest's agent sent a frame with unknown flags {flags:#x}")
    if kind == _DATA and value > MAX_PAYLOAD_BYTES:
        raise Breach(f"the guest's agent announced a frame of {value} bytes, more than {MAX_PAYLOAD_BYTES}")
    if (stream_id == 0) != (kind in (_PING, _GO_AWAY)):
        raise Breach(f"the guest's agent sent a frame of type {kind} on stream {stream_id}")
