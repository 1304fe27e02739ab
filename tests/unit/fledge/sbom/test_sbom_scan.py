from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from volant.core.errors import DiskFull
from volant.fledge.sbom import dpkg, node_packages, python_packages, tree
from volant.fledge.sbom.package import Distribution, FoundPackage
from volant.fledge.sbom.scan import scan_tree

from .trees import make_apk, make_deb, write, write_node, write_python


async def find(root: Path) -> dict[str, FoundPackage]:
    scan = await scan_tree(root)
    assert not scan.notes
    return {package.purl: package for package in scan.packages}


async def test_dpkg_with_epochs_sources_and_the_same_name_for_two_architectures(tmp_path: Path) -> None:
    write(tmp_path, "etc/os-release", 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12"\n')
    write(
        tmp_path,
        "var/lib/dpkg/status",
        make_deb("libc6", "1:2.36~rc1-9+deb12u4", source="glibc (2.36~rc1-9+deb12u4)")
        + make_deb("libc6", "1:2.36~rc1-9+deb12u4", architecture="i386", source="glibc (2.36~rc1-9+deb12u4)")
        + make_deb("g++", "4:12.2.0-3")
        + make_deb("gone", "1", status="deinstall ok config-files")
        + make_deb("never", "1", status="unknown ok not-installed")
        + make_deb("halfway", "1", status="install ok half-configured"),
    )
    found = await find(tmp_path)
    assert list(found) == [
        "pkg:deb/debian/g%2B%2B@4:12.2.0-3?arch=amd64&distro=debian-12",
        "pkg:deb/debian/halfway@1?arch=amd64&distro=debian-12",
        "pkg:deb/debian/libc6@1:2.36~rc1-9%2Bdeb12u4?arch=amd64&distro=debian-12&upstream=glibc%402.36~rc1-9%2Bdeb12u4",
        "pkg:deb/debian/libc6@1:2.36~rc1-9%2Bdeb12u4?arch=i386&distro=debian-12&upstream=glibc%402.36~rc1-9%2Bdeb12u4",
    ]
    libc = list(found.values())[2]
    assert (libc.source_name, libc.source_version) == ("glibc", "2.36~rc1-9+deb12u4")
    assert libc.supplier == "Jörg Ümläut <joerg@example.org>"
    assert libc.locations == ("var/lib/dpkg/status",)


async def test_distroless_keeps_a_file_for_each_package_and_no_status(tmp_path: Path) -> None:
    stanza = "Package: tzdata\nVersion: 2024a-0+deb12u1\nArchitecture: all\nMaintainer: GNU Libc Maintainers <l@example.org>\n"
    write(tmp_path, "usr/lib/os-release", "ID=debian\nVERSION_ID=12\n")
    write(tmp_path, "var/lib/dpkg/status.d/tzdata", stanza)
    write(tmp_path, "var/lib/dpkg/status.d/tzdata.md5sums", "d41d8cd98f00b204e9800998ecf8427e  usr/share/zoneinfo/UTC\n")
    found = await find(tmp_path)
    assert list(found) == ["pkg:deb/debian/tzdata@2024a-0%2Bdeb12u1?arch=all&distro=debian-12"]


async def test_apk_by_either_path_and_only_once(tmp_path: Path) -> None:
    write(tmp_path, "etc/os-release", "ID=alpine\nVERSION_ID=3.19.1\n")
    database = make_apk("musl", "1.2.4_git20230717-r4", L="MIT", m="Timo Teräs <timo@example.org>", o="musl") + make_apk(
        "libcrypto3", "3.1.4-r5", L="Apache-2.0", o="openssl"
    )
    write(tmp_path, "usr/lib/apk/db/installed", database)
    (tmp_path / "lib").symlink_to("usr/lib")
    found = await find(tmp_path)
    assert list(found) == [
        "pkg:apk/alpine/libcrypto3@3.1.4-r5?arch=x86_64&distro=alpine-3.19.1&upstream=openssl",
        "pkg:apk/alpine/musl@1.2.4_git20230717-r4?arch=x86_64&distro=alpine-3.19.1",
    ]
    crypto, musl = found.values()
    assert (crypto.source_name, musl.source_name, musl.licence) == ("openssl", "", "MIT")
    assert musl.locations == ("lib/apk/db/installed",)


async def test_python_wheels_eggs_and_distutils(tmp_path: Path) -> None:
    site = "usr/lib/python3/dist-packages"
    write_python(
        tmp_path, f"{site}/Zope.Thing-1.0.dist-info/METADATA", "Zope_Thing", "1!2.0+local", "License-Expression: MIT OR 0BSD"
    )
    write_python(
        tmp_path,
        "opt/app/lib/old.egg-info/PKG-INFO",
        "old",
        "0.1",
        "License: UNKNOWN",
        "Author: A",
        "Author-email: a@example.org",
    )
    write_python(tmp_path, "srv/x.egg/EGG-INFO/PKG-INFO", "zipped", "3", "Classifier: License :: OSI Approved :: MIT License")
    write_python(
        tmp_path, "home/me/distutils-1.egg-info", "distutils-made", "1", "License: BSD", "Classifier: License :: OSI Approved"
    )
    write_python(tmp_path, "usr/share/doc/METADATA", "not-this", "1")
    found = await find(tmp_path)
    assert {purl: (package.licence, package.supplier) for purl, package in found.items()} == {
        "pkg:pypi/distutils-made@1": ("BSD", ""),
        "pkg:pypi/old@0.1": ("", "A <a@example.org>"),
        "pkg:pypi/zipped@3": ("MIT", ""),
        "pkg:pypi/zope-thing@1%212.0%2Blocal": ("MIT OR 0BSD", ""),
    }


async def test_node_packages_scopes_applications_and_what_is_none(tmp_path: Path) -> None:
    modules = "app/node_modules"
    write_node(tmp_path, "app", name="shop", version="1.0.0", license="UNLICENSED")
    write_node(tmp_path, f"{modules}/@scope/thing", name="@scope/thing", version="2.0.0-rc.1+5", license={"type": "MIT"})
    write_node(tmp_path, f"{modules}/left-pad", name="left-pad", version="1.3.0", author={"name": "Ä", "email": "a@example.org"})
    write_node(tmp_path, f"{modules}/.pnpm/left-pad@1.3.0/node_modules/left-pad", name="left-pad", version="1.3.0", author="Ä <a@example.org> (https://example.org)")  # fmt: skip  # noqa: E501
    write_node(tmp_path, f"{modules}/left-pad/dist/cjs", type="commonjs")
    write_node(tmp_path, f"{modules}/left-pad/test/fixture", name="fixture", version="1.0.0")
    write_node(tmp_path, "srv/marker", type="module")
    found = await find(tmp_path)
    assert list(found) == ["pkg:npm/%40scope/thing@2.0.0-rc.1%2B5", "pkg:npm/left-pad@1.3.0", "pkg:npm/shop@1.0.0"]
    scoped, pad, _ = found.values()
    assert (scoped.name, scoped.licence) == ("@scope/thing", "MIT")
    assert pad.supplier == "Ä <a@example.org>"
    assert pad.locations == (
        f"{modules}/.pnpm/left-pad@1.3.0/node_modules/left-pad/package.json",
        f"{modules}/left-pad/package.json",
    )


async def test_an_empty_tree_has_nothing_and_nothing_to_say(tmp_path: Path) -> None:
    scan = await scan_tree(tmp_path)
    assert (scan.packages, scan.notes, scan.distribution) == ((), (), Distribution())


async def test_links_lead_around_inside_the_root_and_never_out(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    write(outside, "status", make_deb("outside", "1"))
    write(outside, "node_modules/evil/package.json", '{"name":"evil","version":"1"}')
    write(root, "data/status", make_deb("inside", "1"))
    (root / "var/lib/dpkg").mkdir(parents=True)
    (root / "var/lib/dpkg/status").symlink_to("../../../../../../data/status")
    (root / "lib").symlink_to(outside)
    (root / "etc").symlink_to("/etc")
    (root / "srv").symlink_to(outside)
    (root / "usr").mkdir()
    (root / "usr/loop").symlink_to("../usr")
    scan = await scan_tree(root)
    assert [package.name for package in scan.packages] == ["inside"]

    (root / "var/lib/dpkg/status").unlink()
    (root / "var/lib/dpkg/status").symlink_to(outside / "status")
    assert (await scan_tree(root)).packages == ()


async def test_what_is_no_file_is_noted_and_never_waited_for(tmp_path: Path) -> None:
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    os.mkfifo(tmp_path / "var/lib/dpkg/status")
    (tmp_path / "lib/apk/db/installed").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").symlink_to("os-release")
    scan = await scan_tree(tmp_path)
    assert scan.packages == ()
    assert [note.partition(":")[0] for note in scan.notes] == ["etc/os-release", "lib/apk/db/installed", "var/lib/dpkg/status"]


async def test_databases_too_large_and_metadata_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dpkg, "STATUS_MAX_BYTES", 100)
    monkeypatch.setattr(node_packages, "PACKAGE_JSON_MAX_BYTES", 100)
    monkeypatch.setattr(python_packages, "HEADERS_MAX_BYTES", 100)
    write(tmp_path, "var/lib/dpkg/status", make_deb("large", "1"))
    write_node(tmp_path, "node_modules/large", name="large", version="1", readme="x" * 200)
    write_python(tmp_path, "usr/large.dist-info/METADATA", "large", "1", f"Summary: {'x' * 200}")
    scan = await scan_tree(tmp_path)
    assert [package.type for package in scan.packages] == ["pypi"]
    assert scan.notes == (
        "node_modules/large/package.json: it is larger than 100 bytes",
        "var/lib/dpkg/status: it is larger than 100 bytes",
    )


async def test_broken_entries_are_noted_and_take_no_others_along(tmp_path: Path) -> None:
    write(
        tmp_path,
        "var/lib/dpkg/status",
        b"Package: no-version\n\nnot a field\n\n-----BEGIN PGP SIGNATURE-----\n\nPackage: a\n b\x0bc\n\n"
        b"Package: ../../etc\nVersion: 1\n\nPackage: x\nVersion: \xff\n\n" + make_deb("whole", "1").encode(),
    )
    write(tmp_path, "lib/apk/db/installed", "P:only-a-name\n\nV:1\n\n" + make_apk("whole", "1-r0"))
    for number, content in enumerate(
        (b"{", b"[]", b'{"name":1,"version":[]}', b"\xff", b"[" * 100_000, b'{"name":"a\\u0000b","version":"1"}')
    ):
        write(tmp_path, f"node_modules/broken{number}/package.json", content)
    write(tmp_path, "srv/package.json", b"{")
    for number, content in enumerate((b"", b"\x00\xff", b"Name: x", b"Name: a/b\nVersion: 1", b"Version: 1\nName:\n\n")):
        write(tmp_path, f"usr/broken{number}.dist-info/METADATA", content)
    scan = await scan_tree(tmp_path)
    assert [(package.type, package.name) for package in scan.packages] == [("apk", "whole"), ("deb", "whole")]
    noted = [note.partition(":")[0] for note in scan.notes]
    assert noted == (
        ["lib/apk/db/installed"]
        + [f"node_modules/broken{number}/package.json" for number in range(6)]
        + [f"usr/broken{number}.dist-info/METADATA" for number in range(5)]
        + ["var/lib/dpkg/status"] * 2  # one for what is no field, one for what lacks a name
    )


def write_strange_names(root: Path) -> None:
    directory = os.fsencode(root) + b"/bad\xff\n/x.dist-info"
    os.makedirs(directory)
    Path(os.fsdecode(directory + b"/METADATA")).write_text("Name: x\nVersion: 1\nAuthor: A\x1b[31m\u202eB\n")


async def test_names_that_are_no_utf8_and_control_characters_become_text(tmp_path: Path) -> None:
    write_strange_names(tmp_path)
    (package,) = (await scan_tree(tmp_path)).packages
    assert package.locations == ("bad\\xff\\x0a/x.dist-info/METADATA",)
    assert package.supplier == "A [31m B"


async def test_depth_and_numbers_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "DEPTH_MAX", 4)
    write_python(tmp_path, "1/2/3/x.dist-info/METADATA", "reached", "1")
    write_python(tmp_path, "1/2/3/4/y.dist-info/METADATA", "too-deep", "1")
    scan = await scan_tree(tmp_path)
    assert [package.name for package in scan.packages] == ["reached"]
    assert scan.notes == ("1/2/3/4/y.dist-info: it lies deeper than 4 directories",)

    monkeypatch.setattr(tree, "ENTRIES_MAX", 2)
    assert (await scan_tree(tmp_path)).notes == ("1/2: the tree has more than 2 entries",)


