"""Content that comes as an OCI image, from wherever images are found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from volant.core.errors import InvalidInput, NotFound
from volant.fledge.cache import Workspace, derive_key
from volant.fledge.content import record_file
from volant.fledge.describe import Content
from volant.fledge.dockerfile.build import BuildSecret, DockerfileRequest, build_dockerfile, digest_context
from volant.fledge.epoch import DEFAULT_EPOCH_S, fixed_epoch, read_created, read_epoch
from volant.fledge.layers.budget import UnpackLimits
from volant.fledge.layers.unpack import unpack_layers
from volant.fledge.recipe.record import Recipe
from volant.fledge.source.daemons import export_local_image, find_local_image
from volant.fledge.source.docker_archive import unpack_docker_archive
from volant.fledge.source.image_reference import ImageReference, parse_image
from volant.fledge.source.material import Material, SourceRecord
from volant.fledge.source.oci import Image, machine_platform, read_image, unpack_archive
from volant.fledge.source.script import open_scripted_layout
from volant.fledge.workshop import Workshop

FORMAT = 2
"""Goes up when the same layers give another tree."""

BUILDS = "buildah"
"""Where in the cache buildah keeps layers."""


@asynccontextmanager
async def open_image_material(workshop: Workshop, recipe: Recipe, base: Path) -> AsyncIterator[Material]:
    """As ``open_material``, for ``source.image``, ``source.dockerfile`` and ``source.script``."""
    async with AsyncExitStack() as stack:
        if recipe.source.dockerfile:
            opened = _open_dockerfile(workshop, recipe, base)
        elif recipe.source.script:
            opened = _open_script(workshop, recipe, base)
        else:
            opened = _open_named(workshop, recipe, base)
        image, kind, reference, name = await stack.enter_async_context(opened)
        yield _describe(workshop, image, kind, reference, name)


Opened = tuple[Image, str, str, str]
"""The image, the kind of source, what the recipe calls it, and a name for the plugin that is made of it."""


def _describe(workshop: Workshop, image: Image, kind: str, reference: str, name: str) -> Material:
    async def fill(tree: Path, workspace: Workspace) -> dict[str, str]:
        total = sum(layer.size_bytes for layer in image.layers)
        with workshop.progress.step("Unpacking the image") as step:
            done: dict[str, int] = {}

            def report(digest: str, read_bytes: int, _of: int) -> None:
                done[digest] = read_bytes
                step.count(sum(done.values()), total)

            unpacked = await unpack_layers(image.layers, tree, UnpackLimits(), epoch_s=settled_s, report=report)
        for line in unpacked.skipped:
            workshop.progress.note(line)
        return {}

    epoch_s = read_epoch()
    # Nothing in an image is newer than the image itself, but for what unpacking it made.
    limit_s = epoch_s if epoch_s is not None else read_created(image.config.created)
    settled_s = fixed_epoch() if limit_s is None else limit_s
    return Material(
        record=SourceRecord(
            kind=kind,
            reference=reference,
            manifest_digest=image.digest,
            layers=tuple(layer.digest for layer in image.layers),
        ),
        content=Content(
            config=image.config,
            name=name,
            tag=image.tag,
            image=reference if kind == "image" else "",
            image_digest=image.digest,
        ),
        key=("image", FORMAT, image.digest),
        fill=fill,
        limit_s=limit_s,
        settled_s=settled_s,
    )


@asynccontextmanager
async def _open_named(workshop: Workshop, recipe: Recipe, base: Path) -> AsyncIterator[Opened]:
    text, platform = recipe.source.image, recipe.source.platform
    reference = parse_image(text, base)
    async with AsyncExitStack() as stack:
        if reference.place in ("layout", "archive", "docker-archive"):
            layout = await stack.enter_async_context(_open_file(workshop, reference))
            name = reference.path.name.removesuffix(".tar")
            image = await asyncio.to_thread(read_image, layout, reference.tag, platform)
        else:
            name, _ = split_name(reference.name)
            image = await stack.enter_async_context(_open_remote(workshop, reference, platform))
        yield image, "image", text, name


def split_name(reference: str) -> tuple[str, str]:
    """The last part of an image's name and its tag: ``registry.example.org:5000/a/web:1`` is ``web`` and ``1``."""
    last = reference.partition("@")[0].rpartition("/")[2]
    name, _, tag = last.partition(":")
    return name, tag


