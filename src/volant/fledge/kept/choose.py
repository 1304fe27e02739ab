"""Artifacts as people name them: a directory, a manifest, or an image in the store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from volant.fledge.build_record import BUILD_RECORD, MANIFEST
from volant.fledge.kept.compare import Difference, compare_contents, compare_documents, compare_packages
from volant.fledge.kept.contents import FILE as CONTENTS
from volant.fledge.kept.contents import read_contents
from volant.fledge.kept.examine import Artifact, examine_files, find_files
from volant.fledge.kept.keeping import locate_files
from volant.fledge.papers.write import PROVENANCE, SBOM
from volant.fledge.workshop import Workshop

# What these say follows from the rest, which is compared in words that mean more.
_DERIVED = (BUILD_RECORD, SBOM, PROVENANCE, CONTENTS, MANIFEST)


async def find_given(given: str, workshop: Workshop) -> dict[str, Path]:
    """The files of what ``given`` names, by their names. Raises NotFound, InvalidInput."""
    path = Path(given)
    if await asyncio.to_thread(path.exists):
        return await asyncio.to_thread(find_files, path)
    return locate_files(await workshop.shelf.find(given), workshop)


async def examine_given(given: str, workshop: Workshop) -> Artifact:
    """What is in what ``given`` names. Raises NotFound, InvalidInput, ChecksumMismatch."""
    async with workshop.opened():
        return await asyncio.to_thread(examine_files, await find_given(given, workshop))


async def compare_given(left: str, right: str, workshop: Workshop) -> list[Difference]:
    """What differs between two artifacts; nothing when they are the same to the byte.

    Raises:
        NotFound, InvalidInput, ChecksumMismatch: one of them is not there or not whole.
    """
    async with workshop.opened():
        sides = [await find_given(given, workshop) for given in (left, right)]
        return await asyncio.to_thread(lambda: list(compare_files(*sides)))


def compare_files(left: Mapping[str, Path], right: Mapping[str, Path]) -> Iterator[Difference]:
    """As ``compare_given``, for artifacts by their files."""
    one, other = examine_files(left), examine_files(right)
    if one.files == other.files:
        return
    yield from compare_documents("manifest", _plain(one.manifest), _plain(other.manifest))
    if one.record is not None and other.record is not None:
        yield from compare_documents("build", _describe_build(one), _describe_build(other))
    yield from compare_packages(*(((package.name, package.version) for package in side.packages) for side in (one, other)))
    if CONTENTS in left and CONTENTS in right and one.files[CONTENTS] != other.files[CONTENTS]:
        yield from compare_contents(read_contents(left[CONTENTS]), read_contents(right[CONTENTS]))
    for name in sorted({*one.files, *other.files}):
        sides = [side.files.get(name) for side in (one, other)]
        if name not in _DERIVED and sides[0] != sides[1]:
            shown = ["" if record is None else f"sha256:{record.sha256} ({record.size} bytes)" for record in sides]
            yield Difference("artifact", name, "added" if not shown[0] else "removed" if not shown[1] else "changed", *shown)


def _plain(record: msgspec.Struct) -> object:
    return msgspec.json.decode(msgspec.json.encode(record))


def _describe_build(artifact: Artifact) -> object:
    """Of the build's record what is said nowhere else: the source, the kernel, the tools."""
    plain = _plain(artifact.record) if artifact.record is not None else {}
    assert isinstance(plain, dict)
    plain.pop("outputs", None)
    plain.get("source", {}).pop("packages", None)
    return plain
