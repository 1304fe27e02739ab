"""The guest's root as one file system image, made once for the same inputs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from volant.core.failure import first_error
from volant.core.ids import Digest
from volant.fledge.cache import Workspace, derive_key
from volant.fledge.content import FileRecord, record_file, sync_file
from volant.fledge.filesystems.choice import REPEATABLE, FilesystemChoice, check_choice
from volant.fledge.filesystems.make import make_filesystem, read_tool_version
from volant.fledge.kept.contents import FILE as CONTENTS
from volant.fledge.prepared import Prepared, check_privilege, list_contents, prepare_tree, read_packages
from volant.fledge.recipe.mapping import Mapping, digest_mappings
from volant.fledge.recipe.record import FilesystemSection
from volant.fledge.sbom.scan import Scan
from volant.fledge.source.material import Material
from volant.fledge.workshop import Workshop

FORMAT = 2
"""Goes up when the same inputs give another file."""

RECORD = "record.json"


class RootRecord(msgspec.Struct, frozen=True):
    rootfs: FileRecord
    tools: dict[str, str]


class Root(msgspec.Struct, frozen=True):
    """The image is in the store, ``file`` is what it is called beside a manifest. ``contents`` lists what lies in it."""

    file: str
    record: RootRecord
    contents: Path
    scan: Scan


def choose_filesystem(section: FilesystemSection | None) -> FilesystemChoice:
    section = section or FilesystemSection()
    return FilesystemChoice(
        type=section.type,
        compression=section.compression,
        compression_level=section.compression_level,
        size_buffer_mb=section.size_buffer_mb,
        preallocate=section.preallocate,
    )


def check_filesystem(section: FilesystemSection | None) -> None:
    """Raises InvalidInput when no such file system can be made."""
    check_choice(choose_filesystem(section))


@asynccontextmanager
async def open_root(
    workshop: Workshop, choice: FilesystemChoice, material: Material, mappings: tuple[Mapping, ...]
) -> AsyncIterator[Root]:
    """The root file system, made when the store has none of these inputs, and held there inside the block.

    Raises:
        VolantError: the content cannot be had, unpacked or written.
    """
    mkfs = await read_tool_version(choice)
    mapped = await asyncio.to_thread(digest_mappings, mappings)
    key = derive_key("root", FORMAT, material.key, material.limit_s, material.settled_s, mapped, choice, mkfs)
    if choice.type not in REPEATABLE:
        workshop.progress.note(f"{choice.type} is written by the kernel: no two builds of it are the same to the byte")

    async def make(target: Path, workspace: Workspace) -> None:
        check_privilege()
        prepared = await prepare_tree(workshop, material, mappings, workspace)
        path = workspace.path / f"rootfs.{choice.type}"
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(list_contents(workshop, prepared.tree, target))
                writing = group.create_task(write(prepared, path, workspace))
        except ExceptionGroup as errors:
            raise first_error(errors) from errors
        (target / RECORD).write_bytes(msgspec.json.encode(writing.result()))

    async def write(prepared: Prepared, path: Path, workspace: Workspace) -> RootRecord:
        with workshop.progress.step(f"Writing {path.name}") as step:
            await make_filesystem(
                choice, prepared.tree, path, identity=key, newest_s=prepared.newest_s, lock_fd=workspace.lock_fd
            )
            made, _ = await asyncio.gather(asyncio.to_thread(record_file, path), asyncio.to_thread(sync_file, path))
            record = RootRecord(made, {**prepared.tools, "mkfs": mkfs})
            step.count(record.rootfs.size)
            await workshop.keep_made(path, record.rootfs)
        return record

    def is_whole(entry: Path) -> bool:
        return workshop.store.has(Digest(f"sha256:{_read(entry).rootfs.sha256}"))

    async with workshop.cache.entry("roots", key, make, is_whole=is_whole) as entry:
        record = _read(entry)
        await workshop.keep(record.rootfs)
        yield Root(f"rootfs.{choice.type}", record, entry / CONTENTS, read_packages(entry))


def _read(entry: Path) -> RootRecord:
    return msgspec.json.decode((entry / RECORD).read_bytes(), type=RootRecord)
