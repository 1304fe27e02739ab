"""What a recipe asks for in Debian packages, and what dpkg says is installed."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from volant.core.errors import InvalidInput
from volant.fledge.debian.control import read_paragraphs
from volant.run import run

DEFAULT_SUITE = "bookworm"
DPKG_TIMEOUT_S = 10.0

_PACKAGE_FILE = re.compile(r'\.{1,2}/[^\x00-\x1f\x7f"\\]+\.deb')
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9.+-]+(?::[a-z0-9]+)?(?:=[A-Za-z0-9.+:~-]+)?")
_SUITE = re.compile(r"[a-z0-9][a-z0-9._/-]*")


class DebianPackage(msgspec.Struct, frozen=True, order=True):
    name: str
    version: str
    architecture: str


class PackageRequest(msgspec.Struct, frozen=True):
    """What a recipe asks for: ``packages`` are names, ``name=version``, or package files by a path relative to ``base``.

    ``mirror`` (a URL, or a line as sources.list has it; empty: the host's own) says where to look, not what to find.
    """

    packages: tuple[str, ...]
    suite: str
    architecture: str
    mirror: str
    base: Path

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(sorted({entry for entry in self.packages if entry.startswith(("./", "../"))}))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.packages) - set(self.files)))


async def read_request(packages: tuple[str, ...], suite: str, mirror: str, base: Path) -> PackageRequest:
    """Check what the recipe in the directory ``base`` says; it is built for this host's architecture.

    Raises:
        InvalidInput: a package or the suite has a name that none can have, or a package is of another architecture.
    """
    wanted = suite or DEFAULT_SUITE
    if not _SUITE.fullmatch(wanted):
        raise InvalidInput(f"{wanted!r} is no suite", field="source.suite", hint="for example bookworm")
    architecture = (await run(["dpkg", "--print-architecture"], timeout_s=DPKG_TIMEOUT_S)).text.strip()
    for package in packages:
        if _PACKAGE_FILE.fullmatch(package):
            continue
        if package.endswith(".deb"):
            raise InvalidInput(
                f"{package!r} is no path of a package file",
                field="source.packages",
                hint="write it from the recipe on: ./my_1.0_all.deb",
            )
        if not _PACKAGE.fullmatch(package):
            raise InvalidInput(f"{package!r} is no package name", field="source.packages", hint="for example nginx-light")
        qualifier = package.partition("=")[0].partition(":")[2]
        if qualifier not in ("", "any", "native", architecture):
            raise InvalidInput(
                f"{package} is of another architecture than {architecture}",
                field="source.packages",
                hint="leave the architecture out",
            )
    return PackageRequest(packages, wanted, architecture, mirror, base)


def read_installed(root: Path) -> tuple[DebianPackage, ...]:
    """The packages that dpkg's database under ``root`` calls installed, sorted."""
    return tuple(
        sorted(
            DebianPackage(fields["Package"], fields["Version"], fields["Architecture"])
            for fields in read_paragraphs((root / "var/lib/dpkg/status").read_text("utf-8", "replace"))
            if fields.get("Status", "").endswith(" installed")
        )
    )
