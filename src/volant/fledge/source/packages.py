"""Content that is installed from Debian packages, as the lock file beside the recipe names them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from volant.fledge.cache import Workspace
from volant.fledge.debian.lock import LOCK_NAME, read_lock, write_lock
from volant.fledge.debian.request import read_request
from volant.fledge.debian.tree import install_lock, settle_lock
from volant.fledge.describe import Content
from volant.fledge.epoch import fixed_epoch, read_epoch
from volant.fledge.recipe.record import Recipe
from volant.fledge.source.material import Material, SourceRecord
from volant.fledge.workshop import Workshop
from volant.run import run

FORMAT = 2
"""Goes up when the same packages give another tree."""

VERSION_TIMEOUT_S = 10.0


@asynccontextmanager
async def open_package_material(workshop: Workshop, recipe: Recipe, base: Path) -> AsyncIterator[Material]:
    """As ``open_material``, for ``source.packages``."""
    source = recipe.source
    request = await read_request(source.packages, source.suite, source.mirror, base)
    path = base / LOCK_NAME
    locked = await asyncio.to_thread(read_lock, path, update=workshop.update_lock)
    settled = await settle_lock(request, locked, update=workshop.update_lock, cache=workshop.cache, progress=workshop.progress)
    if settled.changes is not None:
        for line in settled.changes.describe():
            workshop.progress.note(line)
    epoch_s = fixed_epoch()

    async def fill(tree: Path, workspace: Workspace) -> dict[str, str]:
        await install_lock(
            request, settled.lock, tree, epoch_s=epoch_s, cache=workshop.cache, workspace=workspace, progress=workshop.progress
        )
        return {"mmdebstrap": await _read_version()}

    yield Material(
        record=SourceRecord(kind="packages", reference=" ".join(source.packages), packages=settled.lock.packages),
        content=Content(name=""),
        key=("packages", FORMAT, settled.lock, epoch_s),
        fill=fill,
        limit_s=read_epoch(),
        settled_s=epoch_s,
    )
    if settled.is_new:
        # Only now, when the build from it has gone well.
        await asyncio.to_thread(write_lock, path, settled.lock)
        workshop.progress.note(f"wrote {path}: keep it with the recipe, for the same packages next time")


async def _read_version() -> str:
    printed = await run(["mmdebstrap", "--version"], timeout_s=VERSION_TIMEOUT_S, check=False)
    return printed.text.strip()
