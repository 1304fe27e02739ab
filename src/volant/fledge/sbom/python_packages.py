"""Python distributions, from the metadata that their installers leave (packaging.python.org, "Core metadata specifications")."""

from __future__ import annotations

import re
from email.message import Message
from email.parser import HeaderParser

from volant.fledge.sbom.licence import choose_licence, read_classifiers
from volant.fledge.sbom.package import FoundPackage, clean_text, derive_purl
from volant.fledge.sbom.tree import Entry, Tree, printable

HEADERS_MAX_BYTES = 256 * 1024
"""What is read of a metadata file: the description that follows the headers is of no use here."""

# Names and versions as PEP 508 and PEP 440 have them, and what older tools let through.
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.!+_~-]*")


def is_metadata(entry: Entry) -> bool:
    """Whether a file is the metadata of a wheel, an egg, or what distutils installed."""
    if entry.name == "METADATA":
        return entry.parent.endswith(".dist-info")
    if entry.name == "PKG-INFO":
        return entry.parent.endswith(".egg-info") or entry.parent == "EGG-INFO"
    return entry.name.endswith(".egg-info")


def read_distribution_package(tree: Tree, entry: Entry) -> FoundPackage | None:
    """What the metadata file says; None (and a note) when it names no distribution."""
    content = tree.read_entry(entry, HEADERS_MAX_BYTES, truncate=True)
    if content is None:
        return None
    # Without the description, which may be as long as it likes and is never looked at.
    head = re.split(r"\r?\n\r?\n", content.decode("utf-8", "replace").lstrip("\ufeff\r\n"), maxsplit=1)[0]
    message = HeaderParser().parsestr(head)
    name, version = _read_header(message, "Name"), _read_header(message, "Version")
    if not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
        tree.add_note(entry.path, "it names no Python distribution and version")
        return None
    return FoundPackage(
        type="pypi",
        name=name,
        version=version,
        licence=_read_licence(message),
        supplier=_read_author(message),
        purl=derive_purl("pypi", name, version),
        locations=(printable(entry.path),),
    )


def _read_header(message: Message, name: str) -> str:
    text = clean_text(str(message.get(name, "")))
    # What tools write that have nothing to say.
    return "" if text == "UNKNOWN" else text


def _read_licence(message: Message) -> str:
    """The expression of PEP 639, else the free text when it is one by chance, else what the classifiers are sure of."""
    expression, text = _read_header(message, "License-Expression"), _read_header(message, "License")
    if expression or choose_licence(text) is not None:
        return expression or text
    return read_classifiers([str(value) for value in message.get_all("Classifier", [])]) or text


def _read_author(message: Message) -> str:
    for kind in ("Author", "Maintainer"):
        name, address = _read_header(message, kind), _read_header(message, f"{kind}-email")
        if name and address and "<" not in address:
            return f"{name} <{address}>"
        if name or address:
            return address if "<" in address else name or address
    return ""
