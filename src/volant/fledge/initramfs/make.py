"""A whole guest in one initramfs: a tree, kestrel or another first program, kernel modules, and busybox to fill the gaps.

Memory is its disk: the kernel unpacks everything into a file system of its own that takes at most half of the memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gzip
import hashlib
import lzma
import math
import platform
import stat
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Literal, cast

import msgspec

from volant.core.errors import DiskFull, HostError, InvalidInput
from volant.fledge.content import CHUNK, FileRecord, record_file
from volant.fledge.initramfs.busybox import Busybox, BusyboxRecord, place_applets, read_applets
from volant.fledge.initramfs.cpio import read_archive
from volant.fledge.initramfs.interpreter import read_interpreter
from volant.fledge.initramfs.plan import PAGE_BYTES, Plan, read_content
from volant.fledge.kernel.boot import MODULES_LIST
from volant.fledge.kernel.modules import normalise_name, order_modules, read_depends

FORMAT = 2
"""Goes up when the same inputs give another file."""

BOOT_FILESYSTEM = "ext4"
"""The kind of boot initramfs that has all modules to choose from."""

InitMode = Literal["kestrel", "custom", "none"]
Compression = Literal["none", "gzip", "zstd", "xz"]

MODULES = (
    "virtio_ring", "virtio", "virtio_mmio", "virtio_pci", "virtio_console", "virtio_net", "virtio_rng", "af_packet",
    "virtio_balloon", "vmw_vsock_virtio_transport",
)  # fmt: skip
"""What a guest without disks needs, where the kernel has it as modules."""

DIRECTORIES = {
    "bin": 0o755, "dev": 0o755, "etc": 0o755, "proc": 0o755, "run": 0o755, "sbin": 0o755, "sys": 0o755, "tmp": 0o1777,
    "usr/bin": 0o755, "usr/lib": 0o755, "usr/sbin": 0o755, "var/log": 0o755,
}  # fmt: skip

INIT = "init"
KESTREL = "bin/kestrel"
INIT_MAX_BYTES = 256 * 1024 * 1024

MIB = 1024 * 1024
KERNEL_MB = 43
PAGE_TABLE_SHARE = 64 / 63
"""Measured of Debian's cloud kernel: what it takes itself, and of each page of memory the 64 bytes by which it keeps account."""

GZIP_LEVEL = 9
ZSTD_LEVEL = 15
XZ_PRESET = 6


class InitramfsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``init``: kestrel is the guest's first program; or the file ``init_file`` is, with kestrel at /bin/kestrel for it to go on
    with; or the tree brings its own. All files get the time ``epoch_s``, seconds since 1970."""

    init: InitMode = "kestrel"
    init_file: Path | None = None
    compression: Compression = "none"
    epoch_s: int


class InitramfsRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What went in and what came out. ``unpacked_bytes`` is what the files take of the guest's memory.

    ``lost_attributes`` are paths whose capabilities, access control lists or other attributes an initramfs cannot hold.
    """

    init: InitMode
    initramfs: FileRecord
    compression: Compression
    compressor: str = ""
    entries: int
    unpacked_bytes: int
    modules: tuple[str, ...] = ()
    kestrel_sha256: str = ""
    busybox: BusyboxRecord | None = None
    lost_attributes: tuple[str, ...] = ()


def least_memory_mb(record: InitramfsRecord) -> int:
    """MiB of memory below which the kernel cannot unpack it, and starts what it has unpacked by then, without a word.

    Its file system may take half of what the archive and the kernel leave, in bytes and, a page for each, in entries.
    """
    files = max(record.unpacked_bytes, record.entries * PAGE_BYTES)
    taken_mb = KERNEL_MB + (record.initramfs.size + 2 * files) / MIB
    return math.ceil(taken_mb * PAGE_TABLE_SHARE)


class _Boot(msgspec.Struct, frozen=True):
    kestrel: bytes
    modules: dict[str, bytes]


async def make_initramfs(
    request: InitramfsRequest, tree: Path, target: Path, *, boot: Path, busybox: Busybox | None
) -> InitramfsRecord:
    """Write ``tree`` as the initramfs ``target``, with what a guest needs beside it: the same inputs give the same bytes.

    ``boot`` is the ``boot.cpio`` of the guest's kernel: kestrel and the modules come from there. busybox is laid only where the
    tree has nothing, and not at all in a tree that has a ``bin/busybox``.

    Raises:
        InvalidInput: the first program is missing or cannot be started, or the tree holds what an initramfs cannot.
        DiskFull, HostError: the archive cannot be written.
    """
    return await asyncio.to_thread(_make, request, tree, target, boot, busybox)


def describe_compressor(compression: Compression) -> str:
    """What decides, beside the input, how the compressed bytes come out; for keys and records."""
    if compression == "gzip":
        return f"zlib {zlib.ZLIB_RUNTIME_VERSION} level {GZIP_LEVEL}"
    if compression == "zstd":
        import zstandard

        return f"zstd {'.'.join(map(str, zstandard.ZSTD_VERSION))} level {ZSTD_LEVEL}"
    return f"liblzma preset {XZ_PRESET}" if compression == "xz" else ""


