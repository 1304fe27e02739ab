"""The software bill of materials of an artifact: an SPDX 2.3 document in JSON (spdx.github.io/spdx-spec/v2.3)."""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from volant.fledge.sbom.licence import NOASSERTION, choose_licence
from volant.fledge.sbom.package import FoundPackage, clean_text

NAMESPACE = "https://volant.invalid/spdx/"
"""What precedes a document's own digest in its namespace. It names, and need not be reached (SPDX 2.3, 6.5)."""

DOCUMENT_ID = "SPDXRef-DOCUMENT"
PLACES_LISTED_MAX = 5

Purpose = Literal["APPLICATION", "CONTAINER", "FILE", "FIRMWARE", "OPERATING-SYSTEM", "SOURCE", "ARCHIVE", "OTHER"]

_NOT_IN_ID = re.compile(r"[^A-Za-z0-9.-]+")
_ADDRESS = re.compile(r"(?P<name>[^<>]*)<(?P<address>[^<>\s]+)>.*")
_GROUP = re.compile(
    r"\b(team|maintainers?|developers?|group|project|packagers|foundation|inc|ltd|gmbh|llc|corporation|authors|contributors)\b",
    re.IGNORECASE,
)


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """A part that no package database tells of: the artifact itself, the kernel, kestrel.

    ``sha256`` is 64 hexadecimal digits, of the file that ``file`` names or else of what ``purl`` names; ``""`` is unknown.
    """

    name: str
    version: str = ""
    file: str = ""
    sha256: str = ""
    purl: str = ""
    purpose: Purpose = "OTHER"
    comment: str = ""


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """What a document says. ``created_s`` counts seconds since 1970 and is an input: SOURCE_DATE_EPOCH, or a fixed time.

    ``artifact`` is what the document describes and what contains all else; ``notes`` say what could not be read.
    """

    artifact: Component
    parts: tuple[Component, ...] = ()
    packages: tuple[FoundPackage, ...] = ()
    notes: tuple[str, ...] = ()
    created_s: int
    tool_version: str


def write_spdx(inventory: Inventory) -> bytes:
    """The document. The same inventory gives the same bytes, in whatever order its packages come.

    Its namespace is derived from all that it says, so two documents that differ never share one (SPDX 2.3, 6.5).
    """
    root = _describe_component(inventory.artifact)
    parts = {package["SPDXID"]: package for package in map(_describe_component, inventory.parts)}
    parts |= {package["SPDXID"]: package for package in map(_describe_package, inventory.packages)}
    parts.pop(root["SPDXID"], None)
    contained = sorted(parts)
    document: dict[str, Any] = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": DOCUMENT_ID,
        "name": f"{inventory.artifact.name}-{inventory.artifact.version}".rstrip("-"),
        "creationInfo": {"created": _format_time(inventory.created_s), "creators": [f"Tool: fledge-{inventory.tool_version}"]},
        "packages": [root, *(parts[spdx_id] for spdx_id in contained)],
        "relationships": [
            _relate(DOCUMENT_ID, "DESCRIBES", root["SPDXID"]),
            *(_relate(root["SPDXID"], "CONTAINS", spdx_id) for spdx_id in contained),
        ],
    }
    if inventory.notes:
        document["comment"] = "\n".join(("Not all of the artifact could be read:", *sorted(inventory.notes)))
    document["documentNamespace"] = NAMESPACE + hashlib.sha256(_encode(document)).hexdigest()
    return _encode(document)


def _describe_component(component: Component) -> dict[str, Any]:
    described = {
        **_describe(_make_id("Component", component.name, component), component.name, component.version),
        "primaryPackagePurpose": component.purpose,
    }
    if component.file:
        described["packageFileName"] = component.file
    if component.sha256:
        described["checksums"] = [{"algorithm": "SHA256", "checksumValue": component.sha256}]
    if component.purl:
        described["externalRefs"] = [_refer(component.purl)]
    if component.comment:
        described["comment"] = component.comment
    return described


def _describe_package(package: FoundPackage) -> dict[str, Any]:
    described = {
        **_describe(_make_id(package.type, package.name, package), package.name, package.version),
        "externalRefs": [_refer(package.purl)],
        "comment": _list_places(package.locations),
    }
    licence = choose_licence(package.licence) if package.licence else None
    if licence is not None:
        described["licenseDeclared"] = licence
    elif package.licence:
        described["licenseComments"] = f"The package says of its licence: {package.licence}"
    if package.supplier:
        # A distribution's maintainer supplies the package; an author elsewhere is where it comes from (SPDX 2.3, 7.5 and 7.6).
        who = "originator" if package.type in ("npm", "pypi") else "supplier"
        described[who] = _name_actor(package.supplier)
    if package.source_name:
        # In the words that vulnerability scanners look for.
        described["sourceInfo"] = f"built package from: {package.source_name} {package.source_version}".rstrip()
    return described


def _describe(spdx_id: str, name: str, version: str) -> dict[str, Any]:
    described: dict[str, Any] = {
        "SPDXID": spdx_id,
        "name": name,
        "downloadLocation": NOASSERTION,
        "filesAnalyzed": False,
        "licenseConcluded": NOASSERTION,
        "licenseDeclared": NOASSERTION,
        "copyrightText": NOASSERTION,
    }
    if version:
        described["versionInfo"] = version
    return described


def _make_id(kind: str, name: str, content: msgspec.Struct) -> str:
    """Readable, and by its digest another one for all that differs in anything (SPDX 2.3, 7.2: letters, digits, ``.``, ``-``)."""
    digest = hashlib.sha256(_encode(msgspec.to_builtins(content))).hexdigest()[:24]
    return f"SPDXRef-{kind}-{_NOT_IN_ID.sub('-', name)[:64].strip('-')}-{digest}"


def _refer(purl: str) -> Mapping[str, str]:
    return {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}


def _relate(element: str, kind: str, related: str) -> Mapping[str, str]:
    return {"spdxElementId": element, "relationshipType": kind, "relatedSpdxElement": related}


def _list_places(locations: tuple[str, ...]) -> str:
    listed = ", ".join(locations[:PLACES_LISTED_MAX])
    more = len(locations) - PLACES_LISTED_MAX
    return f"Found in {listed}" + (f" and {more} more" if more > 0 else "")


def _name_actor(text: str) -> str:
    """``Person: name (address)``, or ``Organization:`` where the name says so (SPDX 2.3, 7.5); parentheses mark the address."""
    match = _ADDRESS.fullmatch(text)
    name, address = (match["name"], match["address"]) if match else (text, "")
    # Some vendors have their page there.
    address = address if "@" in address else ""
    name = clean_text(re.sub(r"[()]", " ", name)).strip('" ') or address
    if not name:
        return NOASSERTION
    kind = "Organization" if _GROUP.search(name) else "Person"
    return f"{kind}: {name} ({address})" if address and "(" not in address and ")" not in address else f"{kind}: {name}"


def _format_time(seconds: int) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _encode(document: object) -> bytes:
    return (json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode("utf-8", "replace")
