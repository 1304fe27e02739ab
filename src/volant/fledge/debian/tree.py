"""Debian packages become a tree: locked once, fetched by digest, and installed from what was locked and nothing else."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from volant.core.errors import HostError, InvalidInput
from volant.fledge.cache import Cache, Workspace
from volant.fledge.debian.archive import Archive, choose_sources
from volant.fledge.debian.install import check_privileges, install_packages
from volant.fledge.debian.lock import (
    LOCK_NAME,
    UPDATE_HINT,
    Lock,
    LockChanges,
    LockedPackage,
    check_lock,
    compare_locks,
    make_lock,
)
from volant.fledge.debian.pool import Pool, collect_packages, name_repository, read_package_file, write_repository
from volant.fledge.debian.request import PackageRequest
from volant.fledge.progress import Progress


class Settled(msgspec.Struct, frozen=True):
    """The lock to build from. ``changes`` says what it changes in the lock that was; None when it is that lock, or the first.

    ``is_new`` asks the caller to write it, best when the build from it has gone well.
    """

    lock: Lock
    is_new: bool
    changes: LockChanges | None = None


async def settle_lock(request: PackageRequest, lock: Lock | None, *, update: bool, cache: Cache, progress: Progress) -> Settled:
    """``lock`` when it answers the request; one resolved now when there is none, or with ``update``.

    A lock that answers is used as it is: the archive is not asked.

    Raises:
        InvalidInput: the lock answers another request, or a package file is missing or not the one that was locked.
        HostError: the archive cannot be reached, or has no such packages.
    """
    files = await _read_files(request)
    if lock is not None and not update:
        check_lock(lock, suite=request.suite, architecture=request.architecture, request=request.packages)
        _check_files(lock, files)
        return Settled(lock, is_new=False)
    with progress.step(f"Resolving {', '.join(request.packages)} in {request.suite}"):
        resolved = await _resolve(request, files, cache)
    new = make_lock(request.suite, request.architecture, request.packages, resolved)
    return Settled(new, is_new=new != lock, changes=None if lock is None else compare_locks(lock, new))


async def install_lock(
    request: PackageRequest,
    lock: Lock,
    root: Path,
    *,
    epoch_s: int,
    cache: Cache,
    workspace: Workspace,
    progress: Progress,
) -> None:
    """Install what is locked into the empty or missing directory ``root``, without documentation.

    The same lock gives the same tree: names, bytes, modes, owners; of times those that the packages give. What the
    installation itself made has the time it was made at, which is after ``epoch_s``: ``settle_tree`` sets it. With every
    package in the cache nothing is asked of any network. Keys that scripts of packages generate are left out.

    Raises:
        HostError: not root; a locked package is neither kept nor in the archive any more; a package does not install.
        ChecksumMismatch: the archive gives a file that is not the one that was locked.
    """
    check_privileges()
    supply = _Supply(request, workspace)
    count = len(lock.packages)
    with progress.step(f"Taking {count} Debian packages") as step:
        pool = await collect_packages(
            lock.packages, workspace, cache=cache, fetch=supply.fetch, report=lambda at: step.count(at.done_bytes, at.total_bytes)
        )
        if pool.gone:
            raise await supply.explain_gone(pool)
    await asyncio.to_thread(write_repository, pool, lock.suite, lock.architecture)
    with progress.step(f"Installing {count} Debian packages"):
        left_out = await install_packages(lock, pool.directory, root, epoch_s=epoch_s, workspace=workspace)
    if left_out:
        progress.note(f"Left out, because all guests would share them, and no two builds: {', '.join(left_out)}")


class _Supply:
    """Where packages come from that the cache does not have: beside the recipe, or an archive that is opened when needed."""

    def __init__(self, request: PackageRequest, workspace: Workspace) -> None:
        self._request = request
        self._workspace = workspace
        self._archive: Archive | None = None

    async def fetch(self, packages: Sequence[LockedPackage], directory: Path) -> Sequence[LockedPackage]:
        local = [package for package in packages if package.is_local]
        for package in local:
            await asyncio.to_thread(
                _copy_file, self._request.base / package.file, directory / f"{package.sha256}.deb", package.file
            )
        distant = [package for package in packages if not package.is_local]
        return await (await self._open()).download(distant, directory) if distant else ()

    async def explain_gone(self, pool: Pool) -> HostError:
        """The error that names each package that is gone, and what there is in its place."""
        suite = self._request.suite
        try:
            archive = await self._open()
            await archive.update()
            present = await archive.list_candidates(package.name for package in pool.gone)
        except HostError as error:
            names = ", ".join(f"{package.name} {package.version}" for package in pool.gone)
            return HostError(
                f"the archive of {suite} no longer has {names}, and does not say what it has: {error.message}", hint=_GONE_HINT
            )
        moved = "; ".join(_describe_gone(package, present.get(package.name)) for package in pool.gone)
        return HostError(f"the archive of {suite} has moved on: {moved}", hint=_GONE_HINT)

    async def _open(self) -> Archive:
        if self._archive is None:
            sources = await choose_sources(self._request.suite, self._request.mirror)
            self._archive = await _prepare_archive(self._request, sources, self._workspace)
        return self._archive


_GONE_HINT = f"{UPDATE_HINT}, or name in source.mirror a snapshot of the archive that has them"


def _describe_gone(package: LockedPackage, present: str | None) -> str:
    if not present:
        now = "now not there at all"
    elif present == package.version:
        now = "now the same version in another file"
    else:
        now = f"now {present}"
    return f"{package.name} is locked at {package.version}, {now}"


async def _prepare_archive(request: PackageRequest, sources: Sequence[str], workspace: Workspace) -> Archive:
    archive = Archive(workspace.path / "apt", sources, request.suite, request.architecture, lock_fd=workspace.lock_fd)
    await asyncio.to_thread(archive.prepare)
    return archive


async def _read_files(request: PackageRequest) -> tuple[LockedPackage, ...]:
    found = [await read_package_file(request.base / file, file) for file in request.files]
    for package in found:
        if package.architecture not in ("all", request.architecture):
            raise InvalidInput(
                f"{package.file} is for {package.architecture}, and this builds for {request.architecture}",
                field="source.packages",
            )
    return tuple(found)


def _check_files(lock: Lock, files: Sequence[LockedPackage]) -> None:
    locked = {package.file: package for package in lock.packages}
    for package in files:
        if locked.get(package.file) != package:
            raise InvalidInput(f"{package.file} is not the file that {LOCK_NAME} has", field="source.packages", hint=UPDATE_HINT)


async def _resolve(request: PackageRequest, files: Sequence[LockedPackage], cache: Cache) -> list[LockedPackage]:
    async with cache.workspace() as workspace:
        sources = await choose_sources(request.suite, request.mirror)
        if files:
            pool = await collect_packages(files, workspace, cache=cache, fetch=_Supply(request, workspace).fetch)
            await asyncio.to_thread(write_repository, pool, request.suite, request.architecture)
            sources = (name_repository(pool.directory), *sources)
        archive = await _prepare_archive(request, sources, workspace)
        await archive.update()
        exact = [f"{package.name}={package.version}" for package in files]
        resolved = await archive.resolve([*request.names, *exact])
    own = {package.sha256: package for package in files}
    found = [own.pop(package.sha256, package) for package in resolved]
    for package in own.values():
        raise HostError(
            f"apt takes another {package.name} {package.version} than {package.file}", hint="give it a version of its own"
        )
    return found


def _copy_file(source: Path, target: Path, name: str) -> None:
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise InvalidInput(f"{name} cannot be read: {error.strerror}", field="source.packages") from error
