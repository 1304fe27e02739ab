"""Debian packages, from dpkg's database (deb-control(5), dpkg-query(1)), or the files that distroless images keep instead."""

from __future__ import annotations

import re
from collections.abc import Iterator

from debian.deb822 import Deb822

from volant.fledge.sbom.package import Distribution, FoundPackage, clean_text, derive_purl
from volant.fledge.sbom.tree import Tree

STATUS = "var/lib/dpkg/status"
STATUS_DIRECTORY = "var/lib/dpkg/status.d"
STATUS_MAX_BYTES = 64 * 1024 * 1024
FILES_MAX = 20_000

_FIELDS = ["Package", "Status", "Version", "Architecture", "Source", "Maintainer"]
_SOURCE = re.compile(r"(?P<name>[^\s(]+)(?:\s*\((?P<version>[^\s)]+)\))?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]*")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+~:-]*")


def find_debs(tree: Tree, distribution: Distribution) -> Iterator[FoundPackage]:
    """What is at least unpacked. A package that was removed and left its configuration is not there."""
    names = [name for name in tree.list_names(STATUS_DIRECTORY) if not name.endswith(".md5sums")]
    if len(names) > FILES_MAX:
        tree.add_note(STATUS_DIRECTORY, f"it has more than {FILES_MAX} files")
    for place in (STATUS, *(f"{STATUS_DIRECTORY}/{name}" for name in names[:FILES_MAX])):
        content = tree.read_file(place, STATUS_MAX_BYTES)
        if content is not None:
            yield from _read_database(tree, place, content, distribution)


def _read_database(tree: Tree, place: str, content: bytes, distribution: Distribution) -> Iterator[FoundPackage]:
    # One paragraph at a time, so that a broken one takes no other along. The library guesses at bytes that are no UTF-8.
    for paragraph in content.decode("utf-8", "replace").replace("\r\n", "\n").split("\n\n"):
        if not paragraph.strip():
            continue
        try:
            fields = Deb822(paragraph.split("\n"), fields=_FIELDS)
        except ValueError:
            tree.add_note(place, "a paragraph of it is no list of fields")
            continue
        # "install ok installed": what is wanted, whether something is wrong, how far it came. Distroless writes none.
        words = fields.get("Status", "").split()
        if words and words[-1] in ("not-installed", "config-files"):
            continue
        name, version = clean_text(fields.get("Package")), clean_text(fields.get("Version"))
        if not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
            tree.add_note(place, "a paragraph of it names no package and version")
            continue
        yield _make_package(place, name, version, fields, distribution)


def _make_package(place: str, name: str, version: str, fields: Deb822, distribution: Distribution) -> FoundPackage:
    architecture = clean_text(fields.get("Architecture"))
    source = _SOURCE.fullmatch(clean_text(fields.get("Source")))
    source_name = source["name"] if source else name
    source_version = (source["version"] if source else "") or version
    is_own_source = (source_name, source_version) == (name, version)
    upstream = source_name if source_version == version else f"{source_name}@{source_version}"
    return FoundPackage(
        type="deb",
        name=name,
        version=version,
        architecture=architecture,
        source_name="" if is_own_source else source_name,
        source_version="" if is_own_source else source_version,
        supplier=clean_text(fields.get("Maintainer")),
        purl=derive_purl(
            "deb", name, version, namespace=distribution.id or "debian",
            qualifiers={"arch": architecture, "distro": distribution.qualifier, "upstream": "" if is_own_source else upstream},
        ),
        locations=(place,),
    )  # fmt: skip
