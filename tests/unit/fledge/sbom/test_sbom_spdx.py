from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spdx_tools.spdx.model import Document
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from volant.fledge.sbom.package import FoundPackage
from volant.fledge.sbom.scan import scan_tree
from volant.fledge.sbom.spdx import Component, Inventory, write_spdx

from .trees import make_apk, make_deb, write, write_node, write_python

ARTIFACT = Component(name="web", version="1.2.0", file="rootfs.erofs", sha256="ab" * 32, purpose="CONTAINER")
KERNEL = Component(
    name="linux-image-6.1.0-18-cloud-amd64",
    version="6.1.76-1",
    file="vmlinux",
    sha256="cd" * 32,
    purl="pkg:deb/debian/linux-image-6.1.0-18-cloud-amd64@6.1.76-1?arch=amd64",
    purpose="OPERATING-SYSTEM",
    comment="The checksum is the package file's.",
)
KESTREL = Component(name="kestrel", version="0.1.0", sha256="ef" * 32, purpose="APPLICATION")


def make_inventory(*packages: FoundPackage, **more: Any) -> Inventory:
    return Inventory(
        artifact=ARTIFACT, parts=(KERNEL, KESTREL), packages=packages, created_s=1704067200, tool_version="0.1.0", **more
    )


def check(content: bytes) -> dict[str, Any]:
    """The document, after another implementation has read it and found nothing wrong."""
    document: dict[str, Any] = json.loads(content)
    parsed: Document = JsonLikeDictParser().parse(document)
    assert [message.validation_message for message in validate_full_spdx_document(parsed)] == []
    return document


