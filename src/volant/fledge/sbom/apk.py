"""Alpine packages, from apk's database of what is installed (wiki.alpinelinux.org/wiki/Apk_spec, "Installed Database V2")."""

from __future__ import annotations

import re
from collections.abc import Iterator

from volant.fledge.sbom.package import Distribution, FoundPackage, clean_text, derive_purl
from volant.fledge.sbom.tree import Tree

# The second is where it is since the directories of the root are links into usr.
DATABASES = ("lib/apk/db/installed", "usr/lib/apk/db/installed")
DATABASE_MAX_BYTES = 128 * 1024 * 1024

_WANTED = frozenset("PVALom")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9.+_@-]*")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_~-]*")


def find_apks(tree: Tree, distribution: Distribution) -> Iterator[FoundPackage]:
    read = set()
    for place in DATABASES:
        path = tree.find_file(place)
        content = tree.read_file(place, DATABASE_MAX_BYTES) if path is not None and path not in read else None
        read.add(path)
        if content is not None:
            yield from _read_database(tree, place, content.decode("utf-8", "replace"), distribution)


def _read_database(tree: Tree, place: str, text: str, distribution: Distribution) -> Iterator[FoundPackage]:
    for paragraph in text.replace("\r\n", "\n").split("\n\n"):
        if not paragraph.strip():
            continue
        fields: dict[str, str] = {}
        for line in paragraph.strip("\n").split("\n"):
            key, _, value = line.partition(":")
            # What follows are its directories and files, whose lines have letters of their own.
            if key == "F":
                break
            if key in _WANTED:
                fields.setdefault(key, value)
        name, version = clean_text(fields.get("P")), clean_text(fields.get("V"))
        if not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
            tree.add_note(place, "a paragraph of it names no package and version")
            continue
        architecture = clean_text(fields.get("A"))
        origin = clean_text(fields.get("o"))
        source_name = origin if origin != name else ""
        yield FoundPackage(
            type="apk",
            name=name,
            version=version,
            architecture=architecture,
            source_name=source_name,
            source_version=version if source_name else "",
            licence=clean_text(fields.get("L")),
            supplier=clean_text(fields.get("m")),
            purl=derive_purl(
                "apk", name, version, namespace=distribution.id or "alpine",
                qualifiers={"arch": architecture, "distro": distribution.qualifier, "upstream": source_name},
            ),
            locations=(place,),
        )  # fmt: skip
