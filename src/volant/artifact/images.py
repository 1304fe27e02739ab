"""The images of a store: what was built, under its name and version, each held as long as it is kept.

``ROOT/images/<64 hexadecimal digits>.json``, named by the digest of the image's manifest.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from pathlib import Path

import msgspec

from volant.artifact.holds import hex_of
from volant.artifact.store import ArtifactStore
from volant.core.errors import InvalidInput, NotFound
from volant.core.ids import Digest

DIRECTORY = "images"
RECORD_MAX_BYTES = 1024 * 1024
PREFIX_MIN = 6
_PREFIX = re.compile(rf"(?:sha256:)?(?P<digits>[0-9a-f]{{{PREFIX_MIN},64}})")


class ImageFile(msgspec.Struct, frozen=True):
    """``size`` counts bytes."""

    digest: Digest
    size: int


class ImageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``digest`` is that of manifest.json, which is one of ``files`` (by their names); ``built_at`` is seconds since 1970."""

    name: str
    version: str
    digest: Digest
    source: str
    built_at: int
    files: dict[str, ImageFile]

    @property
    def reference(self) -> str:
        return f"{self.name}:{self.version}"

    @property
    def size(self) -> int:
        return sum({file.digest: file.size for file in self.files.values()}.values())

    @property
    def owner(self) -> str:
        """The name under which the image holds its files."""
        return f"image-{hex_of(self.digest)}"


class ImageShelf:
    """The images in ``store``, at ``root``. Safe with many programs at once: a record appears and goes whole."""

    def __init__(self, root: Path, store: ArtifactStore) -> None:
        self._directory = root / DIRECTORY
        self._store = store

    async def add(self, record: ImageRecord) -> None:
        """Hold the image's files and list it. They must be in the store, or be put there before anybody reads the list."""
        await self._store.hold(*(file.digest for file in record.files.values()), owner=record.owner)
        await asyncio.to_thread(self._write, record)

    async def list_images(self) -> list[ImageRecord]:
        """The newest first."""
        return await asyncio.to_thread(self._read_all)

    async def find(self, text: str) -> ImageRecord:
        """The image called ``text``: a name (its newest), ``NAME:VERSION``, or the first digits of its digest.

        Raises:
            NotFound: there is none. InvalidInput: the digits fit several.
        """
        images = await self.list_images()
        named = [one for one in images if text in (one.name, one.reference)]
        if named:
            return named[0]
        match = _PREFIX.fullmatch(text)
        fitting = [one for one in images if match and hex_of(one.digest).startswith(match["digits"])]
        if len(fitting) > 1:
            raise InvalidInput(f"{len(fitting)} images begin with {text}", hint="give more digits")
        if not fitting:
            raise NotFound(f"there is no image {text!r}", hint="fledge images list shows those there are")
        return fitting[0]

    async def remove(self, record: ImageRecord) -> None:
        """Take it off the list; its files go with the next sweep unless something else needs them."""
        await asyncio.to_thread((self._directory / f"{hex_of(record.digest)}.json").unlink, missing_ok=True)
        await self._store.release(*(file.digest for file in record.files.values()), owner=record.owner)

    def _write(self, record: ImageRecord) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self._directory / f".{secrets.token_hex(8)}"
        try:
            with temporary.open("xb") as stream:
                stream.write(msgspec.json.encode(record))
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(self._directory / f"{hex_of(record.digest)}.json")
        finally:
            temporary.unlink(missing_ok=True)

    def _read_all(self) -> list[ImageRecord]:
        found = []
        for path in self._directory.glob("*.json"):
            try:
                with path.open("rb") as stream:
                    found.append(msgspec.json.decode(stream.read(RECORD_MAX_BYTES), type=ImageRecord))
            except (FileNotFoundError, msgspec.MsgspecError):
                continue  # it has just gone, or another version wrote it
        return sorted(found, key=lambda one: (-one.built_at, one.reference, one.digest))


def choose_superseded(images: list[ImageRecord], unused_since: float | None = None) -> list[ImageRecord]:
    """Those that a newer build of the same name and version replaced, and with ``unused_since`` all that are older than that."""
    seen: set[str] = set()
    chosen = []
    for one in sorted(images, key=lambda image: -image.built_at):
        is_newest = one.reference not in seen
        seen.add(one.reference)
        if not is_newest or (unused_since is not None and one.built_at < unused_since):
            chosen.append(one)
    return chosen
