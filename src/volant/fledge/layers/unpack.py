"""The layers of an image become a tree (image-spec v1.1, layer.md, "Applying Changesets")."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from volant.core.errors import DiskFull, HostError, InvalidInput, TooLarge
from volant.fledge.layers.budget import Budget, UnpackLimits
from volant.fledge.layers.bytestream import ByteStream
from volant.fledge.layers.layer import Interrupted, LayerBlob, LayerStream, Report, check_blob
from volant.fledge.layers.pax import show
from volant.fledge.layers.tar import TarReader
from volant.fledge.layers.tree import Tree
from volant.fledge.layers.writer import LayerWriter

SKIPPED_MAX = 100

_NOT_ROOT = "only root gives files away and makes devices: run it as root or under fakeroot"


class Unpacked(msgspec.Struct, frozen=True):
    """``size_bytes`` is the length of all files together. ``skipped`` says what could not be kept, up to SKIPPED_MAX lines."""

    entries: int
    size_bytes: int
    skipped: tuple[str, ...]


async def unpack_layers(
    layers: Sequence[LayerBlob], root: Path, limits: UnpackLimits, *, epoch_s: int, report: Report | None = None
) -> Unpacked:
    """Apply ``layers``, the lowest first, to the empty directory ``root``; each is read once, and checked while it is.

    Whatever goes wrong leaves a part of the tree in ``root``, and nothing outside of it touched. Directories that are only
    implied by what is in them belong to root, with the mode 0755 and the time ``epoch_s``. ``report`` is called in the
    event loop.

    Raises:
        InvalidInput: a layer is no archive, or has an entry that none may have; the message names it. TooLarge: beyond a limit.
        ChecksumMismatch: a file is not what its digest says. DiskFull, HostError: this machine does not let us.
    """
    loop = asyncio.get_running_loop()

    def tell(digest: str, read_bytes: int, of_bytes: int) -> None:
        if report is not None:
            loop.call_soon_threadsafe(report, digest, read_bytes, of_bytes)

    unpacking = _Unpacking(layers, root, limits, epoch_s, tell)
    work = asyncio.ensure_future(asyncio.to_thread(unpacking.run))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        # The threads write into root, which the caller is about to remove.
        unpacking.stop()
        while not work.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([work])
        work.exception()
        raise


class _Unpacking:
    def __init__(self, layers: Sequence[LayerBlob], root: Path, limits: UnpackLimits, epoch_s: int, report: Report) -> None:
        self._layers = layers
        self._root = root
        self._budget = Budget(limits)
        self._epoch_s = epoch_s
        self._report = report
        self._stopped = threading.Event()
        self._stream: LayerStream | None = None
        self._skipped: list[str] = []

    def stop(self) -> None:
        self._stopped.set()
        if (stream := self._stream) is not None:
            stream.interrupt()

    def run(self) -> Unpacked:
        try:
            tree = Tree(self._root, self._budget, self._epoch_s * 10**9)
        except OSError as error:
            raise _explain(error, str(self._root)) from error
        try:
            for blob in self._layers:
                self._apply(blob, tree)
            try:
                tree.finish()
            except OSError as error:
                raise _explain(error, str(self._root)) from error
        finally:
            tree.close()
        return Unpacked(self._budget.entries, self._budget.size_bytes, tuple(self._skipped))

    def _apply(self, blob: LayerBlob, tree: Tree) -> None:
        try:
            with LayerStream(blob, self._budget, self._report) as stream:
                self._stream = stream
                chunks = ByteStream(stream.read)
                reader = TarReader(chunks, self._budget)
                writer = LayerWriter(tree, reader, self._budget, self._note)
                while entry := reader.read_entry():
                    if self._stopped.is_set():
                        raise Interrupted
                    try:
                        writer.write(entry)
                    except InvalidInput as error:
                        raise InvalidInput(f"{show(entry.name)}: {error.message}", hint=error.hint) from error
                    except OSError as error:
                        raise _explain(error, show(entry.name)) from error
                # Past the end of the archive there may be nothing, and the digests are only known then.
                chunks.drain_zeros()
        except (InvalidInput, TooLarge) as error:
            check_blob(blob)
            message = f"the layer {blob.digest} cannot be unpacked: {error.message}"
            raise type(error)(message, hint=error.hint) from error

    def _note(self, line: str) -> None:
        if len(self._skipped) < SKIPPED_MAX:
            self._skipped.append(line)


def _explain(error: OSError, name: str) -> Exception:
    said = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"there is no room for {name}", hint="move the cache with --cache-dir")
    if error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EINVAL):
        return InvalidInput(f"{name} cannot be made: {said}")
    if error.errno in (errno.EPERM, errno.EACCES):
        return HostError(
            f"{name} cannot be made: {said}",
            hint=_NOT_ROOT,
        )
    return HostError(f"{name} cannot be made: {said}")
