"""``fledge build``, from the recipe to an image in the store and to files in the output directory."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from volant import __version__
from volant.artifact.images import ImageFile, ImageRecord
from volant.core.failure import first_error
from volant.core.ids import Digest
from volant.core.manifest import Boot, Manifest, Media, RootFilesystem
from volant.fledge.build_record import BUILD_RECORD, MANIFEST, BuildRecord
from volant.fledge.content import FileRecord, record_bytes, record_file
from volant.fledge.describe import describe_plugin, write_manifest
from volant.fledge.diskless import Diskless, choose_initramfs, open_diskless
from volant.fledge.initramfs.make import BOOT_FILESYSTEM
from volant.fledge.kept.contents import FILE as CONTENTS
from volant.fledge.kept.publish import NOTES, publish
from volant.fledge.kernel.agent import open_agent
from volant.fledge.kernel.boot import BootFiles, KernelChoice, open_boot_files
from volant.fledge.kernel.minimal import count_jobs
from volant.fledge.papers.write import write_papers
from volant.fledge.recipe.manifest_toml import FILE as MANIFEST_TOML
from volant.fledge.recipe.manifest_toml import add_manifest, read_manifest_toml
from volant.fledge.recipe.mapping import read_mappings
from volant.fledge.recipe.read import read_recipe
from volant.fledge.recipe.record import Recipe
from volant.fledge.rootfs import Root, choose_filesystem, open_root
from volant.fledge.sbom.scan import Scan
from volant.fledge.source.material import Material, open_material
from volant.fledge.workshop import Workshop

KERNEL = "vmlinux"
BOOT_INITRAMFS = "boot.cpio"


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """``digest`` is that of manifest.json, by which the store knows the image."""

    record: BuildRecord
    digest: Digest
    files: dict[str, FileRecord]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to build: a recipe, the directory that its paths begin at, and where the files go (None: into the store alone)."""

    recipe: Recipe
    base: Path
    output: Path | None = None


class _Parts(msgspec.Struct, frozen=True, kw_only=True):
    material: Material
    boot: BootFiles
    root: Root | None = None
    diskless: Diskless | None = None

    @property
    def scan(self) -> Scan:
        made = self.root or self.diskless
        assert made is not None
        return made.scan


def read_job(path: Path, output: Path | None, manifest: Path | None = None) -> Job:
    """The recipe at ``path``, with the ``manifest.toml`` beside it, or the one that is named. Raises InvalidInput."""
    recipe = read_recipe(path)
    base = path.absolute().parent
    described = manifest or base / MANIFEST_TOML
    if manifest is not None or described.exists():
        recipe = add_manifest(recipe, read_manifest_toml(described), described.absolute().parent)
    return Job(recipe=recipe, base=base, output=output)


async def build(job: Job, workshop: Workshop) -> Built:
    """Build ``job`` and leave the image in the store, and its files in ``job.output`` when that is given.

    Raises:
        InvalidInput: the recipe, or what it names, cannot be right. VolantError: the build failed.
    """
    async with workshop.opened(), AsyncExitStack() as stack:
        parts = await _make_parts(job, workshop, stack)
        manifest = _describe(job.recipe, parts)
        files = _list_files(parts)
        documents = await asyncio.to_thread(_write_documents, job.recipe, manifest, parts, files)
        with workshop.progress.step(f"Keeping {manifest.name} {manifest.version}"):
            built = await _keep(workshop, parts, files, documents, manifest)
        if job.output is not None:
            with workshop.progress.step(f"Writing {manifest.name} {manifest.version} to {job.output}"):
                await _publish(workshop, job.output, built)
    return built


async def _make_parts(job: Job, workshop: Workshop, stack: AsyncExitStack) -> _Parts:
    """The kernel beside the content, each kept open in ``stack``; the first error ends the other."""
    recipe, base, cache = job.recipe, job.base, workshop.cache
    deb = base / recipe.kernel.deb if recipe.kernel.deb else None
    choice = KernelChoice(source=recipe.kernel.source, package=recipe.kernel.package, deb=deb, jobs=count_jobs())
    filesystem = choose_filesystem(recipe.filesystem)
    mappings = read_mappings(recipe.mappings, base)
    agent = await stack.enter_async_context(open_agent(workshop, recipe.agent, base))

    async def open_boot() -> BootFiles:
        kind = filesystem.type if recipe.strategy == "oci_rootfs" else BOOT_FILESYSTEM
        return await stack.enter_async_context(
            open_boot_files(cache, choice, filesystem=kind, kestrel=agent, progress=workshop.progress)
        )

    async def open_content() -> tuple[Material, Root | None]:
        material = await stack.enter_async_context(open_material(workshop, recipe, base))
        if recipe.strategy != "oci_rootfs":
            return material, None
        return material, await stack.enter_async_context(open_root(workshop, filesystem, material, mappings))

    try:
        async with asyncio.TaskGroup() as group:
            booting, filling = group.create_task(open_boot()), group.create_task(open_content())
    except ExceptionGroup as errors:
        raise first_error(errors) from errors
    boot, (material, root) = booting.result(), filling.result()
    if root is not None:
        return _Parts(material=material, boot=boot, root=root)
    wanted = choose_initramfs(recipe, base)
    diskless = await stack.enter_async_context(open_diskless(workshop, wanted, material, mappings, boot))
    return _Parts(material=material, boot=boot, diskless=diskless)


