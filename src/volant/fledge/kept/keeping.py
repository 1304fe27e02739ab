"""What ``fledge images`` does with the store."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec

from volant.artifact.images import ImageRecord, choose_superseded
from volant.core.ids import Digest
from volant.fledge.content import FileRecord
from volant.fledge.dockerfile.buildah import prune_builds
from volant.fledge.kept.examine import Artifact, examine_files
from volant.fledge.kept.publish import NOTES, publish
from volant.fledge.source.image import BUILDS
from volant.fledge.workshop import Workshop

UNUSED_S = 3600.0
"""What came into the store less long ago may be on its way to whoever put it there."""


class Pruned(msgspec.Struct, frozen=True):
    images: tuple[ImageRecord, ...]
    freed_bytes: int


async def list_kept(workshop: Workshop) -> list[ImageRecord]:
    """The newest first."""
    async with workshop.opened():
        return await workshop.shelf.list_images()


async def examine_kept(name: str, workshop: Workshop) -> Artifact:
    """What is in the image called ``name``. Raises NotFound."""
    async with workshop.opened():
        image = await workshop.shelf.find(name)
        return await asyncio.to_thread(examine_files, locate_files(image, workshop))


async def export_kept(name: str, output: Path, workshop: Workshop) -> ImageRecord:
    """Write the files of the image called ``name`` into ``output``. Raises NotFound, ChecksumMismatch, HostError."""
    async with workshop.opened():
        image = await workshop.shelf.find(name)
        paths = locate_files(image, workshop)
        files = {
            file: (paths[file], FileRecord(one.digest.removeprefix("sha256:"), one.size)) for file, one in image.files.items()
        }
        await asyncio.to_thread(publish, output, files, last="manifest.json", notes=workshop.cache.root / NOTES)
        return image


async def prune_kept(names: tuple[str, ...], older_than_s: float | None, is_trial: bool, workshop: Workshop) -> Pruned:
    """Remove the images called ``names``, or those that newer builds replaced; then all that nothing needs.

    Raises:
        NotFound: there is no image of a name, and nothing was removed.
    """
    async with workshop.opened():
        now = time.time()
        every = await workshop.shelf.list_images()
        if names:
            chosen = [await workshop.shelf.find(name) for name in names]
        else:
            chosen = choose_superseded(every, None if older_than_s is None else now - older_than_s)
        if is_trial:
            return Pruned(tuple(chosen), await _measure(chosen, every, workshop))
        before = sum((await workshop.store.list()).values())
        for image in chosen:
            await workshop.shelf.remove(image)
        for digest in {file.digest for image in chosen for file in image.files.values()}:
            await workshop.store.remove(digest)
        await workshop.store.sweep(set(), now - UNUSED_S)
        freed = before - sum((await workshop.store.list()).values())
        if older_than_s is not None:
            freed += await workshop.cache.prune(now - older_than_s)
            if not await prune_builds(workshop.cache.root / BUILDS):
                workshop.progress.note("the layers of a Dockerfile that is being built stay")
        return Pruned(tuple(chosen), max(0, freed))


async def _measure(chosen: list[ImageRecord], every: list[ImageRecord], workshop: Workshop) -> int:
    """What would go with ``chosen``: files that neither another image nor anybody else holds."""
    owners = {image.owner for image in chosen}
    held = await workshop.store.held()
    sizes = {file.digest: file.size for image in chosen for file in image.files.values()}
    return sum(size for digest, size in sizes.items() if not held.get(digest, set()) - owners)


def locate_files(image: ImageRecord, workshop: Workshop) -> dict[str, Path]:
    """Where each file of ``image`` lies. Raises NotFound: one is gone from the store."""
    return {name: workshop.store.locate(Digest(file.digest)) for name, file in image.files.items()}