def find(document: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [package for package in document["packages"] if package["name"] == name]
    assert isinstance(found, dict)
    return found


async def describe(root: Path) -> dict[str, Any]:
    scan = await scan_tree(root)
    return check(write_spdx(make_inventory(*scan.packages, notes=scan.notes)))


def test_an_artifact_without_packages() -> None:
    document = check(write_spdx(make_inventory()))
    root, kernel, kestrel = document["packages"][0], find(document, KERNEL.name), find(document, "kestrel")
    assert root["checksums"] == [{"algorithm": "SHA256", "checksumValue": "ab" * 32}]
    assert kernel["externalRefs"][0]["referenceLocator"] == KERNEL.purl
    assert document["relationships"] == [
        {"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": root["SPDXID"]},
        *(
            {"spdxElementId": root["SPDXID"], "relationshipType": "CONTAINS", "relatedSpdxElement": spdx_id}
            for spdx_id in sorted((kernel["SPDXID"], kestrel["SPDXID"]))
        ),
    ]
    assert document["creationInfo"] == {"created": "2024-01-01T00:00:00Z", "creators": ["Tool: fledge-0.1.0"]}
    assert "comment" not in document


async def test_debian_packages(tmp_path: Path) -> None:
    write(
        tmp_path,
        "var/lib/dpkg/status",
        make_deb("libc6", "1:2.36~rc1-9+deb12u4", source="glibc", maintainer='"Ömer (Debian)" <o@example.org>')
        + make_deb("libc6", "1:2.36~rc1-9+deb12u4", architecture="i386", source="glibc")
        + make_deb(
            "libc6", "1:2.36~rc1-9+deb12u5", architecture="i386", source="glibc", maintainer="Debian Libc Team <l@example.org>"
        )
        + make_deb("g++", "4:12.2.0-3", maintainer="()"),
    )
    document = await describe(tmp_path)
    suppliers = {package["supplier"] for package in document["packages"] if package["name"] == "libc6"}
    assert suppliers == {
        "Person: Ömer Debian (o@example.org)",
        "Person: Jörg Ümläut (joerg@example.org)",
        "Organization: Debian Libc Team (l@example.org)",
    }
    compiler = find(document, "g++")
    assert (compiler["versionInfo"], compiler["supplier"]) == ("4:12.2.0-3", "NOASSERTION")
    assert {package.get("sourceInfo") for package in document["packages"] if package["name"] == "libc6"} == {
        "built package from: glibc 1:2.36~rc1-9+deb12u4",
        "built package from: glibc 1:2.36~rc1-9+deb12u5",
    }


async def test_alpine_python_and_node_packages(tmp_path: Path) -> None:
    write(
        tmp_path, "lib/apk/db/installed", make_apk("gcompat", "1.1.0-r4", L="mit and gpl-2.0-or-later", m="Ä B <a@example.org>")
    )
    write_python(tmp_path, "usr/x.dist-info/METADATA", "x", "1!1+l", "License: BSD-like, ask", "Author-email: Ö <o@example.org>")
    write_node(tmp_path, "node_modules/@s/y", name="@s/y", version="1.0.0-rc.1+b", license="(MIT OR CC0-1.0)")
    document = await describe(tmp_path)
    assert find(document, "gcompat")["licenseDeclared"] == "MIT AND GPL-2.0-or-later"
    assert find(document, "@s/y")["licenseDeclared"] == "(MIT OR CC0-1.0)"
    distribution = find(document, "x")
    assert distribution["licenseDeclared"] == "NOASSERTION"
    assert distribution["licenseComments"] == "The package says of its licence: BSD-like, ask"
    assert distribution["originator"] == "Person: Ö (o@example.org)"


async def test_an_empty_tree(tmp_path: Path) -> None:
    assert len((await describe(tmp_path))["packages"]) == 3


async def test_the_document_says_what_it_lacks(tmp_path: Path) -> None:
    write(tmp_path, "node_modules/broken/package.json", "{")
    document = await describe(tmp_path)
    assert document["comment"].splitlines() == [
        "Not all of the artifact could be read:",
        "node_modules/broken/package.json: it is no package.json",
    ]


def test_rpm_packages() -> None:
    package = FoundPackage(
        type="rpm",
        name="web+tool",
        version="2:1.2~rc1^git-3.fc39",
        architecture="noarch",
        licence="GPLv2+",
        supplier="SUSE LLC <https://example.org/>",
        purl="pkg:rpm/fedora/web%2Btool@1.2~rc1%5Egit-3.fc39?arch=noarch&epoch=2",
        locations=("var/lib/rpm/rpmdb.sqlite",),
    )
    described = find(check(write_spdx(make_inventory(package))), "web+tool")
    assert described["supplier"] == "Organization: SUSE LLC"
    assert described["comment"] == "Found in var/lib/rpm/rpmdb.sqlite"


def make_package(name: str, version: str = "1", **more: Any) -> FoundPackage:
    return FoundPackage(type="npm", name=name, version=version, purl=f"pkg:npm/{name}@{version}", **more)


def test_names_that_look_alike_in_an_identifier_stay_apart() -> None:
    packages = [
        make_package("a_b"),
        make_package("a+b"),
        make_package("a-b"),
        make_package("a-b", "2"),
        make_package("a-b", supplier="x"),
    ]
    ids = [package["SPDXID"] for package in check(write_spdx(make_inventory(*packages)))["packages"]]
    assert len(set(ids)) == len(ids) == 3 + len(packages)


def test_the_same_package_twice_is_there_once() -> None:
    assert len(check(write_spdx(make_inventory(make_package("a"), make_package("a"))))["packages"]) == 4


def test_many_places_are_counted_and_not_listed() -> None:
    places = tuple(f"app{number}/package.json" for number in range(7))
    described = find(check(write_spdx(make_inventory(make_package("a", locations=places)))), "a")
    assert described["comment"] == f"Found in {', '.join(places[:5])} and 2 more"


def test_order_does_not_show_and_every_difference_gets_a_namespace() -> None:
    packages = [make_package(name) for name in "abc"]
    content = write_spdx(make_inventory(*packages))
    assert write_spdx(make_inventory(*reversed(packages))) == content
    namespace = json.loads(content)["documentNamespace"]
    assert namespace.startswith("https://volant.invalid/spdx/")
    others = (
        make_inventory(*packages[:2]),
        msgspec.structs.replace(make_inventory(*packages), created_s=0),
        msgspec.structs.replace(make_inventory(*packages), artifact=msgspec.structs.replace(ARTIFACT, sha256="00" * 32)),
        make_inventory(*packages, notes=("x: it is larger",)),
    )
    namespaces = {json.loads(write_spdx(other))["documentNamespace"] for other in others}
    assert len(namespaces | {namespace}) == 1 + len(others)


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=40), st.text(max_size=40))
def test_whatever_a_package_says_the_document_is_valid(licence: str, supplier: str) -> None:
    check(write_spdx(make_inventory(make_package("a", licence=licence, supplier=supplier))))


@pytest.mark.parametrize("supplier", ["<a@example.org>", "A <>", "A <b", "A (x) <a(b)@example.org>", '"', "a@example.org"])
def test_suppliers_of_every_shape(supplier: str) -> None:
    check(write_spdx(make_inventory(make_package("a", supplier=supplier))))
