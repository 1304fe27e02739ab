"""Files named by the sha256 of their content: written once, verified, shared by every VM that was made from them.

Several programs may use one store at the same time: volantd, and builds that leave their results in it. Each says under a name of
its own which files it needs (``hold``), and nobody removes what another holds.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from volant.artifact.disk import explain_disk, finish
from volant.artifact.holds import Holds, hex_of
from volant.core.errors import ChecksumMismatch, NotFound, TooLarge
from volant.core.ids import Digest, check_digest

MAX_BYTES = 64 * 1024**3
BATCH_BYTES = 1024 * 1024
"""Written and hashed at a time: a hop to a thread costs too much for each piece that a network brings."""

FILES = "sha256"
ARRIVING = "arriving"
DAEMON = "volantd"
"""The owner under which volantd holds what its plugins need."""

P = ParamSpec("P")
T = TypeVar("T")


class _Stamp(NamedTuple):
    """What changes when a file's content may have changed."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class ArtifactStore:
    """Keeps ``ROOT/sha256/ab/<64 hexadecimal digits>``, and ``ROOT/holds/OWNER/<the same digits>`` for what an owner needs.

    Files are 0444 in directories that only root can enter: a VM process, which has no name to open, reopens the descriptor
    it was given by /proc/self/fd, where only the file's own mode counts.
    ``before`` is called with each step's name before it and may raise: create, write, sync, rename.
    """

    def __init__(self, root: Path, *, owner: str = DAEMON, before: Callable[[str], None] = lambda step: None) -> None:
        self._root = root
        self._owner = owner
        self._holds = Holds(root)
        self._before = before
        self._verdicts: dict[Digest, tuple[_Stamp, bool]] = {}
        self._verifying: WeakValueDictionary[Digest, asyncio.Lock] = WeakValueDictionary()

    @property
    def partials(self) -> Path:
        """Where files that are fetched lie until they are whole; on the store's own file system, so that ``take`` moves them."""
        return self._root / "partial"

    async def prepare(self) -> None:
        """Make the directories and remove what interrupted uploads left, of any program. Before anything else."""
        with explain_disk(self._root):
            await asyncio.to_thread(self._prepare)

    async def put(self, content: AsyncIterator[bytes], digest: Digest, max_bytes: int = MAX_BYTES) -> int:
        """Keep ``content``, streamed, and return its size in bytes. The same content may be put by many at once.

        Raises:
            ChecksumMismatch: it is not what ``digest`` says. TooLarge: it has more than ``max_bytes``. DiskFull: no room.
            Whatever ``content`` raises. In each case nothing of it is kept.
        """
        path = self._path(digest)
        arriving = self._root / ARRIVING / secrets.token_hex(16)
        self._before("create")
        with explain_disk(arriving), self._holds.keep_all():
            descriptor = _open_arriving(arriving, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            size, found = await self._write(content, descriptor, arriving, max_bytes)
            if found != digest:
                raise ChecksumMismatch(f"{size} bytes came for {digest}, and they are {found}", hint="send the file again")
            if not await self._is_whole(digest):
                with explain_disk(path):
                    self._before("sync")
                    await finish(asyncio.to_thread(_make_lasting, descriptor))
                    self._before("rename")
                    stamp = await finish(asyncio.to_thread(_publish, descriptor, arriving, path))
                self._verdicts[digest] = (stamp, True)
        finally:
            arriving.unlink(missing_ok=True)
            os.close(descriptor)
        return size

    def has(self, digest: Digest) -> bool:
        return self.size(digest) is not None

    def size(self, digest: Digest) -> int | None:
        """Bytes, or ``None`` when it is not here. One known to be damaged counts as not here, so that it is sent again."""
        path = self._path(digest)
        with explain_disk(path):
            try:
                stamp = _stamp(path.stat())
            except FileNotFoundError:
                return None
        return None if self._verdicts.get(digest) == (stamp, False) else stamp.size

    def locate(self, digest: Digest) -> Path:
        """Where the file lies, for whoever copies it. Raises NotFound."""
        if self.size(digest) is None:
            raise _not_found(digest)
        return self._path(digest)

    def open(self, digest: Digest) -> int:
        """A descriptor of the caller's for reading, not inherited by programs that are started. Raises NotFound."""
        path = self._path(digest)
        with explain_disk(path):
            try:
                return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError as error:
                raise _not_found(digest) from error

    async def verify(self, digest: Digest) -> None:
        """Read the file and compare, unless that was done since it last changed. Many may ask at once; it is read once.

        Raises:
            ChecksumMismatch: it is damaged. NotFound: it is not here.
        """
        path = self._path(digest)
        async with self._verifying.setdefault(digest, asyncio.Lock()):
            with explain_disk(path):
                try:
                    stamp = _stamp(path.stat())
                    known = self._verdicts.get(digest)
                    if known is None or known[0] != stamp:
                        stamp, found = await asyncio.to_thread(_read_digest, path)
                        known = self._verdicts[digest] = (stamp, found == digest)
                except FileNotFoundError as error:
                    raise _not_found(digest) from error
        if not known[1]:
            raise ChecksumMismatch(f"artifact {digest} at {path} is damaged", hint="install its plugin again")

    async def list(self) -> dict[Digest, int]:
        """Every artifact here with its size in bytes."""
        with explain_disk(self._root):
            return await asyncio.to_thread(lambda: {digest: found.st_size for digest, found in self._walk()})

    async def list_older(self, than: float) -> dict[Digest, int]:
        """Those that came before ``than`` (seconds since 1970), with their sizes in bytes."""
        with explain_disk(self._root):
            return await asyncio.to_thread(
                lambda: {digest: found.st_size for digest, found in self._walk() if found.st_ctime < than}
            )

    async def take(self, path: Path, digest: Digest) -> None:
        """Keep the file at ``path``, known to be ``digest``; it is moved when it lies on the store's file system, else copied.

        Raises:
            ChecksumMismatch: it was copied and is something else. DiskFull: no room.
        """
        if await self._is_whole(digest):
            return
        arriving = self._root / ARRIVING / secrets.token_hex(16)
        with explain_disk(arriving):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            # Locked before it can be seen among what arrives.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with explain_disk(arriving):
                try:
                    await asyncio.to_thread(path.rename, arriving)
                except OSError as error:
                    if error.errno != errno.EXDEV:
                        raise
                    await self.put(_read_pieces(path), digest)
                    return
                await finish(asyncio.to_thread(_make_lasting, descriptor))
                stamp = await finish(asyncio.to_thread(_publish, descriptor, arriving, self._path(digest)))
            self._verdicts[digest] = (stamp, True)
        finally:
            arriving.unlink(missing_ok=True)
            os.close(descriptor)

    async def hold(self, *digests: Digest, owner: str | None = None) -> None:
        """Nobody else removes these from now on, whether they are here yet or not."""
        with explain_disk(self._root):
            await asyncio.to_thread(self._holds.add, owner or self._owner, digests)

    async def release(self, *digests: Digest, owner: str | None = None) -> None:
        """Undo ``hold``; the files stay until a sweep."""
        with explain_disk(self._root):
            await asyncio.to_thread(self._holds.drop, owner or self._owner, digests)

    async def release_all(self, owner: str) -> None:
        """Undo all that ``owner`` holds. Does nothing when that is nothing."""
        with explain_disk(self._root):
            await asyncio.to_thread(self._holds.drop_all, owner)

    async def list_owners(self) -> set[str]:
        """Who holds anything."""
        with explain_disk(self._root):
            return await asyncio.to_thread(self._holds.owners)

    async def held(self) -> dict[Digest, set[str]]:
        """What is held, and by whom."""
        with explain_disk(self._root):
            return await asyncio.to_thread(self._holds.read)

    async def remove(self, digest: Digest) -> None:
        """Give up the owner's hold, and the file unless another holds it. Who has it open keeps it."""
        await self.release(digest)
        with explain_disk(self._path(digest)):
            await asyncio.to_thread(self._remove_unheld, {digest})

    async def sweep(self, keep: AbstractSet[Digest], unused_since: float) -> set[Digest]:
        """Hold ``keep`` and nothing else, remove what nobody holds, and return what went.

        What came after ``unused_since`` (seconds since 1970) stays: an upload comes before the plugin that names it, so the
        newest are nobody's for a while.
        """
        with explain_disk(self._root):
            return await asyncio.to_thread(self._sweep, keep, unused_since)

    def _sweep(self, keep: AbstractSet[Digest], unused_since: float) -> set[Digest]:
        self._holds.add(self._owner, keep)
        self._holds.drop(self._owner, {one for one, owners in self._holds.read().items() if self._owner in owners} - keep)
        return self._remove_unheld({digest for digest, status in self._walk() if status.st_ctime < unused_since})

    def _remove_unheld(self, digests: AbstractSet[Digest]) -> set[Digest]:
        with self._holds.remove_some() as held:
            gone = set(digests) - held.keys()
            for digest in gone:
                self._path(digest).unlink(missing_ok=True)
                self._verdicts.pop(digest, None)
        return gone

    async def _is_whole(self, digest: Digest) -> bool:
        try:
            await self.verify(digest)
        except (NotFound, ChecksumMismatch):
            return False
        return True

    def _path(self, digest: Digest) -> Path:
        name = hex_of(digest)
        return self._root / FILES / name[:2] / name

    def _prepare(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        for directory in (self._root, self._root / FILES, self._root / ARRIVING):
            directory.mkdir(mode=0o700, exist_ok=True)
            directory.chmod(0o700)
        with self._holds.remove_some():
            for left in (self._root / ARRIVING).iterdir():
                _remove_abandoned(left)

    def _walk(self) -> Iterator[tuple[Digest, os.stat_result]]:
        for path in (self._root / FILES).glob("??/*"):
            try:
                yield check_digest(f"sha256:{path.name}"), path.stat()
            except FileNotFoundError:
                continue  # removed meanwhile

    async def _write(self, content: AsyncIterator[bytes], descriptor: int, path: Path, max_bytes: int) -> tuple[int, Digest]:
        hasher = hashlib.sha256()
        batch = bytearray()
        size = 0

        def flush(taken: bytes) -> None:
            hasher.update(taken)
            _write_all(descriptor, taken)

        async for chunk in content:
            size += len(chunk)
            if size > max_bytes:
                raise TooLarge(f"the file has more than {max_bytes} bytes")
            batch += chunk
            if len(batch) >= BATCH_BYTES:
                await self._flush(flush, batch, path)
        await self._flush(flush, batch, path)
        return size, Digest(f"sha256:{hasher.hexdigest()}")

    async def _flush(self, flush: Callable[[bytes], None], batch: bytearray, path: Path) -> None:
        with explain_disk(path):
            self._before("write")
            await finish(asyncio.to_thread(flush, bytes(batch)))
        batch.clear()


def _open_arriving(path: Path, flags: int) -> int:
    """Locked for as long as it is open, which tells an upload under way from one that was killed."""
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _remove_abandoned(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return
    finally:
        os.close(descriptor)


async def _read_pieces(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as stream:
        while piece := await asyncio.to_thread(stream.read, BATCH_BYTES):
            yield piece


def _write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _make_lasting(descriptor: int) -> None:
    os.fchmod(descriptor, 0o444)
    os.fsync(descriptor)


def _publish(descriptor: int, arriving: Path, path: Path) -> _Stamp:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    arriving.replace(path)
    for directory in (path.parent, path.parent.parent):
        opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
    return _stamp(os.fstat(descriptor))


def _read_digest(path: Path) -> tuple[_Stamp, Digest]:
    with path.open("rb") as stream:
        # Taken before reading: what is changed meanwhile is read again the next time.
        stamp = _stamp(os.fstat(stream.fileno()))
        return stamp, Digest(f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}")


def _stamp(found: os.stat_result) -> _Stamp:
    return _Stamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _not_found(digest: Digest) -> NotFound:
    return NotFound(f"artifact {digest} is not here", hint="install the plugin that names it again")
