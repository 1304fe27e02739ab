"""Debian packages installed by mmdebstrap from a repository of exactly those, and what differs from time to time removed."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from volant.core.errors import CommandFailed, DiskFull, HostError
from volant.fledge.cache import Workspace
from volant.fledge.debian.control import read_paragraphs
from volant.fledge.debian.lock import UPDATE_HINT, Lock
from volant.fledge.debian.pool import name_repository
from volant.fledge.debian.request import DebianPackage, read_installed
from volant.run import run

INSTALL_TIMEOUT_S = 3600.0

_SMALL = (
    "exclude=/usr/share/man/*", "exclude=/usr/share/info/*", "exclude=/usr/share/locale/*", "exclude=/usr/share/doc/*",
    "include=/usr/share/doc/*/copyright",
)  # fmt: skip

# A tree that is thrown away when its making fails needs no fsync for each file; a guest does, so the option does not stay.
_NO_FSYNC = "force-unsafe-io"
_DPKG_OPTIONS = "etc/dpkg/dpkg.cfg.d/99mmdebstrap"

# Scripts of packages see these, and some write what they see. The seed puts the sets in byte-compiled Python in one order.
_ENVIRONMENT = {"HOME": "/root", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "0"}

# Packages' scripts find no network but a loopback, and the same host name everywhere.
_ALONE = ("unshare", "--net", "--uts", "--", "sh", "-c", 'ip link set lo up && hostname localhost && exec "$0" "$@"')

# What tells of the machine, the place and the moment of the installation, and what a guest makes again when it needs it.
_LEFTOVERS = (
    "etc/hostname", "etc/resolv.conf", "etc/apt/sources.list", "var/lib/dpkg/available", "var/lib/dpkg/lock",
    "var/lib/dpkg/lock-frontend", "var/lib/dpkg/triggers/Lock", "var/cache/apt/archives/lock", "var/lib/apt/lists/lock",
    "var/cache/ldconfig/aux-cache", "var/lib/dpkg/*-old", "var/cache/debconf/*-old", "var/cache/apt/*.bin", "var/log/*.log",
    "var/log/apt/*",
)  # fmt: skip
# What scripts of packages make at random. A key in an image is a key that everybody has: a guest makes its own (ssh-keygen -A,
# make-ssl-cert generate-default-snakeoil), as it makes the database of aliases (newaliases).
_SNAKEOIL = "ssl-cert-snakeoil.pem"
_GENERATED = ("etc/ssh/ssh_host_*_key", "etc/ssh/ssh_host_*_key.pub", "etc/ssl/private/ssl-cert-snakeoil.key",
              f"etc/ssl/certs/{_SNAKEOIL}", "etc/aliases.db")  # fmt: skip
_DPKG_ERROR = re.compile(r"^dpkg: error processing (?:package|archive) (?P<what>\S+) .*:\n +(?P<why>.*)$", re.MULTILINE)
_EXTENDED_STATES = "var/lib/apt/extended_states"


def check_privileges() -> None:
    """Raises HostError, unless this is root in truth and not under fakeroot: the packages' scripts run in a chroot."""
    if os.geteuid() != 0 or "FAKEROOTKEY" in os.environ:
        raise HostError(
            "only root can install Debian packages: their scripts run in a chroot",
            hint="run fledge with sudo, not under fakeroot",
        )


