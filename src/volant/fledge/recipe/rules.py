"""The rules of ``fledge.toml`` that types cannot say: what goes with what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from volant.core.errors import InvalidInput
from volant.core.ids import check_digest
from volant.core.manifest import Resources
from volant.fledge.recipe.record import AgentSection, InitSection, Recipe, SourceSection

_GOES_WITH = {
    "platform": ("image", "dockerfile"),
    "context": ("dockerfile",), "target": ("dockerfile",), "build_args": ("dockerfile",), "secrets": ("dockerfile",),
    "build_network": ("dockerfile",),
    "suite": ("packages",), "mirror": ("packages",),
    "owners": ("directory",), "certificates": ("binary",), "script_inputs": ("script",),
}  # fmt: skip
_BUSYBOX = ("busybox", "busybox_url", "busybox_sha256")
_GIVEN_WITH = {"release": "version", "local": "path", "http": "url"}
_SIZE = re.compile(r"(?P<count>[1-9]\d{0,8})(?P<unit>[KMGT]?)i?B?", re.IGNORECASE)
_MIB = {"": 1 / 1024**2, "K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2}


def check_heading(data: Mapping[str, Any]) -> None:
    """The two keys that say how to read the rest. Raises InvalidInput."""
    if data.get("version") != "1":
        raise InvalidInput(f'version is {data.get("version")!r}, not "1"', field="version", hint='begin with version = "1"')
    if data.get("strategy") not in ("oci_rootfs", "initramfs"):
        raise InvalidInput(
            f"strategy {data.get('strategy')!r} is not known",
            field="strategy",
            hint='"oci_rootfs" boots from a read-only disk, "initramfs" from memory alone',
        )


def check_recipe(recipe: Recipe) -> Recipe:
    """Return ``recipe`` when every rule holds. Raises InvalidInput that names the first field that breaks one."""
    source = recipe.source
    if recipe.strategy == "oci_rootfs":
        _check_rootfs(recipe)
    else:
        _check_initramfs(recipe)
    _check_source(source)
    if recipe.agent is not None:
        _check_agent(recipe.agent)
    _check_kernel(recipe)
    return recipe


def read_resources(recipe: Recipe) -> Resources:
    """What a VM gets. ``filesystem.overlay_size`` of the original format is the size of the writable layer."""
    resources = recipe.resources or Resources()
    size = recipe.filesystem.overlay_size if recipe.filesystem is not None else ""
    return msgspec.structs.replace(resources, disk_mb=read_size_mb(size, "filesystem.overlay_size")) if size else resources


def read_size_mb(text: str, field: str) -> int:
    """Whole MiB of ``512M`` or ``1G``, at least 64. Raises InvalidInput."""
    match = _SIZE.fullmatch(text.strip())
    size_mb = round(int(match["count"]) * _MIB[match["unit"].upper()]) if match else 0
    if size_mb < 64:
        raise InvalidInput(f"{field}: {text!r} is no size of 64 MiB or more", field=field, hint='for example "1G"')
    return size_mb


def _check_rootfs(recipe: Recipe) -> None:
    if recipe.init is not None:
        raise InvalidInput(
            '[init] goes with strategy = "initramfs"', field="init", hint="the first program of a guest with a disk is kestrel"
        )
    if recipe.initramfs is not None:
        raise InvalidInput('[initramfs] goes with strategy = "initramfs"', field="initramfs", hint="remove it")
    if not recipe.source.given:
        raise InvalidInput(
            "[source] says nothing to build from", field="source", hint="give it image, dockerfile, packages, directory or binary"
        )
    for name in _BUSYBOX:
        if name in _list_given(recipe.source):
            raise InvalidInput(f'source.{name} goes with strategy = "initramfs"', field=f"source.{name}", hint="remove it")
    if recipe.filesystem is not None and recipe.filesystem.overlay_size:
        read_size_mb(recipe.filesystem.overlay_size, "filesystem.overlay_size")
        if recipe.resources is not None and recipe.resources.disk_mb != Resources().disk_mb:
            raise InvalidInput(
                "filesystem.overlay_size and resources.disk_mb say the same thing",
                field="filesystem.overlay_size",
                hint="keep resources.disk_mb",
            )


def _check_initramfs(recipe: Recipe) -> None:
    if recipe.filesystem is not None:
        raise InvalidInput(
            '[filesystem] goes with strategy = "oci_rootfs"', field="filesystem", hint="[initramfs] compression is for this one"
        )
    if recipe.init is not None:
        _check_init(recipe.init, recipe)
    source = recipe.source
    if source.busybox_sha256 and not source.busybox_url:
        raise InvalidInput("source.busybox_sha256 goes with source.busybox_url", field="source.busybox_sha256")
    if source.busybox_url:
        if not source.busybox:
            raise InvalidInput("source.busybox is false, and source.busybox_url names one", field="source.busybox_url")
        if not source.busybox_sha256:
            raise InvalidInput(
                "source.busybox_url needs source.busybox_sha256",
                field="source.busybox_url",
                hint="sha256sum of the file; without either, Debian's busybox-static is used",
            )
        check_digest(f"sha256:{source.busybox_sha256.lower()}", "source.busybox_sha256")


def _check_init(init: InitSection, recipe: Recipe) -> None:
    if bool(init.path) == init.none:
        raise InvalidInput("[init] needs either path or none = true", field="init", hint="without [init], kestrel is the first")
    if recipe.agent is not None:
        raise InvalidInput("[agent] and [init] exclude each other", field="agent", hint="with an init of its own, remove [agent]")


def _check_source(source: SourceSection) -> None:
    if len(source.given) > 1:
        raise InvalidInput(
            f"[source] names {' and '.join(source.given)}, and content comes from one place",
            field=f"source.{source.given[1]}",
            hint="keep one; [mappings] adds files to it",
        )
    for name in _list_given(source):
        owners = _GOES_WITH.get(name)
        if owners and not set(owners) & set(source.given):
            raise InvalidInput(f"source.{name} goes with source.{' or source.'.join(owners)}", field=f"source.{name}")


def _check_agent(agent: AgentSection) -> None:
    wanted = _GIVEN_WITH[agent.source_strategy]
    if not getattr(agent, wanted) and agent.source_strategy != "release":
        raise InvalidInput(f'agent.source_strategy = "{agent.source_strategy}" needs agent.{wanted}', field=f"agent.{wanted}")
    for name in ("version", "path", "url"):
        if name != wanted and getattr(agent, name):
            raise InvalidInput(
                f'agent.{name} does not go with agent.source_strategy = "{agent.source_strategy}"', field=f"agent.{name}"
            )
    if agent.checksum:
        check_digest(agent.checksum, "agent.checksum")


def _check_kernel(recipe: Recipe) -> None:
    kernel = recipe.kernel
    if kernel.package and kernel.deb:
        raise InvalidInput("[kernel] has either package or deb", field="kernel.deb")
    if kernel.package and kernel.source == "minimal":
        raise InvalidInput(
            'kernel.package goes with kernel.source = "debian"',
            field="kernel.package",
            hint="remove it: the minimal kernel is compiled from its own source package",
        )


def _list_given(source: SourceSection) -> list[str]:
    defaults = SourceSection()
    return [name for name in source.__struct_fields__ if getattr(source, name) != getattr(defaults, name)]