def _describe(recipe: Recipe, parts: _Parts) -> Manifest:
    kernel = Media(url=KERNEL, checksum=f"sha256:{parts.boot.record.vmlinux.sha256}")
    if parts.root is not None:
        boot = Boot(kernel=kernel, initramfs=Media(url=BOOT_INITRAMFS, checksum=f"sha256:{parts.boot.record.initramfs.sha256}"))
        rootfs = RootFilesystem(
            url=parts.root.file,
            checksum=f"sha256:{parts.root.record.rootfs.sha256}",
            format="raw",
            filesystem=choose_filesystem(recipe.filesystem).type,
        )
        return describe_plugin(recipe, parts.material.content, boot=boot, kernel_label=parts.boot.record.label, rootfs=rootfs)
    assert parts.diskless is not None
    initramfs = parts.diskless.record.initramfs
    return describe_plugin(
        recipe,
        parts.material.content,
        boot=Boot(kernel=kernel),
        kernel_label=parts.boot.record.label,
        initramfs=Media(url=parts.diskless.file, checksum=f"sha256:{initramfs.sha256}"),
    )


def _list_files(parts: _Parts) -> dict[str, FileRecord]:
    """What the manifest names."""
    files = {KERNEL: parts.boot.record.vmlinux}
    if parts.root is not None:
        return {**files, BOOT_INITRAMFS: parts.boot.record.initramfs, parts.root.file: parts.root.record.rootfs}
    assert parts.diskless is not None
    return {**files, parts.diskless.file: parts.diskless.record.initramfs}


def _write_documents(recipe: Recipe, manifest: Manifest, parts: _Parts, files: dict[str, FileRecord]) -> dict[str, bytes]:
    manifest_bytes = write_manifest(manifest)
    boot = parts.boot.record
    made = parts.root or parts.diskless
    assert made is not None
    record = BuildRecord(
        fledge=__version__,
        name=manifest.name,
        version=manifest.version,
        strategy=recipe.strategy,
        source=parts.material.record,
        kernel=boot.kernel,
        kernel_label=boot.label,
        kernel_options_sha256=boot.options_sha256,
        kernel_release=boot.kernel_release,
        kestrel_sha256=boot.kestrel_sha256,
        modules=boot.modules,
        tools={**made.record.tools, **boot.tools},
        outputs={**files, MANIFEST: record_bytes(manifest_bytes)},
    )
    document = msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"
    return {MANIFEST: manifest_bytes, BUILD_RECORD: document, **write_papers(recipe, record, parts.scan)}


async def _keep(
    workshop: Workshop,
    parts: _Parts,
    files: dict[str, FileRecord],
    documents: dict[str, bytes],
    manifest: Manifest,
) -> Built:
    """Put everything into the store, and the image on its shelf. The roots are there already."""
    await workshop.keep_copy(parts.boot.vmlinux, parts.boot.record.vmlinux)
    if BOOT_INITRAMFS in files:
        await workshop.keep_copy(parts.boot.initramfs, parts.boot.record.initramfs)
    made = parts.root or parts.diskless
    assert made is not None
    contents = await asyncio.to_thread(record_file, made.contents)
    await workshop.keep_copy(made.contents, contents)
    written = {name: record_bytes(content) for name, content in documents.items()}
    for name, content in documents.items():
        await workshop.keep_bytes(content, written[name])
    everything = {**files, CONTENTS: contents, **written}
    digest = Digest(f"sha256:{written[MANIFEST].sha256}")
    await workshop.shelf.add(
        ImageRecord(
            name=manifest.name,
            version=manifest.version,
            digest=digest,
            source=parts.material.record.reference or parts.material.record.kind,
            built_at=int(time.time()),
            files={name: ImageFile(Digest(f"sha256:{one.sha256}"), one.size) for name, one in everything.items()},
        )
    )
    record = msgspec.json.decode(documents[BUILD_RECORD], type=BuildRecord)
    return Built(record=record, digest=digest, files=everything)


async def _publish(workshop: Workshop, output: Path, built: Built) -> None:
    files = {name: (workshop.store.locate(Digest(f"sha256:{one.sha256}")), one) for name, one in built.files.items()}
    await asyncio.to_thread(publish, output, files, last=MANIFEST, notes=workshop.cache.root / NOTES, checked=workshop.made)
