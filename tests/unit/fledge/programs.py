"""Programs made by hand: ELF files with a head and an interpreter, and what passes for a busybox."""

from __future__ import annotations

import platform
import struct

_MACHINES = {"x86_64": 62, "aarch64": 183}


def make_elf(*, interpreter: str = "", content: bytes = b"") -> bytes:
    """A 64-bit program for this machine with one program header at most."""
    path = interpreter.encode() + b"\0" if interpreter else b""
    count = 1 if interpreter else 0
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack(
        "<HHIQQQIHHHHHH", 2, _MACHINES[platform.machine()], 1, 0, 64, 0, 0, 64, 56, count, 64, 0, 0
    )  # fmt: skip
    place = 64 + 56 * count
    table = struct.pack("<IIQQQQQQ", 3, 4, place, place, place, len(path), len(path), 1) if interpreter else b""
    return head + table + path + content


def make_busybox(
    *, interpreter: str = "", applets: tuple[str, ...] = ("[", "[[", "busybox", "httpd", "ip", "ls", "sh", "wget")
) -> bytes:
    names = b"".join(name.encode() + b"\0" for name in applets)
    return make_elf(interpreter=interpreter, content=b"BusyBox\0\0" + names + b"\0more")
