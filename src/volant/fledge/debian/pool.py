"""Debian packages kept by their digest, and a repository of exactly those that were locked."""

from __future__ import annotations

import asyncio
import errno
import os
import urllib.parse
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from pathlib import Path

import msgspec

from volant.core.errors import ChecksumMismatch, CommandFailed, HostError, InvalidInput
from volant.core.failure import first_error
from volant.fledge.cache import Cache, Workspace
from volant.fledge.content import FileRecord, copy_plain, record_bytes, record_file
from volant.fledge.debian.control import read_paragraphs
from volant.fledge.debian.lock import LockedPackage
from volant.run import run

DPKG_TIMEOUT_S = 60.0
CONCURRENT = 4
"""Packages that are read at once."""

BATCH_PACKAGES = 32
BATCH_BYTES = 64 * 1024 * 1024
"""How much is fetched before it is put into the cache, where an interrupted build leaves it for the next."""

KIND = "debs"
"""Where the cache keeps packages: one entry each, by its SHA256."""

DEB = "package.deb"
CONTROL = "control"
CONTROL_MAX_BYTES = 1024 * 1024

# The archive's own words about a package file; what a package says of itself there does not count.
_INDEX_FIELDS = (b"filename", b"size", b"md5sum", b"sha1", b"sha256", b"sha512", b"status")

Fetch = Callable[[Sequence[LockedPackage], Path], Awaitable[Sequence[LockedPackage]]]
"""Writes each package to ``<sha256>.deb`` in a directory, and returns those that are no more to be had."""


class FetchProgress(msgspec.Struct, frozen=True):
    """How many of the packages, and of their bytes, are at hand."""

    done: int
    total: int
    done_bytes: int
    total_bytes: int


Report = Callable[[FetchProgress], None]


class Pool(msgspec.Struct, frozen=True):
    """``controls`` has each package's control paragraph; the packages are ``<sha256>.deb`` in ``directory``."""

    directory: Path
    controls: dict[LockedPackage, bytes]
    gone: tuple[LockedPackage, ...]


async def collect_packages(
    packages: Iterable[LockedPackage], workspace: Workspace, *, cache: Cache, fetch: Fetch, report: Report | None = None
) -> Pool:
    """Put every package into one directory of the workspace: from the cache, or by ``fetch`` and then into the cache too.

    A package is checked by its digest whenever it is taken; one that was damaged in the cache is fetched anew. A cache that
    is not to be reused is still used for packages: what has the digest is the same.

    Raises:
        ChecksumMismatch: what was fetched is not what was locked. HostError: it cannot be fetched.
    """
    collection = _Collection(sorted(set(packages)), workspace, cache, report)
    return await collection.collect(fetch)


class _Collection:
    def __init__(self, packages: list[LockedPackage], workspace: Workspace, cache: Cache, report: Report | None) -> None:
        self._packages = packages
        self._workspace = workspace
        self._cache = Cache(cache.root)
        self._renewed = Cache(cache.root, reuse=False)
        self._report = report
        self._directory = workspace.path / "debs"
        self._incoming = workspace.path / "incoming"
        self._controls: dict[LockedPackage, bytes] = {}
        self._room = asyncio.Semaphore(CONCURRENT)

    async def collect(self, fetch: Fetch) -> Pool:
        for directory in (self._directory, self._incoming):
            directory.mkdir(mode=0o700)
        await self._run_for(self._packages, self._take_kept)
        gone: list[LockedPackage] = []
        for batch in divide_packages([package for package in self._packages if package not in self._controls]):
            missing = await fetch(batch, self._incoming)
            gone += missing
            await self._run_for([package for package in batch if package not in missing], self._take_fetched)
        return Pool(self._directory, self._controls, tuple(gone))

    async def _run_for(
        self, packages: Iterable[LockedPackage], work: Callable[[LockedPackage], Coroutine[None, None, None]]
    ) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for package in packages:
                    group.create_task(work(package))
        except ExceptionGroup as errors:
            raise first_error(errors) from errors
        if self._report is not None:
            done_bytes, total_bytes = (sum(each.size for each in some) for some in (self._controls, self._packages))
            self._report(FetchProgress(len(self._controls), len(self._packages), done_bytes, total_bytes))

    async def _take_kept(self, package: LockedPackage) -> None:
        async with self._room:
            if not (self._cache.root / KIND / package.sha256).is_dir():
                return

            async def fill(_target: Path, _workspace: Workspace) -> None:
                raise _Missing

            try:
                async with self._cache.entry(KIND, package.sha256, fill) as entry:
                    control = await asyncio.to_thread(_take, package, entry, self._directory)
            except _Missing:
                return
            if control is not None:
                self._controls[package] = control

    async def _take_fetched(self, package: LockedPackage) -> None:
        deb = self._incoming / f"{package.sha256}.deb"

        async def fill(target: Path, workspace: Workspace) -> None:
            control = await _check_package(package, deb, workspace)
            await asyncio.to_thread((target / CONTROL).write_bytes, control)
            deb.rename(target / DEB)

        # Whatever is kept under this digest was not there, or was damaged, a moment ago.
        async with self._room, self._renewed.entry(KIND, package.sha256, fill) as entry:
            control = await asyncio.to_thread(_take, package, entry, self._directory)
        if control is None:
            raise ChecksumMismatch(f"{package.file} changes while it is read", hint="check the disk that the cache is on")
        self._controls[package] = control


