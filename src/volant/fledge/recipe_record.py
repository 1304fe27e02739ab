"""``fledge.toml``: what to build. docs/reference/fledge.md describes every key."""

from __future__ import annotations

import difflib
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from volant.core.errors import InvalidInput
from volant.core.manifest import HealthCheck, Network, Resources
from volant.core.resource import split_validation_error

RECIPE_MAX_BYTES = 256 * 1024

# Keys of the original format that have another place or no meaning here, and what to write instead.
_ELSEWHERE = {
    "agent": "fledge brings its own kestrel; remove [agent], or set VOLANT_KESTREL to use another",
    "init": "the guest's first program is kestrel; remove [init]",
    "source.dockerfile": "build the image first (buildah bud -t oci:DIR:TAG) and give its layout as source.image",
    "source.context": "build the image first (buildah bud -t oci:DIR:TAG) and give its layout as source.image",
    "source.target": "build the image first (buildah bud -t oci:DIR:TAG) and give its layout as source.image",
    "source.build_args": "build the image first (buildah bud -t oci:DIR:TAG) and give its layout as source.image",
    "source.busybox_url": "the guest needs no busybox; remove it",
    "source.busybox_sha256": "the guest needs no busybox; remove it",
    "filesystem.compression_level": 'erofs knows compression = "lz4", "lz4hc" or "none"',
    "filesystem.overlay_size": "the writable layer is a disk of its own; its size is resources.disk_mb",
    "filesystem.size_buffer_mb": "the root is read-only; the writable layer's size is resources.disk_mb",
    "filesystem.preallocate": "the root is read-only and has no free space to allocate; remove it",
}


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class PluginSection(_Section, frozen=True, kw_only=True):
    name: str = ""
    version: str = ""


class SourceSection(_Section, frozen=True, kw_only=True):
    """Exactly one of ``image``, ``packages`` and ``script``."""

    image: str = ""
    packages: tuple[str, ...] = ()
    suite: str = ""
    mirror: str = ""
    script: str = ""
    script_inputs: tuple[str, ...] = ()


class FilesystemSection(_Section, frozen=True, kw_only=True):
    type: str = "erofs"
    compression: Literal["lz4", "lz4hc", "none"] = "lz4"


class WorkloadSection(_Section, frozen=True, kw_only=True):
    """What is given here wins over the image's own configuration; ``env`` is merged into the image's."""

    type: Literal["http", "exec"] | None = None
    base_url: str = ""
    entrypoint: tuple[str, ...] = ()
    env: dict[str, str] = {}
    user: str = ""
    workdir: str = ""
    stop_signal: str = ""


class KernelSection(_Section, frozen=True, kw_only=True):
    """``deb`` is a package file: of a kernel, or of the source that a minimal one is compiled from."""

    source: Literal["debian", "minimal"] = "debian"
    package: str = ""
    deb: str = ""


class Recipe(_Section, frozen=True, kw_only=True):
    version: str
    strategy: str
    plugin: PluginSection = PluginSection()
    source: SourceSection
    filesystem: FilesystemSection = FilesystemSection()
    mappings: dict[str, str] = {}
    workload: WorkloadSection = WorkloadSection()
    health_check: HealthCheck | None = None
    resources: Resources = Resources()
    network: Network | None = None
    kernel: KernelSection = KernelSection()


