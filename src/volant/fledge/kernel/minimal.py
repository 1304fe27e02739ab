"""The minimal guest kernel: Debian's source, compiled with the configuration in ``minimal.config``."""

from __future__ import annotations

import asyncio
import datetime
import os
import platform
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from volant.core.errors import CommandFailed, DiskFull, HostError, Unavailable
from volant.fledge.cache import Cache, Workspace, derive_key
from volant.fledge.content import FileRecord, record_file
from volant.fledge.debian.apt import Package, open_package, read_package
from volant.fledge.kernel.kconfig import MINIMAL_CONFIG, Options, check_configuration, digest_options, read_options, write_options
from volant.fledge.kernel.toolchain import Toolchain, find_toolchain
from volant.fledge.progress import Progress
from volant.run import run

FORMAT = 1
"""Goes up when the same inputs give another kernel."""

SOURCE_PACKAGE = "linux-source-6.1"
ARCHITECTURES = ("x86_64",)

VMLINUX = "vmlinux"
CONFIGURATION = "kernel.config"
RECORD = "record.json"

UNPACK_TIMEOUT_S = 1800.0
CONFIGURE_TIMEOUT_S = 600.0
COMPILE_TIMEOUT_S = 4 * 3600.0
LABEL_DIGITS = 12


class MinimalRecord(msgspec.Struct, frozen=True):
    """What a minimal kernel was made from, and what came out."""

    source: Package
    options_sha256: str
    toolchain: Toolchain
    release: str
    """What ``uname -r`` prints."""
    vmlinux: FileRecord
    configuration: FileRecord


class MinimalKernel(msgspec.Struct, frozen=True):
    record: MinimalRecord
    vmlinux: Path
    configuration: Path


def label_minimal(record: MinimalRecord) -> str:
    """How a person is told which kernel it is: ``minimal 6.1.192-2 0123456789ab``."""
    return f"minimal {record.source.version} {record.options_sha256[:LABEL_DIGITS]}"


def derive_minimal_key(source: Package, options: Options, toolchain: Toolchain) -> str:
    """The same source, options, compiler and linker give the same kernel."""
    return derive_key("minimal", FORMAT, source.sha256, digest_options(options), toolchain)


@asynccontextmanager
async def open_minimal(cache: Cache, deb: Path | None, progress: Progress, jobs: int) -> AsyncIterator[MinimalKernel]:
    """The minimal kernel in the cache, compiled when it is not there; ``deb`` names a source package to use.

    Raises:
        Unavailable: there is no configuration for this machine, or no compiler. HostError: it does not compile.
    """
    if platform.machine() not in ARCHITECTURES:
        raise Unavailable(
            f"the minimal kernel has no configuration for {platform.machine()}", hint='use Debian\'s: [kernel] source = "debian"'
        )
    options = read_options(await asyncio.to_thread(MINIMAL_CONFIG.read_text))
    toolchain = await find_toolchain()
    async with _open_source(cache, deb, progress) as (source, source_deb):

        async def make(target: Path, workspace: Workspace) -> None:
            await _make(source, source_deb, options, toolchain, jobs, target, workspace, progress)

        async with cache.entry("minimal", derive_minimal_key(source, options, toolchain), make) as entry:
            record = msgspec.json.decode((entry / RECORD).read_bytes(), type=MinimalRecord)
            yield MinimalKernel(record, entry / VMLINUX, entry / CONFIGURATION)


@asynccontextmanager
async def _open_source(cache: Cache, deb: Path | None, progress: Progress) -> AsyncIterator[tuple[Package, Path]]:
    if deb is not None:
        yield await read_package(deb), deb
        return
    async with open_package(
        cache, "sources", SOURCE_PACKAGE, progress,
        choose=lambda _: SOURCE_PACKAGE, hint="give a source package's file with --deb or [kernel] deb",
    ) as opened:  # fmt: skip
        yield opened


