"""What a qcow2 file says of itself (QEMU, docs/interop/qcow2.txt), read before QEMU does: it may name other files of the host."""

from __future__ import annotations

import os
import struct

from volant.core.errors import HostError

HEADER_BYTES = 104
MAGIC = 0x514649FB
DIRTY, CORRUPT, EXTERNAL_DATA = 1, 2, 4
"""Bits of the incompatible features of version 3."""


def check_qcow2(descriptor: int, name: str) -> None:
    """Refuse a file that is no qcow2 or that needs another file. ``name`` is what the message calls it.

    Raises:
        HostError: it is not to be opened; the message says why.
    """
    header = os.pread(descriptor, HEADER_BYTES, 0)
    if len(header) < 72 or struct.unpack_from(">I", header)[0] != MAGIC:
        raise HostError(f"the disk {name!r} is no qcow2 file", hint="its format may be raw")
    version, backing = struct.unpack_from(">IQ", header, 4)
    if version not in (2, 3):
        raise HostError(f"the disk {name!r} is qcow2 of version {version}, and 2 and 3 are read")
    if backing:
        raise HostError(f"the disk {name!r} stands on another file", hint="qemu-img convert makes it one whole")
    if struct.unpack_from(">I", header, 32)[0]:
        raise HostError(f"the disk {name!r} is encrypted, and nobody here has its key")
    features = struct.unpack_from(">Q", header, 72)[0] if version == 3 and len(header) == HEADER_BYTES else 0
    if features & EXTERNAL_DATA:
        raise HostError(f"the disk {name!r} keeps its data in another file", hint="qemu-img convert makes it one whole")
    if features & CORRUPT:
        raise HostError(f"the disk {name!r} is marked as corrupt", hint="qemu-img check -r all")
