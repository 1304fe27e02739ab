"""The root file system: the source unpacked as root would, the mappings put in, times settled, and all of it in one file."""

from __future__ import annotations

import asyncio
import datetime
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from volant.core.errors import CommandFailed, HostError, InvalidInput
from volant.fledge.cache import Cache, Workspace, derive_key
from volant.fledge.content import FileRecord, record_file
from volant.fledge.debian import DebianPackage, choose_packages, install_packages, read_installed, resolve_packages
from volant.fledge.filesystem import make_filesystem, settle_tree, tool_version
from volant.fledge.mapping import Mapping, apply_mappings, digest_mappings, read_mappings
from volant.fledge.oci import Image, ImageConfig, parse_reference, read_image, unpack_archive, verify_layers, write_view
from volant.fledge.progress import Progress
from volant.fledge.recipe import Recipe
from volant.fledge.script import open_scripted_layout
from volant.run import run

FORMAT = 1
"""Goes up when the same inputs give another file."""

RECORD = "record.json"
DEFAULT_EPOCH_S = 1704067200
"""2024-01-01, the time of what a build itself makes, unless SOURCE_DATE_EPOCH says another."""

UNPACK_TIMEOUT_S = 3600.0
VERSION_TIMEOUT_S = 10.0


class SourceRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the root came from: the image manifest's digest, or every package that was installed."""

    kind: str
    reference: str = ""
    manifest_digest: str = ""
    packages: tuple[DebianPackage, ...] = ()


class RootRecord(msgspec.Struct, frozen=True):
    source: SourceRecord
    rootfs: FileRecord
    tools: dict[str, str]


class Root(msgspec.Struct, frozen=True):
    """``config`` is the image's own, absent for packages; ``name`` and ``tag`` are what the source is called."""

    record: RootRecord
    path: Path
    config: ImageConfig | None
    name: str
    tag: str


Unpack = Callable[[Path, Workspace], Awaitable[tuple[SourceRecord, dict[str, str]]]]


