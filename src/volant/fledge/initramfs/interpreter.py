"""What the kernel starts a program with: the interpreter that a script's first line or an ELF file's PT_INTERP names (elf(5))."""

from __future__ import annotations

import struct

from volant.core.errors import InvalidInput

_MACHINES = {"x86_64": 62, "aarch64": 183}
_PT_INTERP = 3
_PATH_MAX_BYTES = 4096
_LINE_MAX_BYTES = 256
"""The kernel reads no more of a script (BINPRM_BUF_SIZE)."""


def read_interpreter(program: bytes, what: str, *, machine: str) -> str:
    """The interpreter's path; empty for a program that needs none. ``what`` names the program in errors.

    Raises:
        InvalidInput: it is neither a script nor a 64-bit ELF program for ``machine``.
    """
    if program[:2] == b"#!":
        words = program[2:_LINE_MAX_BYTES].split(b"\n", 1)[0].split()
        if not words:
            raise InvalidInput(f"{what} is a script whose first line names no program", hint="begin it with #!/bin/sh")
        return words[0].decode("utf-8", "surrogateescape")
    if program[:6] != b"\x7fELF\x02\x01":
        raise InvalidInput(f"{what} is neither a script nor a 64-bit program", hint="a script begins with #!/bin/sh")
    try:
        (found,) = struct.unpack_from("<H", program, 0x12)
        if found != _MACHINES.get(machine, found):
            raise InvalidInput(f"{what} is a program for another machine than {machine}")
        (table,) = struct.unpack_from("<Q", program, 0x20)
        size, count = struct.unpack_from("<HH", program, 0x36)
        for index in range(count):
            kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", program, table + index * size)
            if kind == _PT_INTERP:
                return _read_path(program[offset : offset + min(length, _PATH_MAX_BYTES)], length, what)
    except (struct.error, OverflowError) as error:
        raise InvalidInput(f"{what} is a program that is cut short") from error
    return ""


def _read_path(text: bytes, length: int, what: str) -> str:
    if len(text) != length or not text.endswith(b"\0") or length < 2:
        raise InvalidInput(f"{what} is a program that is cut short")
    return text.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
