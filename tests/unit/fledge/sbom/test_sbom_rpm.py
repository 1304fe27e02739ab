from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import pytest

from volant.core.errors import Unavailable
from volant.fledge.sbom import rpm
from volant.fledge.sbom.scan import scan_tree
from volant.run import run

from .trees import make_ndb, write

pytestmark = [
    pytest.mark.spawns,
    pytest.mark.skipif(shutil.which("rpmbuild") is None, reason="Debian's rpm is not installed"),
]

SPEC = """\
Name: web+tool
Version: 1.2~rc1
Release: 3.fc39
Epoch: 2
Summary: A tool
License: MIT AND (Apache-2.0 OR GPL-2.0-or-later)
Vendor: Märchen Project
BuildArch: noarch
%description
A tool
%package -n libtool
Summary: Its library
Version: 7
License: GPLv2+
%description -n libtool
Its library
%files
%files -n libtool
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    import asyncio

    top = tmp_path_factory.mktemp("rpmbuild")
    spec = write(top, "tool.spec", SPEC)
    asyncio.run(run(["rpmbuild", "-bb", "--define", f"_topdir {top}", spec], timeout_s=60))
    return sorted(top.glob("RPMS/*/*.rpm"))


@pytest.fixture
async def root(tmp_path: Path, packages: list[Path]) -> Path:
    root = tmp_path / "root"
    database = root / "var/lib/rpm"
    write(root, "etc/os-release", "ID=fedora\nVERSION_ID=39\n")
    for options in (["--initdb"], ["--install", "--justdb", "--nodeps", *packages]):
        await run(["rpm", "--dbpath", database, "--define", "_db_backend sqlite", *options], timeout_s=60)
    return root


async def test_packages_of_a_database_that_rpm_wrote(root: Path) -> None:
    scan = await scan_tree(root)
    assert scan.notes == ()
    assert [package.purl for package in scan.packages] == [
        "pkg:rpm/fedora/libtool@7-3.fc39?arch=noarch&distro=fedora-39&epoch=2&upstream=web%2Btool-1.2~rc1-3.fc39.src.rpm",
        "pkg:rpm/fedora/web%2Btool@1.2~rc1-3.fc39?arch=noarch&distro=fedora-39&epoch=2",
    ]
    library, tool = scan.packages
    assert (tool.version, tool.supplier) == ("2:1.2~rc1-3.fc39", "Märchen Project")
    assert tool.licence == "MIT AND (Apache-2.0 OR GPL-2.0-or-later)"
    assert (library.source_name, library.source_version) == ("web+tool", "1.2~rc1-3.fc39")
    assert tool.locations == ("var/lib/rpm/rpmdb.sqlite",)


async def test_a_database_is_read_once_where_its_directory_has_two_names(root: Path) -> None:
    (root / "usr/lib/sysimage").mkdir(parents=True)
    (root / "var/lib/rpm").rename(root / "usr/lib/sysimage/rpm")
    (root / "var/lib/rpm").symlink_to("../../usr/lib/sysimage/rpm")
    assert len((await scan_tree(root)).packages) == 2


def list_files(root: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_mtime_ns, path.stat().st_uid) for path in root.rglob("*")}


async def test_the_tree_is_not_touched_and_nothing_stays_behind(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    real_run = rpm.run

    async def run_and_note(*command: Any, **options: Any) -> Any:
        used.append(options["cwd"])
        return await real_run(*command, **options)

    monkeypatch.setattr(rpm, "run", run_and_note)
    before = list_files(root)
    assert len((await scan_tree(root)).packages) == 2
    assert list_files(root) == before
    assert [path.exists() for path in used] == [False]


async def test_a_directory_for_temporary_files_that_is_closed_to_others(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(closed))
    assert len((await scan_tree(root)).packages) == 2


async def test_damaged_packages_are_noted_and_the_others_found(root: Path) -> None:
    with contextlib.closing(sqlite3.connect(root / "var/lib/rpm/rpmdb.sqlite")) as database:
        database.execute("update Packages set blob = substr(blob, 1, 100) where hnum = 1")
        database.commit()
    scan = await scan_tree(root)
    assert len(scan.packages) == 1
    assert len(scan.notes) == 1
    assert "var/lib/rpm/rpmdb.sqlite: rpm cannot read all of its packages: " in scan.notes[0]


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ("blob", "what it holds is longer than 131072 bytes"),
        ("substr(blob, 1, 100)", "rpm cannot read all of its packages: rpmdbNextIterator: skipping h#"),
    ],
)
async def test_a_table_without_end_is_cut_off(root: Path, header: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpm, "OUTPUT_MAX_BYTES", 128 * 1024)
    with contextlib.closing(sqlite3.connect(root / "var/lib/rpm/rpmdb.sqlite")) as database:
        database.execute("alter table Packages rename to Real")
        database.execute(
            f"create view Packages as with recursive endless(hnum, blob) as (select 1, (select {header} from Real limit 1)"
            " union all select hnum + 1, blob from endless) select hnum, blob from endless"
        )
        database.commit()
    scan = await scan_tree(root)
    assert scan.packages == ()
    assert [note.startswith(f"var/lib/rpm/rpmdb.sqlite: {why}") for note in scan.notes] == [True], scan.notes


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("rpmdb.sqlite", "rpm cannot read all of its packages"),
        ("Packages.db", "its packages cannot be read: it does not begin like a database"),
        ("Packages", "rpm cannot read all of its packages"),
    ],
)
async def test_what_rpm_cannot_read_is_said(tmp_path: Path, name: str, what: str) -> None:
    write(tmp_path, f"usr/lib/sysimage/rpm/{name}", b"\x00no database\xff" * 1000)
    scan = await scan_tree(tmp_path)
    assert scan.packages == ()
    assert [note.startswith(f"usr/lib/sysimage/rpm/{name}: {what}") for note in scan.notes] == [True], scan.notes


async def test_an_ndb_database_is_read_like_any_other(root: Path) -> None:
    with contextlib.closing(sqlite3.connect(root / "var/lib/rpm/rpmdb.sqlite")) as database:
        headers = database.execute("select hnum, blob from Packages").fetchall()
    found = (await scan_tree(root)).packages
    shutil.rmtree(root / "var/lib/rpm")
    write(root, "usr/lib/sysimage/rpm/Packages.db", make_ndb(headers))
    scan = await scan_tree(root)
    assert scan.notes == ()
    assert [package.purl for package in scan.packages] == [package.purl for package in found]


def test_an_rpm_that_lacks_a_backend_and_ends_with_0() -> None:
    said = b"warning: using dummy database, installs not possible\n"
    assert rpm._find_problem(0, said, "bdb_ro") == (
        "the rpm here reads no database of the kind bdb_ro, so its packages are missing"
    )


async def test_databases_too_large_are_not_copied(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpm, "DATABASE_MAX_BYTES", 1000)
    assert (await scan_tree(root)).notes == ("var/lib/rpm/rpmdb.sqlite: it is larger than 1000 bytes",)


async def test_without_rpm_the_list_would_lack_them_silently(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("prlimit", "setpriv", "sh"):
        (programs / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setattr("volant.run.SYSTEM_PATH", str(programs))
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(Unavailable) as caught:
        await scan_tree(root)
    assert caught.value.hint == "apt-get install rpm util-linux"

    (programs / "prlimit").unlink()
    with pytest.raises(Unavailable):
        await scan_tree(root)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to drop")
async def test_rpm_runs_without_privileges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = "id -u; id -G; grep -E '^(CapEff|CapBnd|NoNewPrivs):' /proc/self/status"
    monkeypatch.setattr(rpm, "_SCRIPTS", {"sqlite": shown})
    answer = await rpm._run_rpm(tmp_path, "sqlite")
    assert answer.text.split() == [
        "65534", "65534", "CapEff:", "0000000000000000", "CapBnd:", "0000000000000000", "NoNewPrivs:", "1",
    ]  # fmt: skip
