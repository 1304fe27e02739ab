from __future__ import annotations

import bz2
import gzip
import lzma
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.core.errors import HostError
from volant.fledge.kernel.bzimage import VMLINUX_MAX_BYTES, extract_vmlinux

from .kernel_files import VMLINUX, make_bzimage


def with_size(compressed: bytes, size: int = len(VMLINUX)) -> bytes:
    return compressed + struct.pack("<I", size)


def lz4_literals(content: bytes) -> bytes:
    """One LZ4 block that only quotes (lz4_Block_format.md): a token, its length in bytes of 255, the bytes."""
    rest = len(content) - 15
    return b"\xf0" + b"\xff" * (rest // 255) + bytes([rest % 255]) + content


def zstd_raw(content: bytes) -> bytes:
    """One zstd frame (RFC 8878, section 3.1.1) with a single raw block."""
    head = b"\x28\xb5\x2f\xfd" + b"\xa0" + struct.pack("<I", len(content))
    return head + ((len(content) << 3) | 1).to_bytes(3, "little") + content


LZ4 = b"\x02\x21\x4c\x18" + struct.pack("<I", len(lz4_literals(VMLINUX))) + lz4_literals(VMLINUX)
PAYLOADS = {
    "gzip": gzip.compress(VMLINUX),
    "bzip2": with_size(bz2.compress(VMLINUX)),
    "xz": with_size(lzma.compress(VMLINUX)),
    "lzma": with_size(lzma.compress(VMLINUX, lzma.FORMAT_ALONE)),
    "lz4": with_size(LZ4),
    "zstd": with_size(zstd_raw(VMLINUX)),
}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
def test_the_payload_is_found_and_decompressed(payload: bytes) -> None:
    assert extract_vmlinux(make_bzimage(payload)) == VMLINUX


def test_a_setup_size_of_zero_means_four_sectors() -> None:
    image = bytearray(make_bzimage(PAYLOADS["xz"], setup_sectors=4))
    image[0x1F1] = 0

    assert extract_vmlinux(bytes(image)) == VMLINUX


def test_an_elf_kernel_is_taken_as_it_is() -> None:
    assert extract_vmlinux(VMLINUX) == VMLINUX


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"MZ" + bytes(5000), "neither a bzImage nor an ELF"),
        (b"", "neither a bzImage nor an ELF"),
        (make_bzimage(PAYLOADS["xz"], protocol=0x207), "older than 2.08"),
        (make_bzimage(PAYLOADS["xz"])[:-400], "cut short"),
        (make_bzimage(with_size(b"no compression at all")), "unknown way"),
        (make_bzimage(with_size(lzma.compress(b"not an ELF file"), 15)), "not the ELF file"),
        (make_bzimage(with_size(lzma.compress(VMLINUX), len(VMLINUX) - 1)), "not the ELF file|cannot be"),
        (make_bzimage(with_size(lzma.compress(VMLINUX), len(VMLINUX) + 1)), "not the ELF file"),
        (make_bzimage(with_size(lzma.compress(VMLINUX), VMLINUX_MAX_BYTES + 1)), "cannot be"),
        (make_bzimage(with_size(gzip.compress(VMLINUX), 0)), "cannot be"),
        (make_bzimage(with_size(lzma.compress(VMLINUX)[:-40])), "cannot be decompressed|not the ELF file"),
    ],
)
def test_what_cannot_be_a_kernel_is_refused(image: bytes, message: str) -> None:
    with pytest.raises(HostError, match=message):
        extract_vmlinux(image)


@given(st.sampled_from(sorted(PAYLOADS)), st.data())
def test_a_damaged_payload_gives_an_error_or_a_whole_file(kind: str, data: st.DataObject) -> None:
    payload = bytearray(PAYLOADS[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        # The last four bytes are the size; a huge one would only make the test slow.
        payload[data.draw(st.integers(0, len(payload) - 5))] = data.draw(st.integers(0, 255))
    try:
        vmlinux = extract_vmlinux(make_bzimage(bytes(payload)))
    except HostError:
        return
    assert len(vmlinux) == len(VMLINUX)
    assert vmlinux.startswith(b"\x7fELF")
