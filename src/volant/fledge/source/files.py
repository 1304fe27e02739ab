"""Content that lies on this machine: a directory, one static program, or nothing but what the recipe maps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from volant.core.errors import InvalidInput
from volant.fledge.cache import Workspace
from volant.fledge.describe import Content
from volant.fledge.epoch import fixed_epoch
from volant.fledge.recipe.record import Recipe
from volant.fledge.source.binary import check_binary, digest_binary, make_binary_root
from volant.fledge.source.directory import copy_directory, digest_directory
from volant.fledge.source.material import Material, SourceRecord
from volant.fledge.source.oci import machine_platform
from volant.fledge.workshop import Workshop

FORMAT = 1
"""Goes up when the same files give another tree."""


@asynccontextmanager
async def open_file_material(workshop: Workshop, recipe: Recipe, base: Path) -> AsyncIterator[Material]:
    """As ``open_material``, for ``source.directory``, ``source.binary`` and neither."""
    if recipe.source.directory:
        yield await _open_directory(workshop, recipe, base)
    elif recipe.source.binary:
        yield await _open_binary(workshop, recipe, base)
    else:
        yield _make_empty()


def _make_empty() -> Material:
    async def fill(tree: Path, workspace: Workspace) -> dict[str, str]:
        return {}

    epoch_s = fixed_epoch()
    record = SourceRecord(kind="mappings")
    return Material(record=record, content=Content(), key=("nothing",), fill=fill, limit_s=epoch_s, settled_s=epoch_s)


async def _open_directory(workshop: Workshop, recipe: Recipe, base: Path) -> Material:
    path, owners = base / recipe.source.directory, recipe.source.owners
    if not path.is_dir():
        raise InvalidInput(f"source.directory: there is no directory {path}", field="source.directory")
    epoch_s = fixed_epoch()
    with workshop.progress.step(f"Looking at {recipe.source.directory}"):
        digest = await asyncio.to_thread(digest_directory, path, owners=owners)

    async def fill(tree: Path, workspace: Workspace) -> dict[str, str]:
        with workshop.progress.step(f"Copying {recipe.source.directory}"):
            copied = await asyncio.to_thread(copy_directory, path, tree, owners=owners, epoch_s=epoch_s)
        if copied != digest:
            raise InvalidInput(f"{path} changed while it was read", field="source.directory", hint="build again when it rests")
        return {}

    return Material(
        record=SourceRecord(kind="directory", reference=recipe.source.directory, sha256=digest),
        content=Content(name=path.resolve().name.lower()),
        key=("directory", FORMAT, digest, owners, epoch_s),
        fill=fill,
        limit_s=epoch_s,
        settled_s=epoch_s,
    )


async def _open_binary(workshop: Workshop, recipe: Recipe, base: Path) -> Material:
    source = recipe.source
    path = base / source.binary
    platform = machine_platform()
    await asyncio.to_thread(check_binary, path, platform)
    digest = await asyncio.to_thread(digest_binary, path, certificates=source.certificates)
    epoch_s = fixed_epoch()

    async def fill(tree: Path, workspace: Workspace) -> dict[str, str]:
        await asyncio.to_thread(make_binary_root, path, tree, certificates=source.certificates, platform=platform)
        if await asyncio.to_thread(digest_binary, path, certificates=source.certificates) != digest:
            raise InvalidInput(f"{path} changed while it was read", field="source.binary", hint="build again when it rests")
        return {}

    return Material(
        record=SourceRecord(kind="binary", reference=source.binary, sha256=digest),
        content=Content(name=path.name.lower(), entrypoint=(f"/bin/{path.name}",)),
        key=("binary", FORMAT, digest, epoch_s),
        fill=fill,
        # All of it was made just now, so all of it has this time.
        limit_s=0,
        settled_s=epoch_s,
    )
