"""What kind of file it is that a guest is to boot from, by its first bytes."""

from __future__ import annotations

from typing import Literal

BootFile = Literal["kernel", "initramfs", "unknown"]

HEAD_BYTES = 1024
"""So much of a file says what it is."""

_ARCHIVES = (
    b"070701",  # cpio, newc
    b"070702",
    b"\x1f\x8b",  # gzip
    b"\x28\xb5\x2f\xfd",  # zstd
    b"\xfd7zXZ\x00",
    b"\x02\x21\x4c\x18",  # lz4, as kernels take it
    b"\x04\x22\x4d\x18",
    b"BZh",
    b"\x5d\x00\x00",  # lzma
    b"\x89LZO\x00",
)


def tell_boot_file(head: bytes) -> BootFile:
    """``head`` are the first HEAD_BYTES. Spec: Documentation/arch/x86/boot.rst, arch/arm64/booting.rst, ELF."""
    if head[0x202:0x206] == b"HdrS" or head[:4] == b"\x7fELF" or head[0x38:0x3C] == b"ARM\x64" or head[4:8] == b"zimg":
        return "kernel"
    return "initramfs" if head.startswith(_ARCHIVES) else "unknown"
