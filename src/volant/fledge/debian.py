"""Root file systems from Debian packages, through mmdebstrap."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from volant.core.errors import CommandFailed, HostError, InvalidInput
from volant.run import run

DEFAULT_SUITE = "bookworm"
RESOLVE_TIMEOUT_S = 300.0
INSTALL_TIMEOUT_S = 1800.0

_PACKAGE = re.compile(r"[a-z0-9][a-z0-9.+-]+(?::[a-z0-9]+)?(?:=[A-Za-z0-9.+:~-]+)?")
_SUITE = re.compile(r"[a-z0-9][a-z0-9._/-]*")
_INSTALLED = re.compile(r"^Inst (?P<name>\S+) \((?P<version>\S+) .*\[(?P<architecture>[a-z0-9]+)\]\)", re.MULTILINE)
_SMALL = tuple(
    f"--dpkgopt=path-{rule}"
    for rule in (
        "exclude=/usr/share/man/*", "exclude=/usr/share/info/*", "exclude=/usr/share/locale/*", "exclude=/usr/share/doc/*",
        "include=/usr/share/doc/*/copyright",
    )
)  # fmt: skip


class DebianPackage(msgspec.Struct, frozen=True, order=True):
    name: str
    version: str
    architecture: str


class PackageSet(msgspec.Struct, frozen=True):
    """What to install: ``mirrors`` are lines as sources.list has them, or URLs; none means mmdebstrap's own choice."""

    packages: tuple[str, ...]
    suite: str
    mirrors: tuple[str, ...]


async def choose_packages(packages: tuple[str, ...], suite: str, mirror: str) -> PackageSet:
    """Check what the recipe says; without a mirror take the archives of Debian's that this host's apt uses for the suite.

    Raises:
        InvalidInput: a package or the suite has a name that none can have.
    """
    for package in packages:
        if not _PACKAGE.fullmatch(package):
            raise InvalidInput(f"{package!r} is no package name", field="source.packages", hint="for example nginx-light")
    wanted = suite or DEFAULT_SUITE
    if not _SUITE.fullmatch(wanted):
        raise InvalidInput(f"{wanted!r} is no suite", field="source.suite", hint="for example bookworm")
    return PackageSet(packages, wanted, (mirror,) if mirror else await _host_mirrors(wanted))


async def _host_mirrors(suite: str) -> tuple[str, ...]:
    try:
        targets = await run(
            ["apt-get", "indextargets", "--format", "$(SIGNED_BY)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)",
             "Created-By: Packages", "Origin: Debian"],
            timeout_s=RESOLVE_TIMEOUT_S,
        )  # fmt: skip
    except CommandFailed:
        return ()
    lines: dict[str, None] = {}
    for line in targets.text.splitlines():
        signed_by, uri, release, component = line.split("|", 3)
        if release in (suite, f"{suite}-updates", f"{suite}-security"):
            option = f"[signed-by={signed_by}] " if signed_by.startswith("/") else ""
            lines[f"deb {option}{uri} {release} {component}"] = None
    return tuple(lines) if any(f" {suite} " in line for line in lines) else ()


async def resolve_packages(wanted: PackageSet) -> tuple[DebianPackage, ...]:
    """All packages that the archive would install now, sorted; nothing is downloaded but the lists.

    Raises:
        HostError: the archive cannot be reached or has no such packages.
    """
    try:
        simulated = await run(
            ["mmdebstrap", "--simulate", "--verbose", "--variant=essential", f"--include={','.join(wanted.packages)}",
             wanted.suite, "/dev/null", *wanted.mirrors],
            timeout_s=RESOLVE_TIMEOUT_S,
        )  # fmt: skip
    except CommandFailed as error:
        raise _explain(wanted, error) from error
    output = (simulated.stdout + simulated.stderr).decode("utf-8", "replace")
    found = {DebianPackage(match["name"], match["version"], match["architecture"]) for match in _INSTALLED.finditer(output)}
    if not found:
        raise HostError(f"mmdebstrap does not say what {', '.join(wanted.packages)} would install")
    return tuple(sorted(found))


async def install_packages(wanted: PackageSet, root: Path, epoch_s: int, lock_fd: int) -> None:
    """Install into the empty directory ``root``: the essential packages, those wanted, what they depend on, no documentation.

    Raises:
        HostError: the archive cannot be reached, or a package does not install.
    """
    try:
        await run(
            ["mmdebstrap", "--mode=root", "--format=directory", "--variant=essential", "--aptopt=Acquire::Languages \"none\"",
             *_SMALL, f"--include={','.join(wanted.packages)}", wanted.suite, root, *wanted.mirrors],
            timeout_s=INSTALL_TIMEOUT_S,
            env={"SOURCE_DATE_EPOCH": str(epoch_s), "TMPDIR": str(root.parent)},
            pass_fds=(lock_fd,),
        )  # fmt: skip
    except CommandFailed as error:
        raise _explain(wanted, error) from error
    # mmdebstrap copies these from the machine that it runs on; a guest gets its own.
    for name in ("etc/hostname", "etc/resolv.conf"):
        (root / name).unlink(missing_ok=True)


def read_installed(root: Path) -> tuple[DebianPackage, ...]:
    """The packages that dpkg's database under ``root`` calls installed, sorted."""
    found = []
    for paragraph in (root / "var/lib/dpkg/status").read_text("utf-8", "replace").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and not line.startswith(" "))
        if fields.get("Status", "").endswith(" installed"):
            found.append(DebianPackage(fields["Package"], fields["Version"], fields["Architecture"]))
    return tuple(sorted(found))


def _explain(wanted: PackageSet, error: CommandFailed) -> HostError:
    lines = [line for line in error.stderr_tail.splitlines() if line.startswith("E: ") and "mmdebstrap failed" not in line]
    if error.exit_status == 127 or not lines:
        return error
    return HostError(
        f"{wanted.suite} cannot be installed: {lines[0].removeprefix('E: ')}",
        hint="check the package names, the suite and that the archive can be reached",
    )