class _Missing(Exception):
    pass


def divide_packages(packages: Sequence[LockedPackage]) -> list[list[LockedPackage]]:
    """The packages in batches of at most BATCH_PACKAGES, which a package ends that brings them to BATCH_BYTES."""
    batches: list[list[LockedPackage]] = []
    room_bytes = 0
    for package in packages:
        if room_bytes <= 0 or len(batches[-1]) == BATCH_PACKAGES:
            batches.append([])
            room_bytes = BATCH_BYTES
        batches[-1].append(package)
        room_bytes -= package.size
    return batches


async def read_package_file(path: Path, file: str) -> LockedPackage:
    """What the package file ``path`` of the recipe's own is; ``file`` is what the recipe calls it. Raises InvalidInput."""
    try:
        record = await asyncio.to_thread(record_file, path)
        name, version, architecture = _read_identity(await _read_control(path, ()))
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}", field="source.packages") from error
    except CommandFailed as error:
        if error.exit_status == 127:
            raise
        raise InvalidInput(f"{file} is no Debian package: {error}", field="source.packages") from error
    found = LockedPackage(name, version, architecture, record.sha256, record.size, file)
    try:
        return msgspec.convert(msgspec.to_builtins(found), LockedPackage)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{file} cannot be locked: {error}", field="source.packages") from error


def write_repository(pool: Pool, suite: str, architecture: str) -> None:
    """Make the pool's directory a repository for apt: Packages and Release (wiki.debian.org/DebianRepository/Format)."""
    paragraphs = [
        _strip_index_fields(pool.controls[package])
        + f"Filename: ./{package.sha256}.deb\nSize: {package.size}\nSHA256: {package.sha256}\n".encode()
        for package in sorted(pool.controls)
    ]
    content = b"\n".join(paragraphs)
    record = record_bytes(content)
    (pool.directory / "Packages").write_bytes(content)
    (pool.directory / "Release").write_text(
        f"Origin: fledge\nLabel: fledge\nSuite: {suite}\nCodename: {suite}\nDate: Thu, 01 Jan 1970 00:00:00 UTC\n"
        f"Architectures: all {architecture}\nSHA256:\n {record.sha256} {record.size} Packages\n"
    )


def _read_identity(control: bytes) -> tuple[str, str, str]:
    fields = next(iter(read_paragraphs(control.decode("utf-8", "replace"))), {})
    return fields.get("Package", ""), fields.get("Version", ""), fields.get("Architecture", "")


def name_repository(directory: Path) -> str:
    """The line of sources.list(5) for what ``write_repository`` made; its files were checked, so no signature is needed."""
    return f"deb [trusted=yes] copy:{urllib.parse.quote(str(directory))} ./"


async def _check_package(package: LockedPackage, deb: Path, workspace: Workspace) -> bytes:
    found = await asyncio.to_thread(record_file, deb)
    if found != FileRecord(package.sha256, package.size):
        raise ChecksumMismatch(
            f"{package.file} has {found.size} bytes, SHA256 {found.sha256}; locked are {package.size}, {package.sha256}",
            hint="the mirror has changed a released file; use another",
        )
    try:
        control = await _read_control(deb, (workspace.lock_fd,))
    except CommandFailed as error:
        if error.exit_status == 127:
            raise
        raise HostError(
            f"{package.file} is no Debian package: {error}", hint="lock the packages anew with --update-lock"
        ) from error
    if _read_identity(control) != (package.name, package.version, package.architecture):
        raise ChecksumMismatch(
            f"{package.file} is {' '.join(_read_identity(control))}, locked is "
            f"{package.name} {package.version} {package.architecture}",
            hint="lock the packages anew with --update-lock",
        )
    return control


async def _read_control(deb: Path, pass_fds: tuple[int, ...]) -> bytes:
    control = (await run(["dpkg-deb", "--field", deb], timeout_s=DPKG_TIMEOUT_S, pass_fds=pass_fds)).stdout
    if len(control) > CONTROL_MAX_BYTES:
        raise InvalidInput(
            f"the control paragraph of {deb.name} is larger than {CONTROL_MAX_BYTES} bytes", field="source.packages"
        )
    return control


def _take(package: LockedPackage, entry: Path, directory: Path) -> bytes | None:
    """Link a kept package into ``directory``; None when it is not, or no more, what its digest says."""
    try:
        if record_file(entry / DEB) != FileRecord(package.sha256, package.size):
            return None
        control = (entry / CONTROL).read_bytes()
    except FileNotFoundError:
        return None
    if _read_identity(control) != (package.name, package.version, package.architecture):
        return None
    # A link stays when the entry is removed from the cache, so no lock is held while the packages are installed.
    target = directory / f"{package.sha256}.deb"
    try:
        os.link(entry / DEB, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy_plain(entry / DEB, target)  # a cache whose packages are another's, on another file system
    return control


def _strip_index_fields(control: bytes) -> bytes:
    kept: list[bytes] = []
    dropping = False
    for line in control.splitlines():
        if not line.startswith((b" ", b"\t")):
            dropping = line.partition(b":")[0].strip().lower() in _INDEX_FIELDS
        if line.strip() and not dropping:
            kept.append(line + b"\n")
    return b"".join(kept)
