"""All packages that an unpacked root tree tells of."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from volant.fledge.sbom import node_packages, python_packages
from volant.fledge.sbom.apk import find_apks
from volant.fledge.sbom.dpkg import find_debs
from volant.fledge.sbom.os_release import read_distribution
from volant.fledge.sbom.package import Distribution, FoundPackage, merge_packages
from volant.fledge.sbom.rpm import find_rpms
from volant.fledge.sbom.tree import Tree


class Scan(msgspec.Struct, frozen=True):
    """``packages`` are sorted and each is there once; ``notes`` say what of the tree could not be read, and why."""

    packages: tuple[FoundPackage, ...] = ()
    notes: tuple[str, ...] = ()
    distribution: Distribution = Distribution()


async def scan_tree(root: Path) -> Scan:
    """Read the databases of dpkg, apk and rpm and the metadata of Python and Node packages under ``root``.

    The tree may be hostile, but must not change meanwhile. Nothing in it is executed, no link leads out of it, and what is
    malformed or too large becomes a note. The same tree gives the same answer wherever it lies.

    Raises:
        Unavailable: it has an rpm database, and nothing here reads that. HostError: reading that did not end in time.
    """
    tree = Tree(root)
    distribution, found = await asyncio.to_thread(_scan_files, tree)
    found += await find_rpms(tree, distribution)
    return Scan(merge_packages(found), tuple(sorted(set(tree.notes))), distribution)


def _scan_files(tree: Tree) -> tuple[Distribution, list[FoundPackage]]:
    distribution = read_distribution(tree)
    found = [*find_debs(tree, distribution), *find_apks(tree, distribution)]
    for entry in tree.walk():
        package = None
        if python_packages.is_metadata(entry):
            package = python_packages.read_distribution_package(tree, entry)
        elif node_packages.is_metadata(entry):
            package = node_packages.read_node_package(tree, entry)
        if package is not None:
            found.append(package)
    return distribution, found
