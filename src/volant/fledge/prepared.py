"""The tree of a guest: the source's, with the recipe's files laid over it, and nothing left that differs from build to build."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import msgspec

from volant.core.errors import HostError
from volant.fledge.cache import Workspace
from volant.fledge.filesystems.make import settle_tree
from volant.fledge.kept.contents import FILE as CONTENTS
from volant.fledge.kept.contents import write_contents
from volant.fledge.recipe.mapping import Mapping, apply_mappings
from volant.fledge.sbom.scan import Scan, scan_tree
from volant.fledge.source.material import Material
from volant.fledge.workshop import Workshop

PACKAGES = "packages.json"


class Prepared(msgspec.Struct, frozen=True):
    """``newest_s``: no file's time is after it. ``tools`` made the tree."""

    tree: Path
    newest_s: int
    tools: dict[str, str]


async def prepare_tree(workshop: Workshop, material: Material, mappings: tuple[Mapping, ...], workspace: Workspace) -> Prepared:
    """Make the tree in ``workspace``.

    Raises:
        VolantError: the source cannot be unpacked, or a mapping does not fit into it.
    """
    tree = workspace.path / "root"
    tree.mkdir()
    began_ns = time.time_ns()
    tools = await material.fill(tree, workspace)
    await asyncio.to_thread(apply_mappings, mappings, tree)
    limit_ns = began_ns - 10**9 if material.limit_s is None else material.limit_s * 10**9
    newest_s = await asyncio.to_thread(settle_tree, tree, limit_ns, material.settled_s)
    return Prepared(tree, newest_s, tools)


async def list_contents(workshop: Workshop, tree: Path, target: Path) -> None:
    """Write what lies in ``tree`` into the directory ``target``: ``packages.json`` and the listing. It changes nothing.

    Raises:
        VolantError: a database of packages cannot be read for want of a program, or there is no room.
    """
    with workshop.progress.step("Listing what lies in it"):
        scan = await scan_tree(tree)
        await asyncio.to_thread(write_contents, tree, target / CONTENTS)
    for note in scan.notes:
        workshop.progress.note(note)
    (target / PACKAGES).write_bytes(msgspec.json.encode(scan))


def read_packages(entry: Path) -> Scan:
    return msgspec.json.decode((entry / PACKAGES).read_bytes(), type=Scan)


def check_privilege() -> None:
    """Raises HostError unless files can be given the owners that they have in an image: as root, or as fakeroot pretends."""
    if os.geteuid() != 0:
        raise HostError(
            "only root can give files the owners that they have in an image", hint="run fledge with sudo, or under fakeroot"
        )