def read_recipe(path: Path) -> Recipe:
    """Read and check a ``fledge.toml``.

    Raises:
        InvalidInput: the file is missing, no TOML, or breaks a rule; the message names the file and the key.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidInput(
            f"{path} cannot be read: {error.strerror}", hint="name the file with -c; docs/reference/fledge.md has an example"
        ) from error
    try:
        return parse_recipe(content)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error.message}", field=error.field, hint=error.hint) from error


def parse_recipe(content: bytes) -> Recipe:
    """``read_recipe`` for what is already in memory."""
    if len(content) > RECIPE_MAX_BYTES:
        raise InvalidInput(f"it is larger than {RECIPE_MAX_BYTES} bytes")
    try:
        data = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"it is not TOML: {error}") from error
    _check_keys(data, Recipe, "")
    _check_heading(data)
    try:
        recipe = msgspec.convert(data, Recipe)
    except msgspec.ValidationError as error:
        message, field = split_validation_error(error)
        raise InvalidInput(f"{field}: {message}" if field else message, field=field) from error
    _check_source(recipe.source)
    _check_filesystem(recipe.filesystem)
    if recipe.source.packages:
        _check_packages_are_described(recipe)
    if recipe.kernel.package and recipe.kernel.deb:
        raise InvalidInput("[kernel] has either package or deb", field="kernel")
    if recipe.kernel.package and recipe.kernel.source == "minimal":
        raise InvalidInput(
            'kernel.package goes with kernel.source = "debian"',
            field="kernel.package",
            hint="remove it: the minimal kernel is compiled from its own source package",
        )
    return recipe


def _check_heading(data: Mapping[str, Any]) -> None:
    if data.get("version") != "1":
        raise InvalidInput(f'version is {data.get("version")!r}, not "1"', field="version", hint='begin with version = "1"')
    if data.get("strategy") == "initramfs":
        raise InvalidInput(
            'strategy "initramfs" is not built here',
            field="strategy",
            hint='use "oci_rootfs": its guests boot from a read-only disk',
        )
    if data.get("strategy") != "oci_rootfs":
        raise InvalidInput(
            f"strategy {data.get('strategy')!r} is not known", field="strategy", hint='write strategy = "oci_rootfs"'
        )
    if "source" not in data:
        raise InvalidInput("[source] is missing", field="source", hint="give it image, packages or script")


def _check_source(source: SourceSection) -> None:
    given = [name for name in ("image", "packages", "script") if getattr(source, name)]
    if len(given) != 1:
        which = " and ".join(given) if given else "none of them"
        raise InvalidInput(f"[source] needs exactly one of image, packages and script, and has {which}", field="source")
    for name, owner in (("script_inputs", "script"), ("suite", "packages"), ("mirror", "packages")):
        if getattr(source, name) and given != [owner]:
            raise InvalidInput(f"source.{name} goes with source.{owner}", field=f"source.{name}")


def _check_packages_are_described(recipe: Recipe) -> None:
    if not recipe.workload.entrypoint:
        raise InvalidInput(
            "packages do not say what to run", field="workload.entrypoint", hint='give [workload] an entrypoint = ["/usr/bin/…"]'
        )
    if not recipe.plugin.name:
        raise InvalidInput("packages do not name the plugin", field="plugin.name", hint='write [plugin] name = "…"')


def _check_filesystem(filesystem: FilesystemSection) -> None:
    if filesystem.type == "erofs":
        return
    why = {
        "squashfs": "erofs holds the same, reads faster and is built faster",
        "ext4": "it records when it was made, so that no two builds are the same",
        "xfs": "the boot initramfs does not carry it, and a read-only root gains nothing from it",
        "btrfs": "the boot initramfs does not carry it, and a read-only root gains nothing from it",
    }.get(filesystem.type, "it is not a file system that guests boot from")
    raise InvalidInput(
        f"filesystem.type {filesystem.type!r} is not built: {why}", field="filesystem.type", hint='use "erofs", or leave it out'
    )


def _check_keys(data: Mapping[str, Any], struct: type[msgspec.Struct], where: str) -> None:
    """Refuse the first unknown key, naming the nearest known one."""
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(struct)}
    for key, value in data.items():
        name = f"{where}.{key}" if where else key
        if key not in fields:
            place = f"[{where}]" if where else "fledge.toml"
            if name in _ELSEWHERE:
                raise InvalidInput(f"{name} is not a key here", field=name, hint=_ELSEWHERE[name])
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it knows {', '.join(fields)}"
            raise InvalidInput(f"{place} has no key {key!r}", field=name, hint=hint)
        for nested in _nested_structs(fields[key]):
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, dict):
                    _check_keys(item, nested, name)


def _nested_structs(kind: Any) -> list[type[msgspec.Struct]]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [kind]
    return [found for argument in typing.get_args(kind) for found in _nested_structs(argument)]
