"""One Debian package: found through the host's apt, downloaded, kept by its digest, never installed."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from volant.core.errors import ChecksumMismatch, CommandFailed, HostError, InvalidInput, NotFound
from volant.fledge.cache import Cache, Workspace, derive_key
from volant.fledge.content import record_file
from volant.fledge.progress import Progress
from volant.run import run

APT_TIMEOUT_S = 60.0
DOWNLOAD_TIMEOUT_S = 900.0

DEB = "kernel.deb"
"""The package file's name in its entry of the cache."""

# The sandbox user _apt cannot write into a directory that only root may enter.
_APT_GET = ("apt-get", "-q", "-o", "APT::Sandbox::User=root")
_LISTS = (Path("/var/lib/apt/lists"), Path("/etc/apt"), Path("/etc/apt/sources.list.d"), Path("/etc/apt/preferences.d"))


class Package(msgspec.Struct, frozen=True):
    """A package file: ``file`` is its name in the archive, ``sha256`` 64 hexadecimal digits."""

    name: str
    version: str
    file: str
    sha256: str


ChooseName = Callable[[str], str]
"""Names the package to download, from what ``apt-cache show`` prints about the one that was asked for."""


@asynccontextmanager
async def open_package(
    cache: Cache, kind: str, name: str, progress: Progress, *, choose: ChooseName, hint: str
) -> AsyncIterator[tuple[Package, Path]]:
    """The package and its file, downloaded when the cache has none of that digest among its entries of ``kind``.

    Raises:
        NotFound: apt knows no such package; ``hint`` says what else to do. HostError: it cannot be downloaded.
    """
    package = await _resolve(cache, name, choose, hint)
    if package is None:
        with progress.step("Reading Debian's package lists (apt-get update)"):
            await _update_lists()
        package = await _resolve(cache, name, choose, hint)
    if package is None:
        raise NotFound(f"apt knows no package {name}", hint=f"check /etc/apt/sources.list, or {hint}")
    found = package

    async def download(target: Path, workspace: Workspace) -> None:
        with progress.step(f"Downloading {found.name} {found.version}"):
            await _download(found, target)

    try:
        async with cache.entry(kind, found.sha256, download) as entry:
            yield found, entry / DEB
    except _Gone as error:
        # The archive keeps only its newest version, and the host's lists are older than it.
        with progress.step("Reading Debian's package lists again (apt-get update)"):
            await _update_lists()
        newest = await _resolve(cache, name, choose, hint)
        if newest is None or newest == found:
            raise HostError(str(error), hint="check the network and /etc/apt/sources.list") from error
        found = newest
        async with cache.entry(kind, found.sha256, download) as entry:
            yield found, entry / DEB


async def read_package(deb: Path) -> Package:
    """What a package file says of itself. Raises InvalidInput."""
    try:
        sha256 = (await asyncio.to_thread(record_file, deb)).sha256
        fields = await run(["dpkg-deb", "-f", deb, "Package", "Version"], timeout_s=APT_TIMEOUT_S)
    except OSError as error:
        raise InvalidInput(f"{deb} cannot be read: {error.strerror}", field="kernel.deb") from error
    except CommandFailed as error:
        raise InvalidInput(f"{deb} is no Debian package: {error}", field="kernel.deb") from error
    values = dict(line.split(": ", 1) for line in fields.text.splitlines() if ": " in line)
    return Package(name=values.get("Package", ""), version=values.get("Version", ""), file=deb.name, sha256=sha256)


class _Gone(HostError):
    pass


async def _resolve(cache: Cache, name: str, choose: ChooseName, hint: str) -> Package | None:
    """What apt would download for ``name``; asked again only when apt's lists or sources changed."""
    key = derive_key("kernel", name, _lists_state())
    memo = cache.root / "resolved" / f"{key}.json"
    if cache.reuse:
        try:
            return msgspec.json.decode(memo.read_bytes(), type=Package)
        except (OSError, msgspec.MsgspecError):
            pass
    package = await _ask_apt(name, choose, hint)
    if package is not None:
        memo.parent.mkdir(mode=0o700, exist_ok=True)
        part = memo.with_name(f"{memo.name}.{os.getpid()}")
        part.write_bytes(msgspec.json.encode(package))
        part.rename(memo)
    return package


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


async def _ask_apt(name: str, choose: ChooseName, hint: str) -> Package | None:
    shown = await run(["apt-cache", "show", "--no-all-versions", name], timeout_s=APT_TIMEOUT_S, check=False)
    if shown.exit_status != 0 or not shown.stdout.strip():
        return None
    real = choose(shown.text)
    uris = await run([*_APT_GET, "download", "--print-uris", real], timeout_s=APT_TIMEOUT_S, check=False)
    if uris.exit_status != 0:
        return None
    for line in uris.text.splitlines():
        words = shlex.split(line)
        if len(words) == 4 and words[3].startswith("SHA256:"):
            stem = words[1].removesuffix(".deb").split("_")
            return Package(name=real, version=stem[1].replace("%3a", ":"), file=words[1], sha256=words[3][7:].lower())
    raise HostError(f"apt names no SHA256 for {real}", hint=f"its archive is not one of Debian's; {hint}")


async def _update_lists() -> None:
    try:
        await run([*_APT_GET, "update"], timeout_s=DOWNLOAD_TIMEOUT_S)
    except CommandFailed as error:
        raise HostError(f"the package lists cannot be read: {error}", hint="run apt-get update and see what it says") from error


async def _download(package: Package, target: Path) -> None:
    try:
        await run(
            [*_APT_GET, "download", f"{package.name}={package.version}"], timeout_s=DOWNLOAD_TIMEOUT_S, cwd=target,
        )  # fmt: skip
    except CommandFailed as error:
        raise _Gone(f"{package.file} cannot be downloaded: {error}") from error
    await asyncio.to_thread(_accept_download, package, target)


def _accept_download(package: Package, target: Path) -> None:
    files = list(target.glob("*.deb"))
    if len(files) != 1:
        raise _Gone(f"{package.file} was not where apt looked for it")
    record = record_file(files[0])
    if record.sha256 != package.sha256:
        raise ChecksumMismatch(
            f"{package.file} has the digest {record.sha256}, the archive's list says {package.sha256}", hint="run apt-get update"
        )
    files[0].rename(target / DEB)
