"""Versions of a plugin side by side. The one that a plain name means, the default, is the resource ``nginx``; each other one is
a resource of the same kind named ``nginx@1.2.0``. Another default is the two records changing places, in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from volant.core.errors import InvalidInput
from volant.core.ids import check_name
from volant.core.manifest import check_version
from volant.core.plugin import Plugin, PoolStatus
from volant.core.snapshot import Snapshot
from volant.core.vm import VM

MARK = "@"
MAX_VERSIONS = 32
"""Of one plugin: what is done to all of them is done in one transaction."""

MAX_PREVIOUS = 16


def split_reference(reference: str) -> tuple[str, str]:
    """``("nginx", "1.2.0")`` of ``nginx@1.2.0``; the version is empty where the default is meant."""
    name, _, version = reference.partition(MARK)
    return name, version


def check_reference(reference: str, field: str = "plugin") -> tuple[str, str]:
    """As ``split_reference``. Raises InvalidInput for what names no plugin."""
    name, mark, version = reference.partition(MARK)
    check_name(name, field)
    if mark:
        if not version:
            raise InvalidInput(f"{reference[:80]!r} names no version", field=field, hint=f"{name}@VERSION, or {name} alone")
        check_version(version, field)
    return name, version


def name_version(name: str, version: str) -> str:
    return f"{name}{MARK}{version}"


def is_default(name: str) -> bool:
    """True for the name of a record that holds the default version."""
    return MARK not in name


def version_of(vm: VM) -> tuple[str, str]:
    """``(plugin, version)`` that ``vm`` was made from; no version for one older than versions are."""
    name, asked = split_reference(vm.spec.plugin)
    return name, vm.status.plugin_version or asked


def version_of_snapshot(snapshot: Snapshot) -> tuple[str, str]:
    name, asked = split_reference(snapshot.status.plugin)
    return name, snapshot.status.plugin_version or asked


def is_made_from(plugin: Plugin, made: tuple[str, str]) -> bool:
    """True when ``made``, of ``version_of``, is what ``plugin`` holds."""
    name, version = made
    if name != split_reference(plugin.name)[0]:
        return False
    return version == plugin.spec.version or (not version and is_default(plugin.name))


def plugin_names(vm: Mapping[str, Any]) -> Iterator[str]:
    """The names that the record of a VM's plugin may have, by the VM's plain data."""
    name, asked = split_reference(vm["spec"]["plugin"])
    yield name
    version = vm["status"].get("plugin_version") or asked
    if version:
        yield name_version(name, version)


def step_back(head: Plugin) -> Plugin:
    """The default as a version beside another: it keeps no pool of its own accord."""
    return Plugin(
        meta=msgspec.structs.replace(head.meta, name=name_version(head.name, head.spec.version)),
        spec=msgspec.structs.replace(head.spec, pool=0, previous=()),
        status=msgspec.structs.replace(head.status, pool=PoolStatus()),
    )


def step_forward(head: Plugin, version: Plugin, previous: tuple[str, ...]) -> Plugin:
    """``version`` as the default in the place of ``head``, whose pool setting stays with the name."""
    return Plugin(
        meta=msgspec.structs.replace(version.meta, name=head.name, generation=head.meta.generation + 1),
        spec=msgspec.structs.replace(version.spec, pool=head.spec.pool, previous=previous[:MAX_PREVIOUS]),
        status=version.status,
        revision=head.revision,
    )


def follow_up(head: Plugin, version: str) -> tuple[str, ...]:
    """The defaults before, newest first, once ``version`` has become it."""
    older = (one for one in head.spec.previous if one not in (version, head.spec.version))
    return (head.spec.version, *older)
