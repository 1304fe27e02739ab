"""Node packages, from package.json (docs.npmjs.com/cli/configuring-npm/package-json)."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from volant.fledge.sbom.package import FoundPackage, clean_text, derive_purl
from volant.fledge.sbom.tree import Entry, Tree, printable

PACKAGE_JSON_MAX_BYTES = 2 * 1024 * 1024

# A package in node_modules, perhaps with a scope; what lies deeper in one is its own affair (fixtures, "type" markers).
_INSTALLED = re.compile(r"(?:.*/)?node_modules/(?:@[^/]+/)?[^/]+/package\.json", re.DOTALL)
_NAME = re.compile(r"(?:(?P<scope>@[A-Za-z0-9._~-]{1,214})/)?(?P<name>[A-Za-z0-9._~!'()*-]{1,214})")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+~-]*")


class _PackageJson(msgspec.Struct, frozen=True):
    name: Any = None
    version: Any = None
    license: Any = None
    licenses: Any = None
    author: Any = None


def is_metadata(entry: Entry) -> bool:
    """Whether a file describes a package that was installed, or an application that stands by itself."""
    return entry.name == "package.json" and ("node_modules/" not in entry.path or _INSTALLED.fullmatch(entry.path) is not None)


def read_node_package(tree: Tree, entry: Entry) -> FoundPackage | None:
    """What package.json says; None when it names no package, with a note only where there must be one."""
    content = tree.read_entry(entry, PACKAGE_JSON_MAX_BYTES)
    if content is None:
        return None
    installed = "node_modules/" in entry.path
    try:
        data = msgspec.json.decode(content.removeprefix(b"\xef\xbb\xbf"), type=_PackageJson)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        if installed:
            tree.add_note(entry.path, "it is no package.json")
        return None
    name, version = _NAME.fullmatch(clean_text(data.name)), clean_text(data.version)
    if name is None or not _VERSION.fullmatch(version):
        # Many directories have one that names nothing, to say of what kind the files beside it are.
        if installed:
            tree.add_note(entry.path, "it names no Node package and version")
        return None
    return FoundPackage(
        type="npm",
        name=name[0],
        version=version,
        licence=_read_licence(data),
        supplier=_read_author(data.author),
        purl=derive_purl("npm", name["name"], version, namespace=name["scope"] or ""),
        locations=(printable(entry.path),),
    )


def _read_licence(data: _PackageJson) -> str:
    """``license`` as an expression; objects and lists are how it was written before there were expressions."""
    if isinstance(data.license, dict):
        return clean_text(data.license.get("type"))
    if isinstance(data.license, str):
        return clean_text(data.license)
    several = data.licenses if isinstance(data.licenses, list) else []
    names = [clean_text(item.get("type") if isinstance(item, dict) else item) for item in several[:16]]
    return clean_text(" OR ".join(name for name in names if name))


def _read_author(author: object) -> str:
    if not isinstance(author, dict):
        # "Name <address> (page)" in one.
        return clean_text(author).partition(" (")[0]
    name, address = clean_text(author.get("name")), clean_text(author.get("email"))
    return f"{name} <{address}>" if name and address else name or address
