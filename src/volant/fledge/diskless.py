"""The guest's root as an initramfs, made once for the same inputs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from volant.core.errors import InvalidInput
from volant.core.ids import Digest
from volant.fledge.cache import Workspace, derive_key
from volant.fledge.content import FileRecord, record_file
from volant.fledge.epoch import fixed_epoch
from volant.fledge.initramfs.busybox import BusyboxChoice, open_busybox
from volant.fledge.initramfs.make import (
    FORMAT,
    InitramfsRecord,
    InitramfsRequest,
    describe_compressor,
    least_memory_mb,
    make_initramfs,
)
from volant.fledge.kept.contents import FILE as CONTENTS
from volant.fledge.kernel.boot import BootFiles
from volant.fledge.prepared import check_privilege, list_contents, prepare_tree, read_packages
from volant.fledge.recipe.mapping import Mapping, digest_mappings
from volant.fledge.recipe.record import InitramfsSection, Recipe
from volant.fledge.recipe.rules import read_resources
from volant.fledge.sbom.scan import Scan
from volant.fledge.source.material import Material
from volant.fledge.workshop import Workshop

RECORD = "record.json"
_ENDINGS = {"none": "", "gzip": ".gz", "zstd": ".zst", "xz": ".xz"}


class DisklessRecord(msgspec.Struct, frozen=True):
    made: InitramfsRecord
    tools: dict[str, str]

    @property
    def initramfs(self) -> FileRecord:
        return self.made.initramfs


class Diskless(msgspec.Struct, frozen=True):
    """The initramfs is in the store, ``file`` is what it is called beside a manifest. ``contents`` lists what was put in."""

    file: str
    record: DisklessRecord
    contents: Path
    scan: Scan


class DisklessChoice(msgspec.Struct, frozen=True, kw_only=True):
    """``busybox`` is None for a guest without it."""

    request: InitramfsRequest
    busybox: BusyboxChoice | None
    memory_mb: int


def choose_initramfs(recipe: Recipe, base: Path) -> DisklessChoice:
    """What the recipe says of its initramfs; paths begin at ``base``. Raises InvalidInput: the file of its init is not there."""
    init_file = None
    if recipe.init is not None and recipe.init.path:
        init_file = base / recipe.init.path
        if not init_file.is_file():
            raise InvalidInput(f"init.path: there is no file {init_file}", field="init.path")
    init = recipe.init
    source = recipe.source
    return DisklessChoice(
        request=InitramfsRequest(
            init="kestrel" if init is None else "none" if init.none else "custom",
            init_file=init_file,
            compression=(recipe.initramfs or InitramfsSection()).compression,
            epoch_s=fixed_epoch(),
        ),
        busybox=BusyboxChoice(url=source.busybox_url, sha256=source.busybox_sha256) if source.busybox else None,
        memory_mb=read_resources(recipe).memory_mb,
    )


@asynccontextmanager
async def open_diskless(
    workshop: Workshop, choice: DisklessChoice, material: Material, mappings: tuple[Mapping, ...], boot: BootFiles
) -> AsyncIterator[Diskless]:
    """The initramfs, made when the store has none of these inputs, and held there inside the block.

    Raises:
        VolantError: the content cannot be had or unpacked, or it holds what an initramfs cannot.
    """
    request = choice.request
    file = f"initramfs.cpio{_ENDINGS[request.compression]}"
    async with AsyncExitStack() as stack:
        busybox = None
        if choice.busybox is not None:
            busybox = await stack.enter_async_context(open_busybox(workshop.cache, choice.busybox, workshop.progress))
        mapped = await asyncio.to_thread(digest_mappings, mappings)
        init = (
            "" if request.init_file is None else await asyncio.to_thread(lambda: record_file(request.init_file or Path()).sha256)
        )
        key = derive_key(
            "initramfs", FORMAT, material.key, material.limit_s, material.settled_s, mapped, request.init, init,
            request.compression, describe_compressor(request.compression), request.epoch_s, boot.record.initramfs.sha256,
            "" if busybox is None else busybox.record.sha256,
        )  # fmt: skip

        async def make(target: Path, workspace: Workspace) -> None:
            check_privilege()
            prepared = await prepare_tree(workshop, material, mappings, workspace)
            await list_contents(workshop, prepared.tree, target)
            path = workspace.path / file
            with workshop.progress.step(f"Writing {file}") as step:
                made = await make_initramfs(request, prepared.tree, path, boot=boot.initramfs, busybox=busybox)
                step.count(made.initramfs.size)
                await workshop.keep_made(path, made.initramfs)
            for lost in made.lost_attributes:
                workshop.progress.note(f"{lost} has attributes, which an initramfs cannot hold")
            (target / RECORD).write_bytes(msgspec.json.encode(DisklessRecord(made, prepared.tools)))

        def is_whole(entry: Path) -> bool:
            return workshop.store.has(Digest(f"sha256:{_read(entry).initramfs.sha256}"))

        entry = await stack.enter_async_context(workshop.cache.entry("initramfs", key, make, is_whole=is_whole))
        record = _read(entry)
        _check_memory(choice, record.made)
        await workshop.keep(record.initramfs)
        yield Diskless(file, record, entry / CONTENTS, read_packages(entry))


def _check_memory(choice: DisklessChoice, made: InitramfsRecord) -> None:
    # With less the kernel starts half of the guest, and says so on its console alone.
    least_mb = least_memory_mb(made)
    if choice.memory_mb < least_mb:
        raise InvalidInput(
            f"the guest needs {least_mb} MiB of memory to unpack itself, and resources.memory_mb is {choice.memory_mb}",
            field="resources.memory_mb",
            hint=f"write memory_mb = {least_mb} or more, or choose an [initramfs] compression",
        )


def _read(entry: Path) -> DisklessRecord:
    return msgspec.json.decode((entry / RECORD).read_bytes(), type=DisklessRecord)
