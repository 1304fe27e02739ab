"""The suite's guest (guest/init.c) as far as its letters go."""

from __future__ import annotations

import os
import socket
from typing import Any

PREAMBLE, ANSWER = b"VOLANT\x00\x01", b"VOLANT\x01\x01"


class Guest:
    def __init__(self, vmm: Any, count: int = 0, ballast: str = "") -> None:
        self.vmm = vmm
        self.count = count
        self.ballast = ballast

    def serve(self, stream: socket.socket) -> None:
        data = b""
        while True:
            got = stream.recv(4096)
            # A guest that stands still reads nothing.
            self.vmm.runs.wait()
            if not got or self.vmm.guest is not self:
                return
            data += got
            while data:
                if data.startswith(PREAMBLE):
                    if len(data) < 56:
                        break
                    stream.sendall(ANSWER + data[40:56])
                    data = data[56:]
                    continue
                letter, data = chr(data[0]), data[1:]
                stream.sendall(self.obey(letter))

    def obey(self, letter: str) -> bytes:
        if letter == "N":
            self.count += 1
            return f"{self.count}{self.ballast or '-'}.".encode()
        if letter in "fgz":
            self.ballast = "0" if letter == "z" else letter
        if letter == "P":
            self.vmm.power_off()
        if letter == "R":
            self.vmm.ask_reset()
        if letter == "X":
            os._exit(1)
        if letter == "C":
            os.write(1, b"abc\r\n")
        if letter == "M":
            return f"{self.vmm.memory_left() // 1024}.".encode()
        if letter == "W":
            return self.vmm.write_disk()
        return b""