def test_a_full_disk_is_no_fault_of_the_tree(tmp_path: Path) -> None:
    write(tmp_path, "database", b"x" * 100)
    full = Path("/dev/full")

    class FullDisk(type(full)):  # type: ignore[misc]  # the concrete class of this platform's paths
        def open(self, *_: object, **__: object) -> object:
            return full.open("wb", buffering=0)

    with pytest.raises(DiskFull, match="no space for a copy of database"):
        tree.Tree(tmp_path).copy_file("database", FullDisk("/dev/full"), 1000)


async def test_notes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "NOTES_MAX", 3)
    for number in range(9):
        write(tmp_path, f"node_modules/b{number}/package.json", b"{")
    assert len((await scan_tree(tmp_path)).notes) == 4


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        ('ID="rocky"\nVERSION_ID="9.3"\n', Distribution("rocky", "9.3")),
        ("# ID=x\nID=void\n", Distribution("void", "")),
        ("ID='../x'\nVERSION_ID=1&arch=x\n", Distribution("", "")),
        ('ID="unclosed\nVERSION_ID=1\n', Distribution("", "1")),
    ],
)
async def test_os_release(tmp_path: Path, text: str, distribution: Distribution) -> None:
    write(tmp_path, "etc/os-release", text)
    assert (await scan_tree(tmp_path)).distribution == distribution


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=400) | st.text("PVAF:\n -", max_size=200).map(str.encode))
async def test_no_content_of_any_database_raises(tmp_path: Path, content: bytes) -> None:
    for path in (
        "etc/os-release",
        "var/lib/dpkg/status",
        "lib/apk/db/installed",
        "usr/x.dist-info/METADATA",
        "node_modules/x/package.json",
    ):
        write(tmp_path, path, content)
    await scan_tree(tmp_path)
