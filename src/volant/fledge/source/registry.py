"""Images of registries: each layer fetched once, kept by its digest, shared by all images that have it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from volant.artifact.registry.client import RegistryClient
from volant.artifact.registry.documents import Descriptor
from volant.artifact.registry.platform import parse_platform
from volant.artifact.registry.reference import ImageReference, parse_image_reference
from volant.artifact.registry.resolve import ResolvedImage
from volant.artifact.registry.settings import SETTINGS_VARIABLE, RegistrySettings, read_registry_settings
from volant.core.errors import Unavailable
from volant.core.failure import first_error
from volant.fledge.cache import Workspace, derive_key
from volant.fledge.dockerfile.build import DockerfileRequest, check_request
from volant.fledge.dockerfile.instructions import read_bases
from volant.fledge.progress import Step
from volant.fledge.source.oci import Image, decode_config, machine_platform, make_image
from volant.fledge.workshop import Workshop

BLOB = "blob"
RESOLVED = "image.json"


@asynccontextmanager
async def open_registry_image(workshop: Workshop, name: str, platform: str) -> AsyncIterator[Image]:
    """The image called ``name`` for ``platform`` (this machine's when empty), its layers in the cache.

    Raises:
        InvalidInput: it is no name, or not for that platform. NotFound, Forbidden, Unavailable: the registry says so.
    """
    reference = parse_image_reference(name)
    async with RegistryClient(load_registry_settings()) as client, AsyncExitStack() as kept:
        resolved = await _resolve(workshop, client, reference, platform, kept)
        paths = await _fetch_layers(workshop, client, resolved, kept)
        config = decode_config(resolved.config, str(reference))
        layers = list(zip(resolved.layers, paths, strict=True))
        yield make_image(resolved.digest, layers, config, reference.tag)


async def _resolve(
    workshop: Workshop, client: RegistryClient, reference: ImageReference, platform: str, kept: AsyncExitStack
) -> ResolvedImage:
    """What the registry says; of a digest it is asked once, for that says the same for ever."""

    async def ask() -> ResolvedImage:
        with workshop.progress.step(f"Asking {reference.registry} for {reference.repository}"):
            return await client.resolve(reference, parse_platform(platform) if platform else None)

    if not reference.digest:
        return await ask()

    async def fill(target: Path, _workspace: Workspace) -> None:
        (target / RESOLVED).write_bytes(msgspec.json.encode(await ask()))

    key = derive_key("resolved", reference.name, reference.digest, platform or machine_platform())
    entry = await kept.enter_async_context(workshop.cache.entry("resolved-images", key, fill))
    return msgspec.json.decode((entry / RESOLVED).read_bytes(), type=ResolvedImage)


def load_registry_settings() -> RegistrySettings:
    """What the file that ``FLEDGE_REGISTRIES`` names says, or how registries are reached without one. Raises InvalidInput."""
    path = os.environ.get(SETTINGS_VARIABLE)
    return read_registry_settings(Path(path)) if path else RegistrySettings()


async def resolve_bases(workshop: Workshop, request: DockerfileRequest) -> list[tuple[str, str]]:
    """The images that a Dockerfile builds on, and the digest that each name stands for now, or ``""`` when nobody can say.

    Raises:
        InvalidInput: a base is no name of an image. NotFound, Forbidden: the registry says so.
    """
    dockerfile = await asyncio.to_thread(check_request, request)
    names = read_bases(await asyncio.to_thread(dockerfile.read_text, "utf-8", "replace"), request.build_args)
    found: list[tuple[str, str]] = []
    for name in names:
        try:
            async with RegistryClient(load_registry_settings()) as client:
                document = await client.fetch_document(parse_image_reference(name))
            found.append((name, document.descriptor.digest))
        except Unavailable as error:
            workshop.progress.note(f"whether {name} has changed cannot be asked: {error}")
            found.append((name, ""))
    return found


async def _fetch_layers(workshop: Workshop, client: RegistryClient, resolved: ResolvedImage, kept: AsyncExitStack) -> list[Path]:
    """All at once, as many as the client allows. Each stays in the cache for as long as ``kept`` is open."""
    distinct = {layer.digest: layer for layer in resolved.layers}
    total = sum(layer.size for layer in distinct.values())
    entries: dict[str, asyncio.Task[Path]] = {}
    with workshop.progress.step(f"Fetching {resolved.reference.repository}") as step:
        done: dict[str, int] = {}
        try:
            async with asyncio.TaskGroup() as group:
                for digest, layer in distinct.items():
                    fetching = _fetch_layer(workshop, client, resolved.reference, layer, step, done, total)
                    entries[digest] = group.create_task(kept.enter_async_context(fetching))
        except ExceptionGroup as errors:
            raise first_error(errors) from errors
    return [entries[layer.digest].result() for layer in resolved.layers]


@asynccontextmanager
async def _fetch_layer(
    workshop: Workshop,
    client: RegistryClient,
    reference: ImageReference,
    layer: Descriptor,
    step: Step,
    done: dict[str, int],
    total: int,
) -> AsyncIterator[Path]:
    def report(digest: str, read_bytes: int, _of: int) -> None:
        done[digest] = read_bytes
        step.count(sum(done.values()), total)

    async def fetch(target: Path, _workspace: Workspace) -> None:
        partials = workshop.cache.root / "partial"
        await client.fetch_blob(reference, layer, target / BLOB, partials=partials, report=report)

    async with workshop.cache.entry("layers", layer.digest.removeprefix("sha256:"), fetch) as entry:
        yield entry / BLOB
