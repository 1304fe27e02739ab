"""The distribution's kernel package, and which one that is."""

from __future__ import annotations

import platform
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from volant.core.errors import InvalidInput, Unavailable
from volant.fledge.cache import Cache
from volant.fledge.debian.apt import Package, open_package, read_package
from volant.fledge.progress import Progress

DEFAULT_PACKAGES = {"x86_64": "linux-image-cloud-amd64"}

_REAL_PACKAGE = re.compile(r"linux-image-\d\S*")
_DEBIAN_NAME = re.compile(r"linux-image-\d\S*?(?:-(?P<flavour>cloud|rt))?-(?:amd64|arm64)(?:-unsigned)?")


@asynccontextmanager
async def open_kernel(cache: Cache, package: str, deb: Path | None, progress: Progress) -> AsyncIterator[tuple[Package, Path]]:
    """The kernel package and its file, downloaded when the cache has none of that digest.

    ``deb`` names a file to use instead; ``package`` one to ask apt for, where empty means Debian's cloud kernel.
    """
    if deb is not None:
        yield await read_package(deb), deb
        return
    name = package or _default_package()

    def choose(shown: str) -> str:
        return _choose_real(name, shown)

    async with open_package(
        cache, "kernels", name, progress, choose=choose, hint="give a kernel package's file with --deb or [kernel] deb"
    ) as opened:
        yield opened


def label_kernel(package: Package) -> str:
    """How a person is told which kernel it is: ``debian 6.1.192-2 cloud``; another's package goes by its own name."""
    match = _DEBIAN_NAME.fullmatch(package.name)
    if match is None:
        return f"{package.name} {package.version}"
    return " ".join(filter(None, ("debian", package.version, match["flavour"])))


def _default_package() -> str:
    machine = platform.machine()
    if machine not in DEFAULT_PACKAGES:
        raise Unavailable(f"no guest kernel is known for {machine}", hint="name one with [kernel] package or deb")
    return DEFAULT_PACKAGES[machine]


def _choose_real(name: str, shown: str) -> str:
    """The package that holds the kernel: ``name`` itself, or the one that it depends on."""
    if _REAL_PACKAGE.fullmatch(name):
        return name
    depends = next((line for line in shown.splitlines() if line.startswith("Depends:")), "")
    found = _REAL_PACKAGE.search(depends)
    if found is None:
        raise InvalidInput(f"{name} is no kernel package", field="kernel.package", hint="for example linux-image-cloud-amd64")
    return found[0].rstrip(",")
