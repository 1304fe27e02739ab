"""What fledge keeps between builds: entries named by the digest of what they were made from, safe with many processes.

ROOT/<kind>/<key>/    an entry; it appears whole, by a rename, and is never changed afterwards
ROOT/locks/           one lock file an entry: shared while it is read, exclusive while it is made
ROOT/tmp/             workspaces of running builds, locked by them and by the programs they started
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from volant.core.errors import CommandFailed, HostError
from volant.run import run

LOCK_RETRY_S = 0.05
REMOVE_TIMEOUT_S = 300.0


class Workspace(msgspec.Struct, frozen=True):
    """A private directory on the cache's file system. ``lock_fd`` is handed to every program that writes into it, so
    that nobody removes it under a program that outlived a killed build."""

    path: Path
    lock_fd: int


Fill = Callable[[Path, Workspace], Awaitable[None]]
"""Makes an entry in the given empty directory; the workspace is for what it needs on the way."""

IsWhole = Callable[[Path], bool]


def default_cache_directory() -> Path:
    """``$FLEDGE_CACHE``, ``$XDG_CACHE_HOME/fledge``, ``/var/cache/fledge`` for root, ``~/.cache/fledge`` for others."""
    if os.environ.get("FLEDGE_CACHE"):
        return Path(os.environ["FLEDGE_CACHE"])
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "fledge"
    return Path("/var/cache/fledge") if os.geteuid() == 0 else Path.home() / ".cache" / "fledge"


def derive_key(*parts: object) -> str:
    """64 hexadecimal digits that change when any of ``parts`` (anything that JSON can say) does."""
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()


class Cache:
    """``reuse=False`` makes every entry anew, once, and replaces what was there."""

    def __init__(self, root: Path, *, reuse: bool = True) -> None:
        self.root = root.absolute()
        self.reuse = reuse
        self._made: set[tuple[str, str]] = set()
        self._aside: set[asyncio.Task[None]] | None = None

    async def open(self) -> None:
        """Create the directory and remove what killed builds left. Raises HostError when it cannot be written.

        Only its owner may enter: unpacked images hold set-user-id programs.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in ("tmp", "locks"):
                (self.root / name).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise HostError(
                f"the cache {self.root} cannot be used: {error.strerror}", hint="choose another with --cache-dir or FLEDGE_CACHE"
            ) from error
        for stale in list((self.root / "tmp").iterdir()):
            descriptor = _lock_directory(stale)
            if descriptor is not None:
                try:
                    await _remove_tree(stale)
                finally:
                    os.close(descriptor)

    @asynccontextmanager
    async def entry(self, kind: str, key: str, fill: Fill, *, is_whole: IsWhole | None = None) -> AsyncIterator[Path]:
        """The entry's directory, made by ``fill`` when it is not there, and kept from being replaced inside the block.

        One that is there and is not whole, because what it stands for has gone elsewhere, is made anew.
        """
        final = self.root / kind / key
        final.parent.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(self.root / "locks" / f"{kind}-{key}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while True:
                if self.reuse or (kind, key) in self._made:
                    await _take_lock(lock, fcntl.LOCK_SH)
                    if final.is_dir() and (is_whole is None or is_whole(final)):
                        os.utime(lock)  # which says when it was last used
                        yield final
                        return
                await _take_lock(lock, fcntl.LOCK_EX)
                if final.is_dir() and (self.reuse or (kind, key) in self._made) and (is_whole is None or is_whole(final)):
                    continue
                async with self.workspace() as workspace:
                    made = workspace.path / "entry"
                    made.mkdir(mode=0o700)
                    await fill(made, workspace)
                    if final.is_dir():
                        final.rename(workspace.path / "replaced")
                    made.rename(final)
                self._made.add((kind, key))
        finally:
            os.close(lock)

    async def prune(self, unused_since: float) -> int:
        """Remove entries that nobody uses or used after ``unused_since`` (seconds since 1970). Returns how many bytes went."""
        gone = 0
        for path in list((self.root / "locks").iterdir()):
            kind, _, key = path.name.rpartition("-")
            if path.stat().st_mtime >= unused_since:
                continue
            lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                entry = self.root / kind / key
                if entry.is_dir():
                    async with self.workspace() as workspace:
                        gone += await asyncio.to_thread(_measure_tree, entry)
                        entry.rename(workspace.path / "pruned")
            except BlockingIOError:
                continue  # in use
            finally:
                os.close(lock)
        return gone

    @asynccontextmanager
    async def workspace(self) -> AsyncIterator[Workspace]:
        """A directory that is gone when the block ends, however it ends."""
        while True:
            path = Path(tempfile.mkdtemp(dir=self.root / "tmp"))
            descriptor = _lock_directory(path)
            if descriptor is not None:
                break
        try:
            yield Workspace(path, descriptor)
        except BaseException:
            await _remove_workspace(path, descriptor)
            raise
        if self._aside is None:
            await _remove_workspace(path, descriptor)
        else:
            self._aside.add(asyncio.create_task(_remove_workspace(path, descriptor)))

    @asynccontextmanager
    async def removing_aside(self) -> AsyncIterator[None]:
        """Inside the block workspaces that have served go while other work goes on; at its end all are gone."""
        aside = self._aside = set()
        try:
            yield
        finally:
            self._aside = None
            if aside:
                await asyncio.wait(aside)
        for removal in aside:
            removal.result()


async def _remove_workspace(path: Path, descriptor: int) -> None:
    try:
        await _remove_tree(path)
    finally:
        os.close(descriptor)


async def _take_lock(descriptor: int, how: int) -> None:
    # A thread that waits in flock cannot be cancelled and would hold up the end of the program, so this asks again.
    while True:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            await asyncio.sleep(LOCK_RETRY_S)
        else:
            return


def _lock_directory(path: Path) -> int | None:
    """A descriptor that holds the directory's lock, or None when somebody else has it or removed it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.lstat()
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _measure_tree(root: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in root.rglob("*"))


async def _remove_tree(path: Path) -> None:
    # rm copes with paths of any depth, and never goes into what is mounted there.
    try:
        await run(["rm", "-rf", "--one-file-system", "--", path], timeout_s=REMOVE_TIMEOUT_S)
    except CommandFailed as error:
        raise HostError(f"{path} cannot be removed: {error}", hint="look at what is mounted or open there") from error
