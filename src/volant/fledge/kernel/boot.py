"""The two files that bring a guest up to kestrel: the uncompressed kernel and the boot initramfs.

Both depend on the kernel, kestrel and the root's file system type alone, so builds share them. Debian's kernel brings modules
along in the initramfs; the minimal one has everything built in.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import tarfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import msgspec

from volant.core.errors import HostError
from volant.fledge.cache import Cache, Workspace, derive_key
from volant.fledge.content import FileRecord, record_file
from volant.fledge.debian.apt import Package
from volant.fledge.initramfs.cpio import CpioWriter
from volant.fledge.kernel.bzimage import extract_vmlinux
from volant.fledge.kernel.minimal import VMLINUX, MinimalRecord, label_minimal, open_minimal
from volant.fledge.kernel.modules import builtin_modules, index_modules, order_modules, read_depends, read_module, wanted_modules
from volant.fledge.kernel.package import label_kernel, open_kernel
from volant.fledge.progress import Progress
from volant.run import spawn

FORMAT = 2
"""Goes up when the same inputs give other files."""

RECORD = "record.json"
INITRAMFS = "boot.cpio"
MODULES_LIST = "etc/kestrel/modules"
KERNEL_FILE_MAX_BYTES = 256 * 1024 * 1024

# Debian's packages have these with and without /usr in front.
_KERNEL = re.compile(r"\./boot/vmlinuz-(?P<release>[^/]+)")
_MODULE = re.compile(r"\./(?:usr/)?lib/modules/(?P<release>[^/]+)/(?P<file>modules\.builtin|kernel/.*\.ko(?:\.xz)?)")


class BootRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """``kernel`` is the package with the kernel or with its source; ``label`` says to a person which kernel that is.

    ``options_sha256`` and ``tools`` are there when it was compiled here.
    """

    label: str
    kernel: Package
    kernel_release: str
    kestrel_sha256: str
    modules: tuple[str, ...]
    vmlinux: FileRecord
    initramfs: FileRecord
    options_sha256: str = ""
    tools: dict[str, str] = {}


class BootFiles(msgspec.Struct, frozen=True):
    record: BootRecord
    vmlinux: Path
    initramfs: Path


KernelSource = Literal["debian", "minimal"]


class KernelChoice(msgspec.Struct, frozen=True, kw_only=True):
    """``package`` names one of the distribution's, ``deb`` a package file: of a kernel, or of the source for a minimal one."""

    source: KernelSource = "debian"
    package: str = ""
    deb: Path | None = None
    jobs: int = 1


class _Kestrel(msgspec.Struct, frozen=True):
    content: bytes
    sha256: str


class _KernelFiles(msgspec.Struct):
    release: str
    image: bytes
    modules: dict[str, bytes]
    builtin: str


@asynccontextmanager
async def open_boot_files(
    cache: Cache, choice: KernelChoice, *, filesystem: str, progress: Progress, kestrel: Path
) -> AsyncIterator[BootFiles]:
    """``vmlinux`` and ``boot.cpio`` in the cache, made when they are not there; ``kestrel`` is the guest's first program.

    Raises:
        Unavailable: nothing here compiles. HostError: the package has no kernel that could boot a guest.
    """
    agent = _Kestrel(await asyncio.to_thread(kestrel.read_bytes), (await asyncio.to_thread(record_file, kestrel)).sha256)
    if choice.source == "minimal":
        opened = _open_minimal(cache, choice, agent, progress)
    else:
        opened = _open_distribution(cache, choice, agent, filesystem, progress)
    async with opened as files:
        yield files


@asynccontextmanager
async def _open_distribution(
    cache: Cache, choice: KernelChoice, kestrel: _Kestrel, filesystem: str, progress: Progress
) -> AsyncIterator[BootFiles]:
    async with open_kernel(cache, choice.package, choice.deb, progress) as (kernel, kernel_deb):

        async def make(target: Path, workspace: Workspace) -> None:
            with progress.step(f"Making vmlinux and boot.cpio from {kernel.name} {kernel.version}"):
                await asyncio.to_thread(_make, kernel, kernel_deb, kestrel, filesystem, target)

        key = derive_key("boot", FORMAT, kernel.sha256, kestrel.sha256, wanted_modules(filesystem))
        async with cache.entry("boot", key, make) as entry:
            yield BootFiles(_read_record(entry), entry / VMLINUX, entry / INITRAMFS)