@asynccontextmanager
async def _open_file(workshop: Workshop, reference: ImageReference) -> AsyncIterator[Path]:
    if reference.place == "layout":
        yield reference.path
        return
    archive = reference.path

    async def unpack(target: Path, _workspace: Workspace) -> None:
        with workshop.progress.step(f"Reading {archive.name}"):
            if reference.place == "archive":
                await asyncio.to_thread(unpack_archive, archive, target)
            else:
                await asyncio.to_thread(unpack_docker_archive, archive, target, reference.tag)

    record = await asyncio.to_thread(_record_archive, archive)
    key = derive_key("archive", reference.place, record, reference.tag if reference.place == "docker-archive" else "")
    async with workshop.cache.entry("archives", key, unpack) as entry:
        yield entry


def _record_archive(archive: Path) -> str:
    try:
        return record_file(archive).sha256
    except OSError as error:
        raise InvalidInput(f"{archive} cannot be read: {error.strerror}", field="source.image") from error


@asynccontextmanager
async def _open_remote(workshop: Workshop, reference: ImageReference, platform: str) -> AsyncIterator[Image]:
    """From the storage of a Docker or podman here, when it is asked for or has an image of a bare name; else from a registry."""
    if reference.place in ("local-storage", "anywhere"):
        local = await find_local_image(reference.name, platform or machine_platform())
        if local is not None:
            found = local

            async def take(target: Path, workspace: Workspace) -> None:
                with workshop.progress.step(f"Taking {found.reference} from {found.program}"):
                    await export_local_image(found, target, workspace)

            key = derive_key("local", found.image_id)
            async with workshop.cache.entry("local-images", key, take) as layout:
                yield await asyncio.to_thread(read_image, layout, "", platform)
            return
        if reference.place == "local-storage":
            raise NotFound(
                f"no Docker or podman here has the image {reference.name}",
                hint="docker images or podman images lists those there are",
            )
    # An HTTP client takes long to load, and most builds need none.
    from volant.fledge.source.registry import open_registry_image

    async with open_registry_image(workshop, reference.name, platform) as image:
        yield image


@asynccontextmanager
async def _open_script(workshop: Workshop, recipe: Recipe, base: Path) -> AsyncIterator[Opened]:
    source = recipe.source
    async with open_scripted_layout(
        workshop.cache, script=source.script, inputs=source.script_inputs, base=base, epoch_s=fixed_epoch(),
        progress=workshop.progress,
    ) as layout:  # fmt: skip
        yield await asyncio.to_thread(read_image, layout), "script", source.script, ""


@asynccontextmanager
async def _open_dockerfile(workshop: Workshop, recipe: Recipe, base: Path) -> AsyncIterator[Opened]:
    source = recipe.source
    dockerfile = base / source.dockerfile
    context = base / source.context if source.context else dockerfile.parent
    request = DockerfileRequest(
        context=context,
        dockerfile=dockerfile,
        target=source.target,
        build_args=source.build_args,
        secrets=tuple(BuildSecret(name, base / path) for name, path in sorted(source.secrets.items())),
        platform=source.platform,
        network=source.build_network,
        # Not SOURCE_DATE_EPOCH: layers are kept for each time, and what is newer than that is settled in the tree.
        epoch_s=DEFAULT_EPOCH_S,
    )
    from volant.fledge.source.registry import resolve_bases

    digest = await digest_context(request)
    bases = await resolve_bases(workshop, request)

    async def make(target: Path, workspace: Workspace) -> None:
        with workshop.progress.step(f"Building {source.dockerfile}") as step:
            await build_dockerfile(request, target, workshop.cache.root / BUILDS, workspace, step.say)

    async with workshop.cache.entry("dockerfiles", derive_key("dockerfile", digest, bases), make) as layout:
        image = await asyncio.to_thread(read_image, layout, "", source.platform)
        yield image, "dockerfile", source.dockerfile, context.resolve().name.lower()
