"""What ``fledge build SOURCE`` means: a recipe, a directory, a Dockerfile or an image, and what the command line adds to it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from volant.core.errors import InvalidInput
from volant.fledge.build import Job, read_job
from volant.fledge.recipe.record import FilesystemSection, PluginSection, Recipe, SourceSection, Strategy
from volant.fledge.recipe.rules import check_recipe
from volant.fledge.recipe.toml_file import convert

RECIPE = "fledge.toml"
DOCKERFILES = ("Dockerfile", "Containerfile")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says beside the source; empty is what the recipe says, or the default."""

    config: Path | None = None
    manifest: Path | None = None
    dockerfile: Path | None = None
    context: Path | None = None
    target: str = ""
    build_args: Mapping[str, str] = {}
    secrets: Mapping[str, str] = {}
    platform: str = ""
    name: str = ""
    version: str = ""
    filesystem: str = ""
    is_initramfs: bool = False

    @property
    def about_dockerfile(self) -> bool:
        return bool(self.dockerfile or self.context or self.target or self.build_args or self.secrets)


def choose_job(source: str | None, output: Path | None, options: Options) -> Job:
    """The job that ``source`` stands for, paths as seen from here.

    Raises:
        InvalidInput: there is nothing to build, or two things at once.
    """
    if options.config is not None and source is not None:
        raise InvalidInput("either a source or -c says what to build", hint=f"fledge build {source}, or fledge build -c FILE")
    if options.config is not None:
        return _amend(read_job(options.config, output, options.manifest), options)
    if source is None and not options.about_dockerfile:
        return _amend(read_job(Path(RECIPE), output, options.manifest), options)
    path = Path(source) if source is not None else options.context or Path()
    if path.name == RECIPE or path.suffix == ".toml":
        return _amend(read_job(path, output, options.manifest), options)
    if path.is_dir() and not (path / "index.json").is_file():
        if (path / RECIPE).is_file() and not options.about_dockerfile:
            return _amend(read_job(path / RECIPE, output, options.manifest), options)
        return _job(_find_dockerfile(path, options), path, output, options)
    if path.is_file() and path.name.startswith(DOCKERFILES):
        return _job(path, options.context or path.parent, output, options)
    if options.about_dockerfile:
        raise InvalidInput(f"{source} is neither a directory nor a Dockerfile", hint="fledge build DIR --target NAME")
    assert source is not None
    section = SourceSection(image=source, platform=options.platform)
    return Job(recipe=_recipe(section, options), base=Path.cwd(), output=output)


def _find_dockerfile(directory: Path, options: Options) -> Path:
    if options.dockerfile is not None:
        return options.dockerfile
    for name in DOCKERFILES:
        if (directory / name).is_file():
            return directory / name
    raise InvalidInput(
        f"{directory} has neither {RECIPE} nor a Dockerfile", hint=f"fledge init {directory} writes a {RECIPE} for what is there"
    )


def _job(dockerfile: Path, context: Path, output: Path | None, options: Options) -> Job:
    """Paths are said as seen from the context, so that what is recorded names no place of this machine."""
    base = (options.context or context).absolute()
    section = SourceSection(
        dockerfile=os.path.relpath(dockerfile.absolute(), base),
        context=".",
        target=options.target,
        build_args=dict(options.build_args),
        secrets={name: os.path.relpath(path, base) for name, path in options.secrets.items()},
        platform=options.platform,
    )
    return Job(recipe=_recipe(section, options), base=base, output=output)


def _recipe(section: SourceSection, options: Options) -> Recipe:
    strategy: Strategy = "initramfs" if options.is_initramfs else "oci_rootfs"
    return _add(Recipe(version="1", strategy=strategy, source=section), options)


def _amend(job: Job, options: Options) -> Job:
    if options.is_initramfs and job.recipe.strategy != "initramfs":
        raise InvalidInput('the recipe says strategy = "oci_rootfs"', field="strategy", hint="change it there")
    source = job.recipe.source
    if options.about_dockerfile:
        if not source.dockerfile:
            raise InvalidInput("the recipe does not build a Dockerfile", hint="remove --target, --build-arg and --secret")
        source = msgspec.structs.replace(
            source,
            target=options.target or source.target,
            build_args={**source.build_args, **options.build_args},
            secrets={**source.secrets, **{name: str(Path(path).absolute()) for name, path in options.secrets.items()}},
        )
    if options.platform:
        source = msgspec.structs.replace(source, platform=options.platform)
    return msgspec.structs.replace(job, recipe=_add(msgspec.structs.replace(job.recipe, source=source), options))


def _add(recipe: Recipe, options: Options) -> Recipe:
    plugin = recipe.plugin
    if options.name or options.version:
        plugin = msgspec.structs.replace(plugin, name=options.name or plugin.name, version=options.version or plugin.version)
    filesystem = recipe.filesystem
    if options.filesystem:
        filesystem = convert({"type": options.filesystem}, FilesystemSection)
    return check_recipe(msgspec.structs.replace(recipe, plugin=plugin or PluginSection(), filesystem=filesystem))


def read_pairs(words: tuple[str, ...], option: str) -> dict[str, str]:
    """``NAME=VALUE`` words as a mapping. Raises InvalidInput."""
    pairs = {}
    for word in words:
        name, separator, value = word.partition("=")
        if not name or not separator:
            raise InvalidInput(f"{option} {word!r} is not NAME=VALUE", hint=f"for example {option} VERSION=1.2")
        pairs[name] = value
    return pairs
