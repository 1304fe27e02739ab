"""Kernels and modules made by hand, and a Debian package of them."""

from __future__ import annotations

import gzip
import struct
import subprocess
from pathlib import Path

VMLINUX = b"\x7fELF" + bytes(range(256)) * 40
RELEASE = "6.1.0-0-test"


def make_bzimage(payload: bytes, *, setup_sectors: int = 3, protocol: int = 0x20F, offset: int = 100) -> bytes:
    """A boot sector and setup code of ``setup_sectors`` sectors, and the payload at ``offset`` of the protected-mode code."""
    image = bytearray(512 * (setup_sectors + 1))
    image[0x1F1] = setup_sectors
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x206, protocol)
    struct.pack_into("<II", image, 0x248, offset, len(payload))
    return bytes(image) + bytes(offset) + payload + b"what follows"


def make_module(modinfo: bytes) -> bytes:
    """A 64-bit ELF file with the sections "", .modinfo and .shstrtab, and nothing else."""
    names = b"\0.modinfo\0.shstrtab\0"
    modinfo_at, names_at = 64, 64 + len(modinfo)
    table_at = names_at + len(names)

    def section(name: int, kind: int, offset: int, size: int) -> bytes:
        return struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, offset, size, 0, 0, 1, 0)

    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, table_at, 0, 64, 0, 0, 64, 3, 2)
    sections = section(0, 0, 0, 0) + section(1, 1, modinfo_at, len(modinfo)) + section(10, 3, names_at, len(names))
    return head + modinfo + names + sections


def make_kernel_package(directory: Path, deb: Path) -> None:
    """A package laid out like Debian's kernel, with every module that an erofs guest needs, either built in or as a file."""
    modules = directory / "lib/modules" / RELEASE / "kernel"
    for place in (directory / "boot", directory / "DEBIAN", modules / "drivers"):
        place.mkdir(parents=True)
    (directory / "DEBIAN/control").write_text(
        "Package: linux-image-test\nVersion: 1.0-1\nArchitecture: all\nMaintainer: nobody <n@example.org>\nDescription: test\n"
    )
    (directory / f"boot/vmlinuz-{RELEASE}").write_bytes(make_bzimage(gzip.compress(VMLINUX, mtime=0)))
    depends = {
        "virtio_ring": "",
        "virtio": "virtio_ring",
        "virtio-rng": "virtio",
        "libcrc32c": "",
        "erofs": "libcrc32c",
        "unused": "",
    }
    for name, needs in depends.items():
        (modules / f"drivers/{name}.ko").write_bytes(make_module(f"depends={needs}\0name={name}\0".encode()))
    builtin = ("virtio_mmio", "virtio_pci", "virtio_console", "virtio_blk", "virtio_net", "ext4", "overlay", "squashfs")
    (modules.parent / "modules.builtin").write_text("".join(f"kernel/drivers/{name}.ko\n" for name in builtin))
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-b", directory, deb], check=True, capture_output=True)