def read_epoch() -> int | None:
    """``SOURCE_DATE_EPOCH`` in seconds (reproducible-builds.org/specs/source-date-epoch), or None. Raises InvalidInput."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not text.isdecimal() or len(text) > 12:
        raise InvalidInput(f"SOURCE_DATE_EPOCH is {text!r}", hint="it counts seconds since 1970")
    return int(text)


@asynccontextmanager
async def open_root(cache: Cache, recipe: Recipe, base: Path, progress: Progress) -> AsyncIterator[Root]:
    """The root file system of ``recipe`` in the cache, made when it is not there. ``base`` is the recipe's directory.

    Raises:
        InvalidInput: the recipe asks for what is not there or cannot be. HostError: a tool failed.
    """
    builder = _Builder(cache, recipe, base, progress)
    if recipe.source.packages:
        async with builder.open_packages() as root:
            yield root
        return
    async with AsyncExitStack() as stack:
        if recipe.source.script:
            layout = await stack.enter_async_context(
                open_scripted_layout(
                    cache, script=recipe.source.script, inputs=recipe.source.script_inputs, base=base,
                    epoch_s=builder.fixed_s, progress=progress,
                )
            )  # fmt: skip
            image, name = await asyncio.to_thread(read_image, layout), ""
        else:
            reference = parse_reference(recipe.source.image, base)
            layout = reference.path
            if reference.is_archive:
                layout = await stack.enter_async_context(builder.open_archive(reference.path))
            image = await asyncio.to_thread(read_image, layout, reference.tag)
            name = reference.path.name.removesuffix(".tar")
        yield await stack.enter_async_context(builder.open_image(image, name))


class _Builder:
    def __init__(self, cache: Cache, recipe: Recipe, base: Path, progress: Progress) -> None:
        self._cache = cache
        self._recipe = recipe
        self._progress = progress
        self._mappings: tuple[Mapping, ...] = read_mappings(recipe.mappings, base)
        self._epoch_s = read_epoch()
        self.fixed_s = DEFAULT_EPOCH_S if self._epoch_s is None else self._epoch_s

    @asynccontextmanager
    async def open_archive(self, archive: Path) -> AsyncIterator[Path]:
        async def unpack(target: Path, _workspace: Workspace) -> None:
            with self._progress.step(f"Reading {archive.name}"):
                await asyncio.to_thread(unpack_archive, archive, target)

        record = await asyncio.to_thread(record_file, archive)
        async with self._cache.entry("archives", record.sha256, unpack) as entry:
            yield entry

    @asynccontextmanager
    async def open_image(self, image: Image, name: str) -> AsyncIterator[Root]:
        source = self._recipe.source
        record = SourceRecord(
            kind="script" if source.script else "image", reference=source.script or source.image, manifest_digest=image.digest
        )

        async def unpack(root: Path, workspace: Workspace) -> tuple[SourceRecord, dict[str, str]]:
            with self._progress.step("Unpacking the image"):
                await verify_layers(image)
                return record, {"umoci": await _unpack_image(image, root, workspace)}

        # Nothing in an image is newer than the image itself, but for what unpacking it made.
        limit_s = self._epoch_s if self._epoch_s is not None else _read_created(image.config.created)
        settled_s = self.fixed_s if limit_s is None else limit_s
        async with self._open("image", [image.digest], unpack, limit_s, settled_s) as (made, path):
            yield Root(msgspec.structs.replace(made, source=record), path, image.config, name, image.tag)

    @asynccontextmanager
    async def open_packages(self) -> AsyncIterator[Root]:
        source = self._recipe.source
        wanted = await choose_packages(source.packages, source.suite, source.mirror)
        with self._progress.step(f"Resolving {', '.join(wanted.packages)} in {wanted.suite}"):
            resolved = await resolve_packages(wanted)

        async def install(root: Path, workspace: Workspace) -> tuple[SourceRecord, dict[str, str]]:
            with self._progress.step(f"Installing {len(resolved)} Debian packages"):
                await install_packages(wanted, root, self.fixed_s, workspace.lock_fd)
            return SourceRecord(kind="packages", packages=read_installed(root)), {"mmdebstrap": await _read_version("mmdebstrap")}

        async with self._open("packages", [resolved, self.fixed_s], install, self._epoch_s, self.fixed_s) as (made, path):
            yield Root(made, path, None, "", "")

    @asynccontextmanager
    async def _open(
        self, kind: str, inputs: list[object], unpack: Unpack, limit_s: int | None, settled_s: int
    ) -> AsyncIterator[tuple[RootRecord, Path]]:
        filesystem = self._recipe.filesystem
        mkfs = await tool_version()
        mappings = await asyncio.to_thread(digest_mappings, self._mappings)
        key = derive_key("root", FORMAT, kind, inputs, limit_s, settled_s, mappings, filesystem, mkfs)

        async def make(target: Path, workspace: Workspace) -> None:
            if os.geteuid() != 0:
                raise HostError("only root can unpack an image with the owners its files have", hint="run fledge with sudo")
            tree = workspace.path / "root"
            began_ns = time.time_ns()
            source, tools = await unpack(tree, workspace)
            await asyncio.to_thread(apply_mappings, self._mappings, tree)
            limit_ns = began_ns - 10**9 if limit_s is None else limit_s * 10**9
            newest_s = await asyncio.to_thread(settle_tree, tree, limit_ns, settled_s)
            path = target / f"rootfs.{filesystem.type}"
            with self._progress.step(f"Writing {path.name}"):
                await make_filesystem(filesystem, tree, path, identity=key, newest_s=newest_s, workspace=workspace)
                record = RootRecord(source, await asyncio.to_thread(record_file, path), {**tools, "mkfs": mkfs})
            (target / RECORD).write_bytes(msgspec.json.encode(record))

        async with self._cache.entry("roots", key, make) as entry:
            yield msgspec.json.decode((entry / RECORD).read_bytes(), type=RootRecord), entry / f"rootfs.{filesystem.type}"


async def _unpack_image(image: Image, root: Path, workspace: Workspace) -> str:
    """Layers, whiteouts, owners, attributes and all, by umoci. Returns its version line."""
    view = workspace.path / "view"
    write_view(image, view)
    try:
        await run(
            ["umoci", "raw", "unpack", "--image", f"{view}:fledge", root],
            timeout_s=UNPACK_TIMEOUT_S, pass_fds=(workspace.lock_fd,),
        )  # fmt: skip
    except CommandFailed as error:
        if error.exit_status == 127:
            raise
        said = [line.strip() for line in error.stderr_tail.splitlines() if line.strip()]
        raise HostError(
            f"the image cannot be unpacked: {said[-1] if said else error}", hint="is it whole? try skopeo copy from it"
        ) from error
    return await _read_version("umoci")


async def _read_version(tool: str) -> str:
    printed = await run([tool, "--version"], timeout_s=VERSION_TIMEOUT_S, check=False)
    return printed.text.strip()


def _read_created(created: str | None) -> int | None:
    """Seconds since 1970 of an image configuration's ``created`` (RFC 3339), rounded up; None when it says nothing usable."""
    if not created:
        return None
    try:
        moment = datetime.datetime.fromisoformat(created)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    seconds = -(-moment.timestamp() // 1)
    return int(seconds) if 0 <= seconds < 1 << 34 else None
