"""What a root is made from: known by its digests before anything of it is unpacked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from volant.fledge.cache import Workspace
from volant.fledge.debian.lock import LockedPackage
from volant.fledge.describe import Content
from volant.fledge.recipe.record import Recipe
from volant.fledge.workshop import Workshop

Fill = Callable[[Path, Workspace], Awaitable[dict[str, str]]]
"""Makes the tree in the given empty directory, and says which tools of which version did."""


class SourceRecord(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What the content came from. ``manifest_digest`` and ``layers`` are an image's, ``packages`` those that were locked;
    ``sha256`` is the digest of files of this machine."""

    kind: str
    reference: str = ""
    manifest_digest: str = ""
    layers: tuple[str, ...] = ()
    packages: tuple[LockedPackage, ...] = ()
    sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class Material:
    """``key`` is all that decides what ``fill`` makes.

    ``limit_s``: what is newer was made by the build itself, and gets the time ``settled_s``; None is whatever the build makes.
    """

    record: SourceRecord
    content: Content
    key: tuple[object, ...]
    fill: Fill
    limit_s: int | None
    settled_s: int


@asynccontextmanager
async def open_material(workshop: Workshop, recipe: Recipe, base: Path) -> AsyncIterator[Material]:
    """What ``recipe`` builds from, fetched when that is needed to know what it is. ``base`` is the recipe's directory.

    Raises:
        InvalidInput: the recipe names what is not there or cannot be. VolantError: it cannot be had.
    """
    # Here, because each brings what only it needs.
    if recipe.source.image or recipe.source.dockerfile or recipe.source.script:
        from volant.fledge.source.image import open_image_material as opened
    elif recipe.source.packages:
        from volant.fledge.source.packages import open_package_material as opened
    else:
        from volant.fledge.source.files import open_file_material as opened
    async with opened(workshop, recipe, base) as material:
        yield material
