"""An image from a registry as an OCI layout (image-spec v1.1, image-layout.md): only what is missing, safe for many at once."""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from volant.artifact.disk import explain_disk, finish
from volant.artifact.registry.documents import DOCUMENT_MAX_BYTES, Descriptor, decode_document
from volant.artifact.registry.download import Downloads, Report
from volant.artifact.registry.partial import LOCK_RETRY_S, is_there
from volant.artifact.registry.resolve import ResolvedImage
from volant.core.clock import Clock
from volant.core.failure import first_error
from volant.core.ids import Digest

REF_NAME = "org.opencontainers.image.ref.name"

_MARKER = b'{"imageLayoutVersion":"1.0.0"}'


class _Index(msgspec.Struct, frozen=True):
    """The entries as they are: what others wrote into them stays."""

    manifests: tuple[dict[str, Any], ...] = ()


async def write_image(
    downloads: Downloads, image: ResolvedImage, layout: Path, clock: Clock, *, tag: str, report: Report | None = None
) -> int:
    """Bring ``image`` into ``layout``, made when missing, under the name ``tag``; returns how many layers had to be fetched.

    The index names the image last, when all of it is there. The manifest keeps its bytes, so also its digest.

    Raises:
        As ``Downloads.fetch``; the first error ends the other transfers, and what they got is kept for the next time.
    """
    blobs = layout / "blobs" / "sha256"
    with explain_disk(layout):
        blobs.mkdir(parents=True, exist_ok=True)
    if not (layout / "oci-layout").is_file():
        await finish(asyncio.to_thread(_write_file, layout / "oci-layout", _MARKER))
    layers = {layer.digest: layer for layer in image.layers}
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(
                    downloads.fetch(image.reference, layer, blob_path(layout, digest), partials=layout / "partial", report=report)
                )
                for digest, layer in layers.items()
            ]
    except ExceptionGroup as errors:
        raise first_error(errors) from errors
    for descriptor, content in ((image.config_descriptor, image.config), (image.descriptor, image.manifest)):
        path = blob_path(layout, descriptor.digest)
        if not is_there(path, descriptor):
            await finish(asyncio.to_thread(_write_file, path, content))
    await _add_to_index(layout, image.descriptor, tag, clock)
    return sum(task.result() for task in tasks)


def blob_path(layout: Path, digest: Digest) -> Path:
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


async def _add_to_index(layout: Path, descriptor: Descriptor, tag: str, clock: Clock) -> None:
    path = layout / "index.json"
    entry = {
        "mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size, "annotations": {REF_NAME: tag},
    }  # fmt: skip
    async with _lock_directory(layout, clock):
        content = b"{}"
        with explain_disk(path):
            if path.exists():
                with path.open("rb") as stream:
                    content = stream.read(DOCUMENT_MAX_BYTES)
        index = decode_document(content, _Index, str(path))
        others = [each for each in index.manifests if (each.get("annotations") or {}).get(REF_NAME) != tag]
        document = {"schemaVersion": 2, "manifests": [*others, entry]}
        await finish(asyncio.to_thread(_write_file, path, msgspec.json.encode(document)))


@asynccontextmanager
async def _lock_directory(directory: Path, clock: Clock) -> AsyncIterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # A thread that waits in flock cannot be cancelled, so this asks again.
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await clock.sleep(LOCK_RETRY_S)
        yield
    finally:
        os.close(descriptor)


def _write_file(path: Path, content: bytes) -> None:
    """Whole or not at all, whoever else writes the same."""
    arriving = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    with explain_disk(path):
        try:
            with arriving.open("xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            arriving.replace(path)
        finally:
            arriving.unlink(missing_ok=True)