async def _make(
    source: Package, deb: Path, options: Options, toolchain: Toolchain, jobs: int, target: Path, workspace: Workspace,
    progress: Progress,
) -> None:  # fmt: skip
    tree = workspace.path / "linux"
    with progress.step(f"Unpacking {source.name} {source.version}"):
        made_s = await _unpack(deb, tree, workspace)
    variables = describe_build(source.version, made_s)
    fragment = workspace.path / "fragment"
    await asyncio.to_thread(fragment.write_text, write_options(options))
    await _run_make(["allnoconfig"], tree, {**variables, "KCONFIG_ALLCONFIG": str(fragment)}, workspace, CONFIGURE_TIMEOUT_S)
    configuration = tree / ".config"
    check_configuration(options, await asyncio.to_thread(configuration.read_text))
    progress.note("Compiling takes some minutes; the kernel is kept for the next time")
    with progress.step(f"Compiling the minimal kernel with make -j{jobs}"):
        await _run_make([f"-j{jobs}", "vmlinux"], tree, variables, workspace, COMPILE_TIMEOUT_S)
    # Direct boot reads the program headers alone; what the kernel prints of its own symbols it carries inside.
    await run(
        ["strip", "--strip-all", "-o", target / VMLINUX, tree / "vmlinux"],
        timeout_s=CONFIGURE_TIMEOUT_S, pass_fds=(workspace.lock_fd,),
    )  # fmt: skip
    await asyncio.to_thread(configuration.rename, target / CONFIGURATION)
    release = await asyncio.to_thread((tree / "include/config/kernel.release").read_text)
    record = MinimalRecord(
        source=source,
        options_sha256=digest_options(options),
        toolchain=toolchain,
        release=release.strip(),
        vmlinux=await asyncio.to_thread(record_file, target / VMLINUX),
        configuration=await asyncio.to_thread(record_file, target / CONFIGURATION),
    )
    (target / RECORD).write_bytes(msgspec.json.encode(record))


async def _unpack(deb: Path, tree: Path, workspace: Workspace) -> int:
    """Unpack the source into ``tree``. Returns when Debian packed it, in seconds since 1970."""
    package = workspace.path / "package"
    try:
        await run(["dpkg-deb", "-x", deb, package], timeout_s=UNPACK_TIMEOUT_S, pass_fds=(workspace.lock_fd,))
        archives = list(package.glob("usr/src/linux-source-*.tar.xz"))
        if len(archives) != 1:
            raise HostError(f"{deb.name} has no /usr/src/linux-source-*.tar.xz", hint=f"it is no package like {SOURCE_PACKAGE}")
        await asyncio.to_thread(tree.mkdir)
        await run(
            ["tar", "-xf", archives[0], "-C", tree, "--strip-components=1", "--no-same-owner"],
            timeout_s=UNPACK_TIMEOUT_S, pass_fds=(workspace.lock_fd,),
        )  # fmt: skip
    except CommandFailed as error:
        raise _explain("the kernel's source cannot be unpacked", error) from error
    made_s = int(archives[0].stat().st_mtime)
    archives[0].unlink()
    return made_s


def describe_build(version: str, made_s: int) -> dict[str, str]:
    """What a kernel says of its own making, which must be the same wherever and whenever that is."""
    made = datetime.datetime.fromtimestamp(made_s, datetime.UTC)
    return {
        "KBUILD_BUILD_USER": "fledge",
        "KBUILD_BUILD_HOST": "volant",
        "KBUILD_BUILD_VERSION": "1",
        "KBUILD_BUILD_TIMESTAMP": made.strftime("%Y-%m-%d %H:%M:%S UTC"),
        # Debian's source has this one too, for what uname -v prints.
        "KBUILD_BUILD_VERSION_TIMESTAMP": f"Debian {version} ({made:%Y-%m-%d})",
        "SOURCE_DATE_EPOCH": str(made_s),
        "TZ": "UTC",
    }


async def _run_make(words: list[str], tree: Path, variables: dict[str, str], workspace: Workspace, timeout_s: float) -> None:
    try:
        await run(["make", "-s", *words], timeout_s=timeout_s, env=variables, cwd=tree, pass_fds=(workspace.lock_fd,))
    except CommandFailed as error:
        raise _explain("the minimal kernel cannot be compiled", error) from error


def _explain(what: str, error: CommandFailed) -> HostError:
    if "No space left" in error.stderr_tail:
        return DiskFull(f"{what}: there is no room, and it takes 2 GB", hint="free some, or move the cache with --cache-dir")
    if error.exit_status in (None, 127):
        return error
    telling = [line for line in error.stderr_tail.splitlines() if "rror" in line] or error.stderr_tail.splitlines()
    return HostError(
        f"{what}: {telling[0].strip() if telling else error}", hint="run it again, and see that the compiler is whole"
    )


def count_jobs() -> int:
    """As many as this process may use cores."""
    return len(os.sched_getaffinity(0))
