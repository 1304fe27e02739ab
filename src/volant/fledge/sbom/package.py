"""One package that a root tree tells of, whatever kind of database told it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec
from packageurl import PackageURL

TEXT_MAX = 1024
"""Characters that are kept of a name, a version, a licence or a maintainer."""

PackageType = Literal["apk", "deb", "npm", "pypi", "rpm"]

# White space, control characters, what turns the direction of writing, and what is no character.
_BLANK = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]+")


class FoundPackage(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """``licence`` and ``supplier`` are the package's own words, ``locations`` the files that tell of it; ``""`` is unknown.

    ``purl`` is a Package URL (github.com/package-url/purl-spec); ``source_name`` and ``source_version`` name the source package
    that it was built from, where that is not the package itself.
    """

    type: PackageType
    name: str
    version: str = ""
    architecture: str = ""
    source_name: str = ""
    source_version: str = ""
    licence: str = ""
    supplier: str = ""
    purl: str
    locations: tuple[str, ...] = ()


class Distribution(msgspec.Struct, frozen=True):
    """Whose packages they are: ``ID`` and ``VERSION_ID`` of os-release(5); ``""`` when the tree does not say."""

    id: str = ""
    version: str = ""

    @property
    def qualifier(self) -> str:
        """What purl calls ``distro``: ``debian-12``."""
        return f"{self.id}-{self.version}" if self.id and self.version else self.id


def clean_text(text: object) -> str:
    """``text`` on one line without control characters, no longer than ``TEXT_MAX``; ``""`` for anything but a string."""
    return _BLANK.sub(" ", text[: 8 * TEXT_MAX]).strip()[:TEXT_MAX].rstrip() if isinstance(text, str) else ""


def derive_purl(
    kind: PackageType, name: str, version: str, *, namespace: str = "", qualifiers: Mapping[str, str] | None = None
) -> str:
    """The Package URL; qualifiers that are empty are left out. ``name`` must not be empty."""
    given = {key: value for key, value in (qualifiers or {}).items() if value}
    return PackageURL(kind, namespace or None, name, version or None, given or None).to_string()


def merge_packages(packages: Iterable[FoundPackage]) -> tuple[FoundPackage, ...]:
    """Sorted; a package that was found in many places is there once, with all of them."""
    merged: dict[FoundPackage, set[str]] = {}
    for package in packages:
        key = msgspec.structs.replace(package, locations=())
        merged.setdefault(key, set()).update(package.locations)
    return tuple(sorted(msgspec.structs.replace(key, locations=tuple(sorted(places))) for key, places in merged.items()))
