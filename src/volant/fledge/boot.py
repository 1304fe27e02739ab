"""The two files that bring a guest up to kestrel: the uncompressed kernel and the boot initramfs.

Both depend on the kernel package, kestrel and the root's file system type alone, so builds share them.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from volant.core.errors import HostError
from volant.fledge.bzimage import extract_vmlinux
from volant.fledge.cache import Cache, Workspace, derive_key
from volant.fledge.content import FileRecord, record_file
from volant.fledge.cpio import CpioWriter
from volant.fledge.kernel import KernelPackage, open_kernel
from volant.fledge.modules import builtin_modules, index_modules, order_modules, read_depends, read_module, wanted_modules
from volant.fledge.progress import Progress
from volant.native import find_native
from volant.run import spawn

FORMAT = 1
"""Goes up when the same inputs give other files."""

RECORD = "record.json"
MODULES_LIST = "etc/kestrel/modules"
KERNEL_FILE_MAX_BYTES = 256 * 1024 * 1024

# Debian's packages have these with and without /usr in front.
_KERNEL = re.compile(r"\./boot/vmlinuz-(?P<release>[^/]+)")
_MODULE = re.compile(r"\./(?:usr/)?lib/modules/(?P<release>[^/]+)/(?P<file>modules\.builtin|kernel/.*\.ko(?:\.xz)?)")


class BootRecord(msgspec.Struct, frozen=True):
    kernel: KernelPackage
    kernel_release: str
    kestrel_sha256: str
    modules: tuple[str, ...]
    vmlinux: FileRecord
    initramfs: FileRecord


class BootFiles(msgspec.Struct, frozen=True):
    record: BootRecord
    vmlinux: Path
    initramfs: Path


class _KernelFiles(msgspec.Struct):
    release: str
    image: bytes
    modules: dict[str, bytes]
    builtin: str


@asynccontextmanager
async def open_boot_files(
    cache: Cache, *, package: str, deb: Path | None, filesystem: str, progress: Progress
) -> AsyncIterator[BootFiles]:
    """``vmlinux`` and ``boot.cpio`` in the cache, made when they are not there.

    Raises:
        Unavailable: kestrel is not built. HostError: the package has no kernel that could boot a guest.
    """
    kestrel = find_native("kestrel")
    kestrel_content = await asyncio.to_thread(kestrel.read_bytes)
    kestrel_sha256 = (await asyncio.to_thread(record_file, kestrel)).sha256
    async with open_kernel(cache, package, deb, progress) as (kernel, kernel_deb):

        async def make(target: Path, workspace: Workspace) -> None:
            with progress.step(f"Making vmlinux and boot.cpio from {kernel.name} {kernel.version}"):
                await asyncio.to_thread(_make, kernel, kernel_deb, kestrel_content, kestrel_sha256, filesystem, target)

        key = derive_key("boot", FORMAT, kernel.sha256, kestrel_sha256, wanted_modules(filesystem))
        async with cache.entry("boot", key, make) as entry:
            record = msgspec.json.decode((entry / RECORD).read_bytes(), type=BootRecord)
            yield BootFiles(record, entry / "vmlinux", entry / "boot.cpio")


def _make(kernel: KernelPackage, deb: Path, kestrel: bytes, kestrel_sha256: str, filesystem: str, target: Path) -> None:
    files = _read_package(deb)
    (target / "vmlinux").write_bytes(extract_vmlinux(files.image))
    names = index_modules(files.modules)
    modules = {name: read_module(files.modules[file], file) for name, file in names.items()}
    ordered = order_modules(
        wanted_modules(filesystem),
        available=modules.keys(),
        builtin=builtin_modules(files.builtin),
        depends=lambda name: read_depends(modules[name]),
    )
    paths = {name: f"lib/modules/{files.release}/{names[name].removesuffix('.xz')}" for name in ordered}
    with (target / "boot.cpio").open("wb") as stream:
        archive = CpioWriter(stream)
        for directory in ("dev", "etc", "etc/kestrel", "mnt", "proc", "run", "sys", "tmp"):
            archive.add_directory(directory)
        # Without this node the kernel starts /init with nothing on its descriptors 0 to 2.
        archive.add_character_device("dev/console", 5, 1)
        archive.add_file("init", kestrel, 0o755)
        archive.add_file(MODULES_LIST, "".join(f"/{paths[name]}\n" for name in ordered).encode())
        made: set[str] = set()
        for name in ordered:
            parents = paths[name].split("/")[:-1]
            for depth in range(1, len(parents) + 1):
                directory = "/".join(parents[:depth])
                if directory not in made:
                    archive.add_directory(directory)
                    made.add(directory)
            archive.add_file(paths[name], modules[name])
        archive.finish()
    record = BootRecord(
        kernel=kernel,
        kernel_release=files.release,
        kestrel_sha256=kestrel_sha256,
        modules=ordered,
        vmlinux=record_file(target / "vmlinux"),
        initramfs=record_file(target / "boot.cpio"),
    )
    (target / RECORD).write_bytes(msgspec.json.encode(record))


def _read_package(deb: Path) -> _KernelFiles:
    """The kernel and its modules, read from the package's stream; nothing is unpacked to disk."""
    process = spawn(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE)
    assert process.stdout is not None
    found = _KernelFiles("", b"", {}, "")
    try:
        with process.stdout as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                _take_member(archive, member, found)
            while stream.read(1 << 16):
                pass
    except tarfile.TarError as error:
        raise HostError(f"{deb.name} cannot be read: {error}") from error
    finally:
        # Its pipe is closed by now, so that a dpkg-deb that still writes ends too.
        process.wait()
    if process.returncode != 0:
        raise HostError(f"{deb.name} is no whole Debian package: dpkg-deb failed with status {process.returncode}")
    if not found.image:
        raise HostError(f"{deb.name} has no /boot/vmlinuz-*", hint="a kernel's own package is needed, not one that depends on it")
    return found


def _take_member(archive: tarfile.TarFile, member: tarfile.TarInfo, found: _KernelFiles) -> None:
    kernel, module = _KERNEL.fullmatch(member.name), _MODULE.fullmatch(member.name)
    if not member.isfile() or not (kernel or module):
        return
    if member.size > KERNEL_FILE_MAX_BYTES:
        raise HostError(f"{member.name} is larger than {KERNEL_FILE_MAX_BYTES} bytes")
    reader = archive.extractfile(member)
    assert reader is not None
    content = reader.read()
    if kernel:
        found.image = content
        found.release = kernel["release"]
    elif module and module["file"] == "modules.builtin":
        found.builtin = content.decode("utf-8", "replace")
    elif module:
        found.modules[module["file"]] = content
