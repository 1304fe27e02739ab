"""Debian's kernel package: found through the host's apt, downloaded, kept by its digest, never installed."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from volant.core.errors import ChecksumMismatch, CommandFailed, HostError, InvalidInput, NotFound, Unavailable
from volant.fledge.cache import Cache, Workspace, derive_key
from volant.fledge.content import record_file
from volant.fledge.progress import Progress
from volant.run import run

DEFAULT_PACKAGES = {"x86_64": "linux-image-cloud-amd64"}
APT_TIMEOUT_S = 60.0
DOWNLOAD_TIMEOUT_S = 900.0

# The sandbox user _apt cannot write into a directory that only root may enter.
_APT_GET = ("apt-get", "-q", "-o", "APT::Sandbox::User=root")
_REAL_PACKAGE = re.compile(r"linux-image-\d\S*")
_LISTS = (Path("/var/lib/apt/lists"), Path("/etc/apt"), Path("/etc/apt/sources.list.d"), Path("/etc/apt/preferences.d"))


class KernelPackage(msgspec.Struct, frozen=True):
    """A package file: ``file`` is its name in the archive, ``sha256`` 64 hexadecimal digits."""

    name: str
    version: str
    file: str
    sha256: str


@asynccontextmanager
async def open_kernel(
    cache: Cache, package: str, deb: Path | None, progress: Progress
) -> AsyncIterator[tuple[KernelPackage, Path]]:
    """The kernel package and its file, downloaded when the cache has none of that digest.

    ``deb`` names a file to use instead; ``package`` one to ask apt for, where empty means Debian's cloud kernel.
    """
    if deb is not None:
        yield await _read_deb(deb), deb
        return
    name = package or _default_package()
    kernel = await _resolve(cache, name)
    if kernel is None:
        with progress.step("Reading Debian's package lists (apt-get update)"):
            await _update_lists()
        kernel = await _resolve(cache, name)
    if kernel is None:
        raise NotFound(f"apt knows no package {name}", hint="check /etc/apt/sources.list, or give [kernel] deb a file")
    found = kernel

    async def download(target: Path, workspace: Workspace) -> None:
        with progress.step(f"Downloading {found.name} {found.version}"):
            await _download(found, target)

    try:
        async with cache.entry("kernels", found.sha256, download) as entry:
            yield found, entry / "kernel.deb"
    except _Gone as error:
        # The archive keeps only its newest kernel, and the host's lists are older than it.
        with progress.step("Reading Debian's package lists again (apt-get update)"):
            await _update_lists()
        newest = await _resolve(cache, name)
        if newest is None or newest == found:
            raise HostError(str(error), hint="check the network and /etc/apt/sources.list") from error
        found = newest
        async with cache.entry("kernels", found.sha256, download) as entry:
            yield found, entry / "kernel.deb"


class _Gone(HostError):
    pass


def _default_package() -> str:
    machine = platform.machine()
    if machine not in DEFAULT_PACKAGES:
        raise Unavailable(f"no guest kernel is known for {machine}", hint="name one with [kernel] package or deb")
    return DEFAULT_PACKAGES[machine]


async def _resolve(cache: Cache, name: str) -> KernelPackage | None:
    """What apt would download for ``name``; asked again only when apt's lists or sources changed."""
    key = derive_key("kernel", name, _lists_state())
    memo = cache.root / "resolved" / f"{key}.json"
    if cache.reuse:
        try:
            return msgspec.json.decode(memo.read_bytes(), type=KernelPackage)
        except (OSError, msgspec.MsgspecError):
            pass
    kernel = await _ask_apt(name)
    if kernel is not None:
        memo.parent.mkdir(mode=0o700, exist_ok=True)
        part = memo.with_name(f"{memo.name}.{os.getpid()}")
        part.write_bytes(msgspec.json.encode(kernel))
        part.rename(memo)
    return kernel


def _lists_state() -> list[tuple[str, int, int]]:
    state = []
    for directory in _LISTS:
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.is_file(follow_symlinks=False):
                        facts = entry.stat(follow_symlinks=False)
                        state.append((entry.path, facts.st_mtime_ns, facts.st_size))
        except FileNotFoundError:
            continue
    return sorted(state)


async def _ask_apt(name: str) -> KernelPackage | None:
    shown = await run(["apt-cache", "show", "--no-all-versions", name], timeout_s=APT_TIMEOUT_S, check=False)
    if shown.exit_status != 0 or not shown.stdout.strip():
        return None
    real = name if _REAL_PACKAGE.fullmatch(name) else None
    if real is None:
        depends = next((line for line in shown.text.splitlines() if line.startswith("Depends:")), "")
        found = _REAL_PACKAGE.search(depends)
        if found is None:
            raise InvalidInput(f"{name} is no kernel package", field="kernel.package", hint="for example linux-image-cloud-amd64")
        real = found[0].rstrip(",")
    uris = await run([*_APT_GET, "download", "--print-uris", real], timeout_s=APT_TIMEOUT_S, check=False)
    if uris.exit_status != 0:
        return None
    for line in uris.text.splitlines():
        words = shlex.split(line)
        if len(words) == 4 and words[3].startswith("SHA256:"):
            stem = words[1].removesuffix(".deb").split("_")
            return KernelPackage(name=real, version=stem[1].replace("%3a", ":"), file=words[1], sha256=words[3][7:].lower())
    raise HostError(f"apt names no SHA256 for {real}", hint="its archive is not one of Debian's; give [kernel] deb a file")


async def _update_lists() -> None:
    try:
        await run([*_APT_GET, "update"], timeout_s=DOWNLOAD_TIMEOUT_S)
    except CommandFailed as error:
        raise HostError(f"the package lists cannot be read: {error}", hint="run apt-get update and see what it says") from error


async def _download(kernel: KernelPackage, target: Path) -> None:
    try:
        await run(
            [*_APT_GET, "download", f"{kernel.name}={kernel.version}"], timeout_s=DOWNLOAD_TIMEOUT_S, cwd=target,
        )  # fmt: skip
    except CommandFailed as error:
        raise _Gone(f"{kernel.file} cannot be downloaded: {error}") from error
    await asyncio.to_thread(_accept_download, kernel, target)


def _accept_download(kernel: KernelPackage, target: Path) -> None:
    files = list(target.glob("*.deb"))
    if len(files) != 1:
        raise _Gone(f"{kernel.file} was not where apt looked for it")
    record = record_file(files[0])
    if record.sha256 != kernel.sha256:
        raise ChecksumMismatch(
            f"{kernel.file} has the digest {record.sha256}, the archive's list says {kernel.sha256}", hint="run apt-get update"
        )
    files[0].rename(target / "kernel.deb")


async def _read_deb(deb: Path) -> KernelPackage:
    try:
        sha256 = (await asyncio.to_thread(record_file, deb)).sha256
        fields = await run(["dpkg-deb", "-f", deb, "Package", "Version"], timeout_s=APT_TIMEOUT_S)
    except OSError as error:
        raise InvalidInput(f"{deb} cannot be read: {error.strerror}", field="kernel.deb") from error
    except CommandFailed as error:
        raise InvalidInput(f"{deb} is no Debian package: {error}", field="kernel.deb") from error
    values = dict(line.split(": ", 1) for line in fields.text.splitlines() if ": " in line)
    return KernelPackage(name=values.get("Package", ""), version=values.get("Version", ""), file=deb.name, sha256=sha256)
