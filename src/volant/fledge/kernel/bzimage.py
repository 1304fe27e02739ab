"""The uncompressed kernel inside a bzImage (Linux's Documentation/arch/x86/boot.rst, protocol 2.08 and later).

Booting it saves the guest the decompression, about a second under emulation.
"""

from __future__ import annotations

import bz2
import ctypes
import lzma
import struct
import zlib
from collections.abc import Callable

from volant.core.errors import HostError

VMLINUX_MAX_BYTES = 512 * 1024 * 1024
_ELF = b"\x7fELF"
_HEADER_END = 0x250
_LZ4_BLOCK = 8 * 1024 * 1024


def extract_vmlinux(image: bytes) -> bytes:
    """The ELF kernel in ``image``; an ELF file is returned as it is.

    Raises:
        HostError: it is no bzImage, is damaged, or is compressed in a way that is not known.
    """
    if image.startswith(_ELF):
        return image
    if len(image) < _HEADER_END or image[0x202:0x206] != b"HdrS":
        raise HostError("the kernel is neither a bzImage nor an ELF file")
    (protocol,) = struct.unpack_from("<H", image, 0x206)
    if protocol < 0x208:
        raise HostError(f"the kernel's boot protocol {protocol:#x} is older than 2.08 and does not say where its payload is")
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    payload = memoryview(image)[start : start + length]
    if length < 16 or len(payload) != length:
        raise HostError("the kernel is cut short: its payload reaches beyond the file's end")
    # The build appends the size to formats that do not end with it themselves, as gzip does.
    (size,) = struct.unpack_from("<I", payload, length - 4)
    if not 0 < size <= VMLINUX_MAX_BYTES:
        raise HostError(f"the kernel says that it is {size} bytes large, which cannot be (the limit is {VMLINUX_MAX_BYTES})")
    for magic, decompress in _FORMATS.items():
        if payload[: len(magic)] == magic:
            try:
                vmlinux = decompress(payload, size)
            except (lzma.LZMAError, zlib.error, OSError, EOFError, ValueError, struct.error) as error:
                raise HostError(f"the kernel's payload cannot be decompressed: {error}") from error
            break
    else:
        raise HostError(f"the kernel is compressed in an unknown way (it begins with {bytes(payload[:4]).hex()})")
    if len(vmlinux) != size or not vmlinux.startswith(_ELF):
        raise HostError("what the kernel's payload holds is not the ELF file that its header promises")
    return vmlinux


def _read_gzip(payload: memoryview, size: int) -> bytes:
    return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(payload, size + 1)


def _read_bzip2(payload: memoryview, size: int) -> bytes:
    return bz2.BZ2Decompressor().decompress(payload, size + 1)


def _read_xz(payload: memoryview, size: int) -> bytes:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(payload, size + 1)


def _read_lzma(payload: memoryview, size: int) -> bytes:
    return lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(payload, size + 1)


def _read_zstd(payload: memoryview, size: int) -> bytes:
    library = _load("libzstd.so.1")
    library.ZSTD_decompress.restype = ctypes.c_size_t
    library.ZSTD_decompress.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t)
    target = ctypes.create_string_buffer(size)
    got = library.ZSTD_decompress(target, size, bytes(payload[:-4]), len(payload) - 4)
    if got != size:
        raise ValueError("the zstd frame is damaged")
    return target.raw


def _read_lz4(payload: memoryview, size: int) -> bytes:
    """LZ4's legacy frame (lz4_Frame_format.md): blocks of at most 8 MiB, each behind its compressed length."""
    library = _load("liblz4.so.1")
    library.LZ4_decompress_safe.argtypes = (ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int)
    target = ctypes.create_string_buffer(max(size, 1))
    written, position = 0, 4
    while written < size:
        (length,) = struct.unpack_from("<I", payload, position)
        block = bytes(payload[position + 4 : position + 4 + length])
        room = min(_LZ4_BLOCK, size - written)
        got = library.LZ4_decompress_safe(block, ctypes.addressof(target) + written, len(block), room)
        if len(block) != length or got <= 0:
            raise ValueError("an LZ4 block is damaged")
        written += got
        position += 4 + length
    return target.raw[:size]


def _load(name: str) -> ctypes.CDLL:
    # Both are there wherever fledge can work: dpkg needs libzstd, erofs-utils and apt need liblz4.
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise HostError(f"the kernel needs {name} to be read", hint="install libzstd1 and liblz4-1") from error


_FORMATS: dict[bytes, Callable[[memoryview, int], bytes]] = {
    b"\x1f\x8b": _read_gzip,
    b"BZh": _read_bzip2,
    b"\xfd7zXZ\x00": _read_xz,
    b"\x5d\x00\x00": _read_lzma,
    b"\x28\xb5\x2f\xfd": _read_zstd,
    b"\x02\x21\x4c\x18": _read_lz4,
}
