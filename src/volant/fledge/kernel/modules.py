"""Which kernel modules the guest's boot needs, and the order that loads them."""

from __future__ import annotations

import lzma
import struct
from collections.abc import Callable, Collection, Mapping

from volant.core.errors import HostError

# virtio_ring stands first because virtio uses it without saying so in every kernel version.
ALWAYS = (
    "virtio_ring", "virtio", "virtio_mmio", "virtio_pci", "virtio_console", "virtio_blk", "virtio_net", "virtio_rng",
    "af_packet", "crc32c_generic", "libcrc32c", "ext4", "overlay", "virtio_balloon", "vmw_vsock_virtio_transport",
)  # fmt: skip
"""In the order in which the guest wants them: the bus, the channel, the root disk, the rest."""

OPTIONAL = frozenset(
    {"virtio_mmio", "virtio_rng", "af_packet", "crc32c_generic", "libcrc32c", "virtio_balloon", "vmw_vsock_virtio_transport"}
)
"""What some kernels do without, or have under another name."""

MODULE_MAX_BYTES = 64 * 1024 * 1024


def normalise_name(file_name: str) -> str:
    """``kernel/drivers/char/hw_random/virtio-rng.ko.xz`` is the module ``virtio_rng``."""
    return file_name.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def wanted_modules(filesystem: str) -> tuple[str, ...]:
    """The modules for a root file system of that type."""
    return ALWAYS if filesystem in ALWAYS else (*ALWAYS, filesystem)


def order_modules(
    wanted: Collection[str],
    *,
    available: Collection[str],
    builtin: Collection[str],
    depends: Callable[[str], Collection[str]],
) -> tuple[str, ...]:
    """``wanted`` and all they need, each after what it needs; what the kernel has built in is left out.

    Raises:
        HostError: a module is neither there nor built in, or modules need each other in a circle.
    """
    ordered: dict[str, None] = {}
    visiting: list[str] = []

    def visit(name: str) -> None:
        if name in ordered or name in builtin:
            return
        if name in visiting:
            raise HostError(f"the kernel's modules need each other in a circle: {' -> '.join([*visiting, name])}")
        if name not in available:
            if name in OPTIONAL and not visiting:
                return
            needed_by = f", which {visiting[-1]} needs" if visiting else ""
            raise HostError(
                f"the kernel has no module {name}{needed_by}", hint="choose a kernel package that has it with [kernel] package"
            )
        visiting.append(name)
        for other in depends(name):
            visit(other)
        visiting.pop()
        ordered[name] = None

    for name in wanted:
        visit(name)
    return tuple(ordered)


def read_module(content: bytes, file_name: str) -> bytes:
    """The module itself, decompressed when its name ends in ``.xz``. Raises HostError."""
    if not file_name.endswith(".xz"):
        return content
    try:
        module = lzma.LZMADecompressor().decompress(content, MODULE_MAX_BYTES)
    except lzma.LZMAError as error:
        raise HostError(f"{file_name} cannot be decompressed: {error}") from error
    return module


def read_depends(module: bytes) -> tuple[str, ...]:
    """The names that the module's ``.modinfo`` section gives under ``depends``, as modprobe would load them.

    Raises:
        HostError: it is no 64-bit little-endian ELF file with that section.
    """
    for word in _read_section(module, b".modinfo").split(b"\0"):
        key, _, value = word.partition(b"=")
        if key == b"depends":
            return tuple(normalise_name(name) for name in value.decode("ascii", "replace").split(",") if name)
    return ()


def _read_section(module: bytes, wanted: bytes) -> bytes:
    try:
        if module[:6] != b"\x7fELF\x02\x01":
            raise HostError("a kernel module is no 64-bit ELF file")
        (table,) = struct.unpack_from("<Q", module, 0x28)
        size, count, names_index = struct.unpack_from("<HHH", module, 0x3A)

        def section(index: int) -> tuple[int, int, int]:
            name, _, _, _, offset, length = struct.unpack_from("<IIQQQQ", module, table + index * size)
            return name, offset, length

        _, names_offset, _ = section(names_index)
        for index in range(count):
            name, offset, length = section(index)
            begin = names_offset + name
            if module[begin : begin + len(wanted) + 1] == wanted + b"\0":
                return module[offset : offset + length]
    except struct.error as error:
        raise HostError("a kernel module is cut short") from error
    raise HostError("a kernel module has no .modinfo section")


def builtin_modules(listing: str) -> frozenset[str]:
    """The names in a ``modules.builtin`` file."""
    return frozenset(normalise_name(line) for line in listing.splitlines() if line)


def index_modules(files: Mapping[str, bytes]) -> dict[str, str]:
    """Module name to file name. Of two files of one name the first in the alphabet counts, whatever order they came in."""
    return {normalise_name(name): name for name in sorted(files, reverse=True)}