async def install_packages(lock: Lock, repository: Path, root: Path, *, epoch_s: int, workspace: Workspace) -> tuple[str, ...]:
    """Install what is locked, which the directory ``repository`` has, into the empty or missing directory ``root``.

    Returns what was left out because packages' scripts make it at random: host keys and such, by path.

    Raises:
        HostError: a package does not install, or apt installed something else.
    """
    # Every package is asked for by name, so that there is nothing left to choose between.
    names = ",".join(package.name for package in lock.packages)
    temporary = workspace.path / "tmp"
    temporary.mkdir(exist_ok=True)
    try:
        await run(
            [*_ALONE, "mmdebstrap", "--mode=root", "--format=directory", "--variant=essential",
             f"--architectures={lock.architecture}", "--aptopt=Acquire::Languages \"none\"", f"--dpkgopt={_NO_FSYNC}",
             *(f"--dpkgopt=path-{rule}" for rule in _SMALL),
             f"--include={names}", lock.suite, root, name_repository(repository)],
            timeout_s=INSTALL_TIMEOUT_S,
            env={**_ENVIRONMENT, "SOURCE_DATE_EPOCH": str(epoch_s), "TMPDIR": str(temporary)},
            pass_fds=(workspace.lock_fd,),
        )  # fmt: skip
    except CommandFailed as error:
        raise _explain(error) from error
    return await asyncio.to_thread(_clean_tree, lock, root)


def compare_installed(lock: Lock, installed: Sequence[DebianPackage]) -> tuple[str, ...]:
    """A line for each package that is installed and not locked, or locked and not installed."""
    locked = {DebianPackage(package.name, package.version, package.architecture) for package in lock.packages}
    found = set(installed)
    return (
        *(f"{package.name} {package.version} is not installed" for package in sorted(locked - found)),
        *(f"{package.name} {package.version} is not locked" for package in sorted(found - locked)),
    )


def _explain(error: CommandFailed) -> HostError:
    if "No space left" in error.stderr_tail:
        return DiskFull("there is no room to install the packages", hint="move the cache with --cache-dir")
    fault = _DPKG_ERROR.search(error.stderr_tail)
    if fault is not None:
        return HostError(f"{fault['what']} does not install: {fault['why']}", hint=f"leave the package out, or {UPDATE_HINT}")
    lines = [line for line in error.stderr_tail.splitlines() if line.startswith("E: ") and "mmdebstrap failed" not in line]
    if error.exit_status == 127:
        return CommandFailed(("mmdebstrap",), 127, error.stderr_tail, hint="install mmdebstrap and iproute2")
    if not lines:
        return error
    return HostError(f"the locked packages cannot be installed: {lines[0].removeprefix('E: ')}", hint=UPDATE_HINT)


def _clean_tree(lock: Lock, root: Path) -> tuple[str, ...]:
    root.chmod(0o755)
    _remove_files(root, _LEFTOVERS)
    left_out = _remove_files(root, _GENERATED)
    # The certificate's link is named by its random content.
    links = [path for path in root.glob("etc/ssl/certs/*") if path.is_symlink() and path.readlink().name == _SNAKEOIL]
    for path in links:
        path.unlink()
    options = root / _DPKG_OPTIONS
    options.write_text(options.read_text().replace(f"{_NO_FSYNC}\n", ""))
    _write_extended_states(lock, root)
    differences = compare_installed(lock, read_installed(root))
    if differences:
        raise HostError(f"what was installed is not what was locked: {differences[0]}", hint=UPDATE_HINT)
    return tuple(left_out)


def _remove_files(root: Path, patterns: Iterable[str]) -> list[str]:
    found = [path for pattern in patterns for path in sorted(root.glob(pattern)) if path.is_symlink() or not path.is_dir()]
    for path in found:
        path.unlink()
    return [str(path.relative_to(root)) for path in found]


def _write_extended_states(lock: Lock, root: Path) -> None:
    """Tell apt what is there only because something depends on it: all were asked for by name, so it would know of nothing."""
    asked = {entry.partition("=")[0].partition(":")[0] for entry in lock.request}
    asked |= {package.name for package in lock.packages if package.is_local}
    base = {
        fields["Package"]
        for fields in read_paragraphs((root / "var/lib/dpkg/status").read_text("utf-8", "replace"))
        if "yes" in (fields.get("Essential"), fields.get("Protected")) or fields.get("Priority") == "required"
    }
    path = root / _EXTENDED_STATES
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.write_text(
        "".join(
            f"Package: {package.name}\nArchitecture: {lock.architecture}\nAuto-Installed: 1\n\n"
            for package in lock.packages
            if package.name not in asked | base
        )
    )
    path.chmod(0o644)
