"""``fledge build``, from the recipe to the files in the output directory."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from volant import __version__
from volant.core.errors import VolantError
from volant.core.manifest import Manifest, Media, RootFilesystem
from volant.fledge.apt import Package
from volant.fledge.boot import BootFiles, KernelChoice, open_boot_files
from volant.fledge.cache import Cache
from volant.fledge.content import FileRecord, record_bytes
from volant.fledge.describe import describe_plugin, write_manifest
from volant.fledge.minimal import count_jobs
from volant.fledge.progress import Progress
from volant.fledge.publish import publish
from volant.fledge.recipe import Recipe, read_recipe
from volant.fledge.rootfs import Root, SourceRecord, open_root

MANIFEST = "manifest.json"
BUILD_RECORD = "build.json"


class BuildRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What went in and what came out. It holds neither times nor paths: the same inputs give the same record.

    ``kernel`` is the package of the kernel or of its source; ``kernel_options_sha256`` is empty unless it was compiled here.
    """

    schema_version: str = "1"
    fledge: str
    name: str
    version: str
    source: SourceRecord
    kernel: Package
    kernel_label: str
    kernel_options_sha256: str = ""
    kernel_release: str
    kestrel_sha256: str
    modules: tuple[str, ...]
    tools: dict[str, str]
    outputs: dict[str, FileRecord]


async def build(recipe_path: Path, output: Path, cache: Cache, progress: Progress) -> BuildRecord:
    """Build what ``recipe_path`` says and leave the artifacts, ``manifest.json`` and ``build.json`` in ``output``.

    Raises:
        InvalidInput: the recipe, or what it names, cannot be right. VolantError: the build failed.
    """
    recipe = read_recipe(recipe_path)
    base = _directory_of(recipe_path)
    await cache.open()
    async with AsyncExitStack() as stack:
        boot, root = await _make_parts(recipe, base, cache, progress, stack)
        manifest = _describe(recipe, boot, root)
        record = _record(manifest, boot, root)
        files = {
            "vmlinux": (boot.vmlinux, boot.record.vmlinux),
            "boot.cpio": (boot.initramfs, boot.record.initramfs),
            root.path.name: (root.path, root.record.rootfs),
        }
        documents = {MANIFEST: write_manifest(manifest), BUILD_RECORD: _write_document(record)}
        with progress.step(f"Writing {manifest.name} {manifest.version} to {output}"):
            await asyncio.to_thread(publish, output, files, documents, MANIFEST)
    return record


def _directory_of(recipe_path: Path) -> Path:
    return recipe_path.absolute().parent


async def _make_parts(
    recipe: Recipe, base: Path, cache: Cache, progress: Progress, stack: AsyncExitStack
) -> tuple[BootFiles, Root]:
    """Both parts at once, each kept open in ``stack``; the first error ends the other."""
    deb = base / recipe.kernel.deb if recipe.kernel.deb else None
    choice = KernelChoice(source=recipe.kernel.source, package=recipe.kernel.package, deb=deb, jobs=count_jobs())
    boot_context = open_boot_files(cache, choice, filesystem=recipe.filesystem.type, progress=progress)
    root_context = open_root(cache, recipe, base, progress)
    try:
        async with asyncio.TaskGroup() as group:
            boot = group.create_task(stack.enter_async_context(boot_context))
            root = group.create_task(stack.enter_async_context(root_context))
    except ExceptionGroup as errors:
        raise _first_error(errors) from errors
    return boot.result(), root.result()


def _first_error(errors: ExceptionGroup[Exception]) -> Exception:
    leaves: list[Exception] = []
    for error in errors.exceptions:
        leaves.append(_first_error(error) if isinstance(error, ExceptionGroup) else error)
    return next((leaf for leaf in leaves if not isinstance(leaf, VolantError)), leaves[0])


def _describe(recipe: Recipe, boot: BootFiles, root: Root) -> Manifest:
    return describe_plugin(
        recipe,
        config=root.config,
        source_name=root.name,
        source_tag=root.tag,
        image_digest=root.record.source.manifest_digest,
        kernel_label=boot.record.label,
        kernel=Media(url="vmlinux", checksum=f"sha256:{boot.record.vmlinux.sha256}"),
        initramfs=Media(url="boot.cpio", checksum=f"sha256:{boot.record.initramfs.sha256}"),
        rootfs=RootFilesystem(
            url=root.path.name,
            checksum=f"sha256:{root.record.rootfs.sha256}",
            format="raw",
            filesystem="erofs",
        ),
    )


def _record(manifest: Manifest, boot: BootFiles, root: Root) -> BuildRecord:
    return BuildRecord(
        fledge=__version__,
        name=manifest.name,
        version=manifest.version,
        source=root.record.source,
        kernel=boot.record.kernel,
        kernel_label=boot.record.label,
        kernel_options_sha256=boot.record.options_sha256,
        kernel_release=boot.record.kernel_release,
        kestrel_sha256=boot.record.kestrel_sha256,
        modules=boot.record.modules,
        tools={**root.record.tools, **boot.record.tools},
        outputs={
            "vmlinux": boot.record.vmlinux,
            "boot.cpio": boot.record.initramfs,
            root.path.name: root.record.rootfs,
            MANIFEST: record_bytes(write_manifest(manifest)),
        },
    )


def _write_document(document: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
