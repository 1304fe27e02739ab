"""Small archives of Debian packages, made on the spot: what apt and mmdebstrap need and nothing more."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import msgspec

SUITE = "bookworm"

# What dpkg looks for before it installs anything, and what its maintainer scripts are run by.
_PROGRAMS = ("sh", "dpkg", "dpkg-deb", "dpkg-split", "dpkg-query", "tar", "rm", "diff", "env", "ldconfig", "start-stop-daemon")


class MadePackage(msgspec.Struct, frozen=True):
    name: str
    version: str
    architecture: str
    file: str
    sha256: str
    size: int


class MadeArchive:
    """An archive in a directory, read by ``mirror``; ``publish`` writes the lists of what is there now."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.packages: dict[str, MadePackage] = {}
        (directory / "pool").mkdir(parents=True, exist_ok=True)

    def copy(self, directory: Path) -> MadeArchive:
        shutil.copytree(self.directory, directory)
        copied = MadeArchive(directory)
        copied.packages = dict(self.packages)
        return copied

    @property
    def mirror(self) -> str:
        return f"deb [trusted=yes] copy:{self.directory} {SUITE} main"

    def add(
        self, name: str, version: str = "1", *, fields: str = "", files: dict[str, bytes] | None = None, script: str = ""
    ) -> MadePackage:
        file = f"pool/{name}_{version.replace(':', '%3a')}_all.deb"
        made = build_package(self.directory / file, name, version, fields=fields, files=files, script=script)
        self.packages[name] = msgspec.structs.replace(made, file=file)
        return self.packages[name]

    def remove(self, name: str) -> None:
        (self.directory / self.packages.pop(name).file).unlink()

    def publish(self) -> None:
        paragraphs = []
        for package in self.packages.values():
            shown = subprocess.run(["dpkg-deb", "-f", self.directory / package.file], capture_output=True, check=True)
            paragraphs.append(
                shown.stdout.decode() + f"Filename: {package.file}\nSize: {package.size}\nSHA256: {package.sha256}\n"
            )
        content = "\n".join(paragraphs).encode()
        lists = self.directory / f"dists/{SUITE}/main/binary-amd64"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / "Packages").write_bytes(content)
        (self.directory / f"dists/{SUITE}/Release").write_text(
            f"Origin: Made\nSuite: {SUITE}\nCodename: {SUITE}\nArchitectures: amd64\nComponents: main\n"
            "Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n"
            f" {hashlib.sha256(content).hexdigest()} {len(content)} main/binary-amd64/Packages\n"
        )


def build_package(
    path: Path,
    name: str,
    version: str = "1",
    *,
    architecture: str = "all",
    fields: str = "",
    files: dict[str, bytes] | None = None,
    script: str = "",
) -> MadePackage:
    """Write a package file; ``fields`` are further lines of its control file, ``script`` is its postinst."""
    tree = path.with_suffix(".tree")
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: Nobody <nobody@example.org>\n"
        f"Priority: optional\n{fields}Description: made for a test\n"
    )
    if script:
        (tree / "DEBIAN/postinst").write_text(f"#!/bin/sh\nset -e\n{script}\n")
        (tree / "DEBIAN/postinst").chmod(0o755)
    for file, content in (files or {}).items():
        (tree / file).parent.mkdir(parents=True, exist_ok=True)
        (tree / file).write_bytes(content)
    return _pack(tree, path, name, version, architecture)


def add_base(archive: MadeArchive) -> None:
    """An essential package in which dpkg can run: this host's own programs and the libraries that they name."""
    path = archive.directory / "pool/base_1_all.deb"
    tree = path.with_suffix(".tree")
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: base\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nEssential: yes\n"
        "Priority: required\nDescription: what dpkg needs\n"
    )
    for name in (
        "usr/bin",
        "usr/sbin",
        "usr/lib",
        "usr/lib64",
        "etc",
        "var/lib/dpkg",
        "tmp",
        "root",
        "proc",
        "dev",
        "sys",
        "run",
    ):
        (tree / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (tree / name).symlink_to(f"usr/{name}")
    (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (tree / "etc/group").write_text("root:x:0:\n")
    for name in _PROGRAMS:
        program = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
        assert program is not None, f"{name} is not installed"
        _copy(Path(program), tree)
        listed = subprocess.run(["ldd", program], capture_output=True, check=False).stdout.decode()
        for library in re.findall(r"(/\S+) \(0x", listed):
            _copy(Path(library), tree)
    made = _pack(tree, path, "base", "1", "all")
    archive.packages["base"] = msgspec.structs.replace(made, file="pool/base_1_all.deb")


def _copy(source: Path, tree: Path) -> None:
    target = tree / ("usr/" + str(source).removeprefix("/usr/").removeprefix("/"))
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy(source, target)


def _pack(tree: Path, path: Path, name: str, version: str, architecture: str) -> MadePackage:
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, path], check=True, capture_output=True,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SOURCE_DATE_EPOCH": "1700000000"},
    )  # fmt: skip
    shutil.rmtree(tree)
    content = path.read_bytes()
    return MadePackage(name, version, architecture, path.name, hashlib.sha256(content).hexdigest(), len(content))