def _make(request: InitramfsRequest, tree: Path, target: Path, boot_path: Path, busybox: Busybox | None) -> InitramfsRecord:
    boot = _read_boot(boot_path.read_bytes())
    modules = select_modules(boot.modules)
    plan = Plan()
    plan.add_tree(tree)
    for path, mode in DIRECTORIES.items():
        plan.put_directory(path, mode)
    # Without this node the kernel starts the first program with nothing on its descriptors 0 to 2.
    plan.put_character_device("dev/console", 5, 1, 0o600)
    if not plan.has("dev/null"):
        plan.put_character_device("dev/null", 1, 3, 0o666)
    used = busybox if busybox is not None and _lay_busybox(plan, busybox) else None
    _lay_modules(plan, modules)
    _lay_init(plan, request, boot.kestrel)
    try:
        with target.open("xb") as stream, _compress(request.compression, stream) as writer:
            plan.write(writer, time_s=request.epoch_s)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFull(f"there is no room for {target.name}", hint="move the cache with --cache-dir") from error
        raise
    return InitramfsRecord(
        init=request.init,
        initramfs=record_file(target),
        compression=request.compression,
        compressor=describe_compressor(request.compression),
        entries=len(plan),
        unpacked_bytes=plan.unpacked_bytes,
        modules=tuple(normalise_name(path) for path in modules),
        kestrel_sha256="" if request.init == "none" else hashlib.sha256(boot.kestrel).hexdigest(),
        busybox=None if used is None else used.record,
        lost_attributes=tuple(sorted(path.decode("utf-8", "backslashreplace") for path in plan.lost_attributes)),
    )


def _read_boot(content: bytes) -> _Boot:
    """kestrel, and the modules by their paths, in the order that loads them."""
    try:
        files = {entry.path.decode(): entry.content for entry in read_archive(content) if stat.S_ISREG(entry.mode)}
        listed = [line.strip("/") for line in files.get(MODULES_LIST, b"").decode().splitlines()]
        return _Boot(files[INIT], {path: files[path] for path in listed})
    except (InvalidInput, KeyError, UnicodeDecodeError) as error:
        raise HostError(f"the kernel's boot initramfs is not whole: {error}", hint="build with --no-cache") from error


def select_modules(available: Mapping[str, bytes]) -> dict[str, bytes]:
    """Those of a boot initramfs that a guest without disks needs, by their paths, each after what it needs itself.

    A module that is not there is built into the kernel: the boot initramfs is complete.
    """
    paths = {normalise_name(path): path for path in available}
    depends = {name: read_depends(available[path]) for name, path in paths.items()}
    needed = {*MODULES, *(other for others in depends.values() for other in others)}
    ordered = order_modules(MODULES, available=paths, builtin=needed - paths.keys(), depends=lambda name: depends[name])
    return {paths[name]: available[paths[name]] for name in ordered}


def _lay_modules(plan: Plan, modules: Mapping[str, bytes]) -> None:
    for path, content in modules.items():
        plan.put_file(path, content)
    if modules:
        plan.put_file(MODULES_LIST, "".join(f"/{path}\n" for path in modules).encode())


def _lay_busybox(plan: Plan, busybox: Busybox) -> bool:
    if plan.has("bin/busybox"):
        return False
    content = busybox.path.read_bytes()
    plan.put_file("bin/busybox", content, 0o755)
    for path in place_applets(read_applets(content)):
        # Where /bin is a link to /usr/bin, two places are one.
        if not plan.has(path) and not plan.has(f"bin/{path.rpartition('/')[2]}"):
            plan.put_link(path, "/bin/busybox")
    return True


def _lay_init(plan: Plan, request: InitramfsRequest, kestrel: bytes) -> None:
    machine = platform.machine()
    if request.init == "none":
        node = plan.find(INIT)
        if node is None or not stat.S_ISREG(node.mode) or not node.mode & 0o111:
            what = "there is no /init" if node is None else "/init is no file that can be run"
            raise InvalidInput(
                f"{what}, and [init] none = true leaves that to the content", field="init.none", hint='map one: "init" = "/init"'
            )
        _check_interpreter(plan, read_content(node, CHUNK), "/init", machine)
        return
    if plan.has(INIT):
        raise InvalidInput(
            "the content brings an /init of its own", field="init", hint="[init] none = true has it run, or remove it"
        )
    if request.init == "kestrel":
        plan.put_file(INIT, kestrel, 0o755)
        return
    if request.init_file is None:
        raise InvalidInput("a custom init is a file", field="init.path", hint='[init] path = "init.sh"')
    content = _read_init(request.init_file)
    plan.put_file(KESTREL, kestrel, 0o755)
    plan.put_file(INIT, content, 0o755)
    _check_interpreter(plan, content, request.init_file.name, machine)


def _read_init(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            content = stream.read(INIT_MAX_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", field="init.path") from error
    if len(content) > INIT_MAX_BYTES:
        raise InvalidInput(f"{path} is larger than {INIT_MAX_BYTES} bytes", field="init.path")
    return content


def _check_interpreter(plan: Plan, program: bytes, what: str, machine: str) -> None:
    """A first program that cannot be started is a kernel panic, which says nothing of the reason."""
    interpreter = read_interpreter(program, what, machine=machine)
    if interpreter and plan.find(interpreter) is None:
        raise InvalidInput(
            f"{what} is started by {interpreter}, which the guest does not have", field="init",
            hint="add it to the content, leave busybox in, or link the program statically",
        )  # fmt: skip


@contextlib.contextmanager
def _compress(compression: Compression, stream: BinaryIO) -> Iterator[BinaryIO]:
    """Formats as the kernel unpacks them (lib/decompress_*.c): xz with CRC32 and no other check."""
    if compression == "gzip":
        with gzip.GzipFile("", "wb", GZIP_LEVEL, stream, mtime=0) as zipped:
            yield cast("BinaryIO", zipped)
    elif compression == "xz":
        with lzma.LZMAFile(stream, "wb", check=lzma.CHECK_CRC32, preset=XZ_PRESET) as packed:
            yield cast("BinaryIO", packed)
    elif compression == "zstd":
        import zstandard

        with zstandard.ZstdCompressor(level=ZSTD_LEVEL).stream_writer(stream, closefd=False) as writer:
            yield cast("BinaryIO", writer)
    else:
        yield stream