@asynccontextmanager
async def _open_minimal(cache: Cache, choice: KernelChoice, kestrel: _Kestrel, progress: Progress) -> AsyncIterator[BootFiles]:
    async with open_minimal(cache, choice.deb, progress, choice.jobs) as kernel:
        made = kernel.record

        async def make(target: Path, workspace: Workspace) -> None:
            await asyncio.to_thread(_make_minimal, made, kestrel, target)

        async with cache.entry("boot", derive_key("boot", FORMAT, "minimal", made, kestrel.sha256), make) as entry:
            yield BootFiles(_read_record(entry), kernel.vmlinux, entry / INITRAMFS)


def _make_minimal(made: MinimalRecord, kestrel: _Kestrel, target: Path) -> None:
    _write_initramfs(target / INITRAMFS, kestrel, {})
    record = BootRecord(
        label=label_minimal(made),
        kernel=made.source,
        kernel_release=made.release,
        kestrel_sha256=kestrel.sha256,
        modules=(),
        vmlinux=made.vmlinux,
        initramfs=record_file(target / INITRAMFS),
        options_sha256=made.options_sha256,
        tools={"gcc": made.toolchain.compiler, "ld": made.toolchain.linker},
    )
    (target / RECORD).write_bytes(msgspec.json.encode(record))


def _read_record(entry: Path) -> BootRecord:
    return msgspec.json.decode((entry / RECORD).read_bytes(), type=BootRecord)


def _make(kernel: Package, deb: Path, kestrel: _Kestrel, filesystem: str, target: Path) -> None:
    files = _read_package(deb)
    (target / VMLINUX).write_bytes(extract_vmlinux(files.image))
    names = index_modules(files.modules)
    modules = {name: read_module(files.modules[file], file) for name, file in names.items()}
    ordered = order_modules(
        wanted_modules(filesystem),
        available=modules.keys(),
        builtin=builtin_modules(files.builtin),
        depends=lambda name: read_depends(modules[name]),
    )
    paths = {name: f"lib/modules/{files.release}/{names[name].removesuffix('.xz')}" for name in ordered}
    _write_initramfs(target / INITRAMFS, kestrel, {paths[name]: modules[name] for name in ordered})
    record = BootRecord(
        label=label_kernel(kernel),
        kernel=kernel,
        kernel_release=files.release,
        kestrel_sha256=kestrel.sha256,
        modules=ordered,
        vmlinux=record_file(target / VMLINUX),
        initramfs=record_file(target / INITRAMFS),
    )
    (target / RECORD).write_bytes(msgspec.json.encode(record))


def _write_initramfs(target: Path, kestrel: _Kestrel, modules: Mapping[str, bytes]) -> None:
    """kestrel, and ``modules`` by their paths, in the order that loads them; without any there is no list of them either."""
    with target.open("wb") as stream:
        archive = CpioWriter(stream)
        for directory in ("dev", "etc", "etc/kestrel", "mnt", "proc", "run", "sys", "tmp"):
            archive.add_directory(directory)
        # Without this node the kernel starts /init with nothing on its descriptors 0 to 2.
        archive.add_character_device("dev/console", 5, 1)
        archive.add_file("init", kestrel.content, 0o755)
        if modules:
            archive.add_file(MODULES_LIST, "".join(f"/{path}\n" for path in modules).encode())
        made: set[str] = set()
        for path, content in modules.items():
            parents = path.split("/")[:-1]
            for depth in range(1, len(parents) + 1):
                directory = "/".join(parents[:depth])
                if directory not in made:
                    archive.add_directory(directory)
                    made.add(directory)
            archive.add_file(path, content)
        archive.finish()


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
