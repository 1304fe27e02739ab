"""Artifacts to and from registries."""

from __future__ import annotations

import asyncio
from pathlib import Path

from volant.artifact.bundle import pull_bundle, push_bundle
from volant.artifact.registry.client import RegistryClient
from volant.artifact.registry.download import Report
from volant.artifact.registry.reference import parse_plugin_reference
from volant.core.ids import Digest
from volant.fledge.kept.choose import find_given
from volant.fledge.progress import Step
from volant.fledge.source.registry import load_registry_settings
from volant.fledge.workshop import Workshop


async def push_given(given: str, text: str, workshop: Workshop) -> Digest:
    """Send the artifact that ``given`` names to the registry, under the name ``text``. Raises VolantError."""
    reference = parse_plugin_reference(text)
    async with workshop.opened(), workshop.cache.workspace() as workspace:
        files = await find_given(given, workshop)
        directory = workspace.path / "artifact"
        await asyncio.to_thread(_gather, files, directory)
        with workshop.progress.step(f"Sending {given} to {reference.registry}") as step:
            async with RegistryClient(load_registry_settings()) as client:
                return await push_bundle(directory, reference, client, _count(step))


async def pull_named(text: str, output: Path, workshop: Workshop) -> Digest:
    """Write the artifact called ``text`` into ``output``. Raises VolantError."""
    reference = parse_plugin_reference(text)
    with workshop.progress.step(f"Fetching {reference}") as step:
        async with RegistryClient(load_registry_settings()) as client:
            return await pull_bundle(reference, output, client, _count(step))


def _gather(files: dict[str, Path], directory: Path) -> None:
    directory.mkdir()
    for name, path in files.items():
        (directory / name).symlink_to(path.absolute())


def _count(step: Step) -> Report:
    done: dict[str, tuple[int, int]] = {}

    def report(digest: str, moved: int, total: int) -> None:
        done[digest] = (moved, total)
        step.count(sum(moved for moved, _ in done.values()), sum(total for _, total in done.values()))

    return report
