"""The smallest host that speaks the guest protocol: blocking, for tests of kestrel alone."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from typing import Any

MAGIC, ECHO = b"VOLANT\x00\x01", b"VOLANT\x01\x01"
ZEROS = bytes(32)
DATA, WINDOW, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8


class Ended(Exception):
    """The guest said Go Away, or the transport closed."""


def frame(kind: int, flags: int, stream: int, length: int, payload: bytes = b"") -> bytes:
    return struct.pack(">BBHII", 0, kind, flags, stream, length) + payload


def message(document: object) -> bytes:
    text = json.dumps(document).encode()
    return struct.pack(">I", len(text)) + text


class Host:
    """One session over a connected socket."""

    def __init__(self, connection: socket.socket, secret: bytes = ZEROS, *, timeout_s: float = 10) -> None:
        self.connection = connection
        connection.settimeout(timeout_s)
        self.data: dict[int, bytearray] = {}
        self.ended: set[int] = set()
        self.reset: set[int] = set()
        self.frames: list[tuple[int, int, int, int]] = []
        self.give_window = True
        self.windows: dict[int, int] = {}
        self.buffer = bytearray()
        self.next_id = 1
        self.next_request = 1
        self.notices: list[dict[str, Any]] = []
        nonce = os.urandom(16)
        connection.sendall(MAGIC + secret + nonce)
        while ECHO + nonce not in self.buffer:
            self._fill()
        del self.buffer[: self.buffer.index(ECHO + nonce) + 24]

    def _fill(self) -> None:
        try:
            chunk = self.connection.recv(65536)
        except ConnectionResetError:
            chunk = b""
        if not chunk:
            raise Ended("closed")
        self.buffer += chunk

    def step(self) -> None:
        """Take one frame."""
        while len(self.buffer) < 12:
            self._fill()
        _, kind, flags, stream, length = struct.unpack(">BBHII", self.buffer[:12])
        del self.buffer[:12]
        self.frames.append((kind, flags, stream, length))
        if kind == GO_AWAY:
            raise Ended(f"go away {length}")
        if kind == DATA:
            while len(self.buffer) < length:
                self._fill()
            self.data.setdefault(stream, bytearray()).extend(self.buffer[:length])
            del self.buffer[:length]
            if length and self.give_window:
                with contextlib.suppress(BrokenPipeError):  # what it sent before it ended is still to be read
                    self.connection.sendall(frame(WINDOW, 0, stream, length))
        if kind == WINDOW:
            self.windows[stream] = self.windows.get(stream, 0) + length
        if flags & FIN:
            self.ended.add(stream)
        if flags & RST:
            self.reset.add(stream)

    def open(self, opening: object) -> int:
        stream, self.next_id = self.next_id, self.next_id + 2
        self.data[stream] = bytearray()
        self.windows[stream] = 262144
        self.send(stream, message(opening), SYN)
        return stream

    def send(self, stream: int, payload: bytes, flags: int = 0) -> None:
        while self.windows[stream] < len(payload):
            self.step()
        self.windows[stream] -= len(payload)
        self.connection.sendall(frame(DATA, flags, stream, len(payload), payload))

    def _take(self, stream: int, size: int) -> bytes:
        buffer = self.data[stream]
        while len(buffer) < size:
            if stream in self.ended or stream in self.reset:
                raise EOFError
            self.step()
        taken = bytes(buffer[:size])
        del buffer[:size]
        return taken

    def read_message(self, stream: int) -> Any:
        (size,) = struct.unpack(">I", self._take(stream, 4))
        return json.loads(self._take(stream, size))

    def read_record(self, stream: int) -> tuple[int, bytes]:
        kind, size = struct.unpack(">BI", self._take(stream, 5))
        return kind, self._take(stream, size)

    def read_log(self, stream: int) -> tuple[int, int, int, bytes]:
        """Sequence number, source, flags, line."""
        sequence, _, source, flags, zero, size = struct.unpack(">QQBBHI", self._take(stream, 24))
        assert zero == 0
        return sequence, source, flags, self._take(stream, size)

    def hello(self) -> dict[str, Any]:
        self.control = self.open({"open": "control", "versions": [1], "client": "test/1"})
        answer: dict[str, Any] = self.read_message(self.control)
        assert answer["type"] == "hello"
        return answer

    def request(self, kind: str, **members: object) -> Any:
        number, self.next_request = self.next_request, self.next_request + 1
        self.send(self.control, message({"id": number, "type": kind, **members}))
        while True:
            answer = self.read_message(self.control)
            if answer.get("re") == number:
                return answer
            self.notices.append(answer)

    def wait_notice(self, **members: object) -> dict[str, Any]:
        """The next notice with these members; those before it are dropped."""
        while True:
            notice: dict[str, Any] = self.notices.pop(0) if self.notices else self.read_message(self.control)
            if all(notice.get(name) == value for name, value in members.items()):
                return notice

    def exec(self, argv: list[str], *, stdin: bytes | None = None, **members: object) -> tuple[dict[str, Any], bytes, bytes]:
        """Run to the end: how it ended (or the error), stdout, stderr."""
        stream = self.open({"open": "exec", "workload": "main", "argv": argv, "stdin": stdin is not None, **members})
        answer = self.read_message(stream)
        if "error" in answer:
            return answer, b"", b""
        if stdin is not None:
            self.send(stream, struct.pack(">BI", 0, len(stdin)) + stdin + struct.pack(">BI", 0, 0))
        output = {1: bytearray(), 2: bytearray()}
        while True:
            kind, payload = self.read_record(stream)
            if kind == 3:
                self.send(stream, b"", FIN)
                return json.loads(payload), bytes(output[1]), bytes(output[2])
            output[kind] += payload
