"""One layer of an image: read once, checked, and unpacked into a stream while somebody else works on what came before."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import msgspec

from volant.core.errors import ChecksumMismatch, HostError, InvalidInput, VolantError
from volant.fledge.layers.budget import Budget
from volant.fledge.layers.decompress import READ_BYTES, decompress

_OCI = "application/vnd.oci.image.layer."
_DOCKER = "application/vnd.docker.image.rootfs."
LAYER_TYPES = frozenset(
    [f"{_OCI}{kind}v1.tar{packed}" for kind in ("", "nondistributable.") for packed in ("", "+gzip", "+zstd")]
    + [f"{_DOCKER}{kind}.tar{packed}" for kind in ("diff", "foreign.diff") for packed in ("", ".gzip", ".zstd")]
)
"""Media types of layers that can be unpacked (image-spec v1.1, layer.md; Docker's image manifest, version 2, schema 2)."""

PIPE_BYTES = 8 << 20
"""What waits between the two threads, at most, and one piece more."""

Report = Callable[[str, int, int], None]
"""Told of a layer's digest, and how many bytes of how many were read."""


class LayerBlob(msgspec.Struct, frozen=True):
    """``size_bytes`` and ``digest`` (``sha256:…``) are the file's; ``diff_id`` is the digest of what it unpacks to, if known."""

    path: Path
    digest: str
    size_bytes: int
    media_type: str
    diff_id: str | None = None


class Interrupted(Exception):
    """The other end is gone, or somebody asked to stop."""


class LayerStream:
    """``read`` gives a layer's tar archive in chunks, b"" at the end. To be used as a context, and once.

    Raises:
        ChecksumMismatch: the file is missing, or not what its digest, its size or the diff_id say; told at the end at the latest.
        InvalidInput: it cannot be unpacked. TooLarge: it unpacks to more than anything real.
        Interrupted: ``interrupt`` was called.
    """

    def __init__(self, blob: LayerBlob, budget: Budget, report: Report) -> None:
        if blob.media_type not in LAYER_TYPES:
            raise InvalidInput(
                f"a layer of type {blob.media_type!r} cannot be unpacked",
                hint="convert the image: skopeo copy --dest-compress-format gzip",
            )
        self._blob = blob
        self._budget = budget
        self._report = report
        self._pipe = _Pipe()
        self._thread = threading.Thread(target=self._fill, name="layer", daemon=True)

    def __enter__(self) -> LayerStream:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pipe.close()
        self._thread.join()

    def read(self) -> bytes:
        return self._pipe.take()

    def interrupt(self) -> None:
        """End both sides, from any thread."""
        self._pipe.close()

    def _fill(self) -> None:
        try:
            self._read_file()
        except Interrupted:
            pass
        except VolantError as error:
            self._pipe.fail(error)
        except OSError as error:
            self._pipe.fail(HostError(f"the layer {self._blob.digest} cannot be read: {error.strerror}"))
        except BaseException as error:
            self._pipe.fail(error)
            raise

    def _read_file(self) -> None:
        blob, unpacked = self._blob, hashlib.sha256()
        with _open_blob(blob) as descriptor, ThreadPoolExecutor(1, "digest") as digester:
            packed, read_bytes, expanded_bytes = hashlib.sha256(), 0, 0

            def read(size: int) -> bytes:
                nonlocal read_bytes
                piece = os.read(descriptor, size)
                packed.update(piece)
                read_bytes += len(piece)
                self._report(blob.digest, read_bytes, blob.size_bytes)
                return piece

            # A digest takes as long as unpacking gzip, and this way it is taken of one piece while the next one is unpacked.
            digesting: Future[None] | None = None
            for piece in decompress(read):
                expanded_bytes += len(piece)
                self._budget.check_ratio(read_bytes, expanded_bytes, blob.digest.encode())
                if digesting is not None:
                    digesting.result()
                if blob.diff_id is not None:
                    digesting = digester.submit(unpacked.update, piece)
                self._pipe.put(piece)
        _compare(blob, packed.hexdigest(), read_bytes)
        if blob.diff_id is not None and f"sha256:{unpacked.hexdigest()}" != blob.diff_id:
            raise ChecksumMismatch(
                f"the layer {blob.digest} unpacks to sha256:{unpacked.hexdigest()}, the image says {blob.diff_id}",
                hint="build or copy the image again",
            )
        self._pipe.put(b"")


def check_blob(blob: LayerBlob) -> None:
    """Read the whole file, to tell a damaged one from a bad one. Raises ChecksumMismatch."""
    with _open_blob(blob) as descriptor:
        digest, read_bytes = hashlib.sha256(), 0
        while piece := os.read(descriptor, READ_BYTES):
            digest.update(piece)
            read_bytes += len(piece)
    _compare(blob, digest.hexdigest(), read_bytes)


@contextlib.contextmanager
def _open_blob(blob: LayerBlob) -> Iterator[int]:
    try:
        # A pipe in a file's place would be waited for.
        descriptor = os.open(blob.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise ChecksumMismatch(f"the layer {blob.digest} is missing", hint="copy the image again") from error
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size != blob.size_bytes:
            raise _damaged(blob, facts.st_size)
        yield descriptor
    finally:
        os.close(descriptor)


def _compare(blob: LayerBlob, sha256: str, read_bytes: int) -> None:
    if read_bytes != blob.size_bytes or f"sha256:{sha256}" != blob.digest:
        raise _damaged(blob, read_bytes)


def _damaged(blob: LayerBlob, size_bytes: int) -> ChecksumMismatch:
    return ChecksumMismatch(
        f"the layer {blob.digest} is damaged ({size_bytes} bytes of {blob.size_bytes})", hint="copy the image again"
    )


class _Pipe:
    """Chunks from one thread to another, as many as fit into PIPE_BYTES."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._chunks: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._closed = False
        self._error: BaseException | None = None

    def put(self, chunk: bytes) -> None:
        with self._changed:
            while self._waiting_bytes >= PIPE_BYTES and not self._closed:
                self._changed.wait()
            if self._closed:
                raise Interrupted
            self._chunks.append(chunk)
            self._waiting_bytes += len(chunk)
            self._changed.notify_all()

    def take(self) -> bytes:
        with self._changed:
            while not self._chunks and self._error is None and not self._closed:
                self._changed.wait()
            if self._closed:
                raise Interrupted
            if self._chunks:
                chunk = self._chunks.popleft()
                self._waiting_bytes -= len(chunk)
                self._changed.notify_all()
                return chunk
            assert self._error is not None
            raise self._error

    def fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
