"""What compiles a kernel: whether it is installed, and the versions that decide what comes out."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from volant.core.errors import Unavailable
from volant.run import build_environment, run

VERSION_TIMEOUT_S = 10.0

TOOLS = {
    "gcc": "gcc", "ld": "binutils", "make": "make", "flex": "flex", "bison": "bison", "bc": "bc", "perl": "perl-base",
    "tar": "tar", "xz": "xz-utils", "dpkg-deb": "dpkg",
}  # fmt: skip
"""Programs, and the Debian packages that bring them."""

LIBRARIES = {"crt1.o": "libc6-dev", "libelf.so": "libelf-dev"}
"""Files that the compiler finds, for the programs that a kernel's build makes for itself."""


class Toolchain(msgspec.Struct, frozen=True):
    """The first line that each says of its version."""

    compiler: str
    linker: str


async def find_toolchain() -> Toolchain:
    """The versions of the compiler and the linker.

    Raises:
        Unavailable: something is missing; the hint names the Debian packages to install.
    """
    path = build_environment()["PATH"]
    missing = {tool: package for tool, package in TOOLS.items() if shutil.which(tool, path=path) is None}
    # Without a compiler nobody can say which files it would find.
    missing |= {file: package for file, package in LIBRARIES.items() if "gcc" in missing or not await _finds(file)}
    if missing:
        raise Unavailable(
            f"a kernel cannot be compiled here, for want of {', '.join(missing)}",
            hint=f"apt-get install {' '.join(sorted(set(missing.values())))}",
        )
    return Toolchain(compiler=await _read_version("gcc"), linker=await _read_version("ld"))


async def _finds(file: str) -> bool:
    # gcc answers with the bare name when it has no such file.
    answer = await run(["gcc", f"-print-file-name={file}"], timeout_s=VERSION_TIMEOUT_S)
    return Path(answer.text.strip()).is_absolute()


async def _read_version(tool: str) -> str:
    printed = await run([tool, "--version"], timeout_s=VERSION_TIMEOUT_S)
    return printed.text.partition("\n")[0].strip()
