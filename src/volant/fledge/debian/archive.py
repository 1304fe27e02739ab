"""A Debian archive asked through apt, which keeps a state of its own in a directory and leaves the host's alone.

apt brings what is hard: signatures, mirrors, proxies, credentials, retries. The host's configuration of those is honoured;
its hooks, pins and installed packages are not.
"""

from __future__ import annotations

import re
import shlex
import signal
import urllib.parse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from volant.core.errors import ChecksumMismatch, CommandFailed, DiskFull, HostError, InvalidInput
from volant.fledge.debian.control import read_paragraphs
from volant.fledge.debian.lock import LockedPackage, is_plain_path
from volant.run import Completed, run

APT_TIMEOUT_S = 120.0
UPDATE_TIMEOUT_S = 600.0
DOWNLOAD_TIMEOUT_S = 1800.0

_APT_HELPER = "/usr/lib/apt/apt-helper"
_DEFAULT_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_UNRELEASED = ("sid", "unstable", "testing", "experimental")

# Read after the host's own configuration, so that this wins. Hooks would act on the host, and other indexes are not needed.
_CONFIGURATION = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Install-Recommends "false";
APT::Install-Suggests "false";
Acquire::ForceHash "SHA256";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons-small::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons-large::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons-hidpi::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons-large-hidpi::DefaultEnabled "false";
pkgCacheGen::ForceEssential ",";
"""
# A package file of the recipe's own is taken before the archive's of the same name, whatever their versions.
_PREFERENCES = """\
Package: *
Pin: release o=fledge
Pin-Priority: 1001
"""

_SOURCE = re.compile(r"deb\s+(?:\[[^\]]*\]\s+)?(?P<uri>[^\s\[]\S*)\s+(?P<suite>\S+)(?:\s+\S.*)?")
_FETCH_ERROR = re.compile(r"^E: Failed to fetch (?P<uri>\S+)\s+(?P<why>.*)$", re.MULTILINE)
_GONE = re.compile(r"\b404\b|\b410\b|Failed to stat|File not found|No such file")
_MISMATCH = re.compile(r"(?:Hash Sum|size) mismatch|unexpected size", re.IGNORECASE)


class Archive:
    """``directory`` holds apt's state and is the caller's to remove; ``sources`` are lines as sources.list has them."""

    def __init__(
        self, directory: Path, sources: Sequence[str], suite: str, architecture: str, *, lock_fd: int | None = None
    ) -> None:
        self._directory = directory
        self._sources = tuple(sources)
        self._suite = suite
        self._architecture = architecture
        self._pass_fds = () if lock_fd is None else (lock_fd,)
        self._bases = tuple(dict.fromkeys(_read_base(line) for line in sources))

    def prepare(self) -> None:
        """Write apt's configuration. Blocks for a moment."""
        for name in ("etc/apt", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "var/lib/dpkg"):
            (self._directory / name).mkdir(parents=True, exist_ok=True)
        (self._directory / "var/lib/dpkg/status").touch()
        (self._directory / "fledge.conf").write_text(_CONFIGURATION)
        (self._directory / "etc/apt/preferences").write_text(_PREFERENCES)
        (self._directory / "etc/apt/sources.list").write_text("".join(f"{line}\n" for line in self._sources))

    async def update(self) -> None:
        """Read the archive's lists. Raises HostError: it cannot be reached, or its signature is not right."""
        try:
            await self._run(["apt-get", "-q", "--error-on=any"], ["update"], UPDATE_TIMEOUT_S)
        except CommandFailed as error:
            raise self._explain(error, "cannot be read") from error

    async def resolve(self, wanted: Sequence[str]) -> tuple[LockedPackage, ...]:
        """The essential packages of the suite, ``wanted``, and all that they depend on; as apt would install them now.

        Raises:
            HostError: the archive has no such packages, or they cannot be installed together.
        """
        # The same pattern that mmdebstrap has for its variant "essential".
        essential = (
            f"?narrow(?or(?archive(^{self._suite}$),?codename(^{self._suite}$)),?architecture({self._architecture}),?essential)"
        )
        try:
            printed = await self._run(["apt-get", "-q", "--yes", "--print-uris"], ["install", essential, *wanted], APT_TIMEOUT_S)
        except CommandFailed as error:
            raise self._explain(error, "cannot be resolved") from error
        found = [self._read_uri(shlex.split(line)) for line in printed.text.splitlines() if line.startswith("'")]
        if not found:
            raise HostError(
                f"apt does not say what {', '.join(wanted)} would install", hint=f"is {self._suite} a suite of the archive?"
            )
        return tuple(sorted(found))

    async def download(self, packages: Sequence[LockedPackage], directory: Path) -> tuple[LockedPackage, ...]:
        """Fetch each package to ``<sha256>.deb`` in ``directory`` from the first source that has it; no lists are needed.

        Returns those that no source has any more.

        Raises:
            ChecksumMismatch: what the sources have is another file. HostError: they cannot be reached.
        """
        failures: dict[LockedPackage, list[str]] = {package: [] for package in packages}
        remaining = list(packages)
        for base in self._bases:
            if remaining:
                why = await self._download_from(base, remaining, directory)
                remaining = [package for package in remaining if package in why]
                for package, reason in why.items():
                    failures[package].append(reason)
        for package in remaining:
            _check_failures(package, failures[package])
        return tuple(remaining)

    async def _download_from(self, base: str, packages: Sequence[LockedPackage], directory: Path) -> dict[LockedPackage, str]:
        """Why each of those failed that did."""
        uris = {package: urllib.parse.quote(base + package.file, safe="/:@~[]") for package in packages}
        targets = {package: directory / f"{package.sha256}.deb" for package in packages}
        # The limit ends a source that sends without end: apt-helper is told the digest and no size.
        limit_bytes = max(package.size for package in packages) + 4096
        command = ["prlimit", f"--fsize={limit_bytes}", "--", _APT_HELPER]
        words = [word for package in packages for word in (uris[package], targets[package], f"SHA256:{package.sha256}")]
        # One process, for mirrors answer many requests on one connection sooner than the same on many.
        completed = await self._run(command, ["download-file", *words], DOWNLOAD_TIMEOUT_S, check=False)
        said = completed.stderr.decode("utf-8", "replace")
        if completed.exit_status == 127:
            raise CommandFailed((_APT_HELPER,), 127, said, hint="install the package that brings apt")
        reasons = {urllib.parse.unquote(match["uri"]): match["why"] for match in _FETCH_ERROR.finditer(said)}
        last = said.strip().rpartition("\n")[2] or f"apt-helper ended with {completed.exit_status}"
        if f"received signal {signal.SIGXFSZ:d}" in said:
            last = "unexpected size: a file is larger than all that were asked for"
        why: dict[LockedPackage, str] = {}
        for package in packages:
            size_bytes = targets[package].stat().st_size if targets[package].exists() else None
            if size_bytes is None:
                why[package] = reasons.get(urllib.parse.unquote(uris[package]), last)
            elif size_bytes != package.size:
                targets[package].unlink()
                why[package] = f"unexpected size: {size_bytes} bytes, locked are {package.size}"
        return why

    async def list_candidates(self, names: Iterable[str]) -> dict[str, str]:
        """The version that each package would be installed in now, by name; none for what the archive does not know."""
        shown = await self._run(["apt-cache"], ["show", "--no-all-versions", *names], APT_TIMEOUT_S, check=False)
        return {fields["Package"]: fields.get("Version", "") for fields in read_paragraphs(shown.text) if "Package" in fields}

    async def _run(self, command: list[str], arguments: list[str | Path], timeout_s: float, *, check: bool = True) -> Completed:
        state = self._directory
        options = {
            "Dir": state,
            "Dir::State::status": state / "var/lib/dpkg/status",
            "Dir::Etc::trusted": _DEFAULT_KEYRING,
            "Dir::Etc::trustedparts": "/etc/apt/trusted.gpg.d",
            "Dir::Etc::netrc": "/etc/apt/auth.conf",
            "Dir::Etc::netrcparts": "/etc/apt/auth.conf.d",
            "APT::Architecture": self._architecture,
            "APT::Architectures": self._architecture,
            # The sandbox user _apt cannot write into a directory that only its owner may enter.
            "APT::Sandbox::User": "root",
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return await run(
            [*command, "-c", state / "fledge.conf", *words, *arguments], timeout_s=timeout_s, check=check, pass_fds=self._pass_fds
        )

    def _read_uri(self, words: list[str]) -> LockedPackage:
        """``'URI' name_version_architecture.deb size SHA256:digest``"""
        parts = [urllib.parse.unquote(part) for part in words[1].removesuffix(".deb").split("_")] if len(words) == 4 else []
        if len(parts) != 3 or not words[3].startswith("SHA256:"):
            raise HostError(
                f"the archive gives no SHA256 of {words[0]}", hint="its lists are not as Debian's are; give another source.mirror"
            )
        name, version, architecture = parts
        return LockedPackage(name, version, architecture, words[3][7:].lower(), int(words[2]), self._read_file(words[0]))

    def _read_file(self, uri: str) -> str:
        for base in sorted(self._bases, key=len, reverse=True):
            if uri.startswith(base):
                file = urllib.parse.unquote(uri.removeprefix(base)).removeprefix("./")
                if is_plain_path(file):
                    return file
        raise HostError(f"apt would fetch {uri}, which lies in none of its sources", hint="give another source.mirror")

    def _explain(self, error: CommandFailed, what: str) -> HostError:
        lines = [line.removeprefix("E: ") for line in error.stderr_tail.splitlines() if line.startswith("E: ")]
        if error.exit_status == 127 or not lines:
            return error
        return HostError(
            f"{self._suite} {what}: {lines[0]}", hint="check the package names, the suite and that the archive can be reached"
        )


async def choose_sources(suite: str, mirror: str) -> tuple[str, ...]:
    """Lines as sources.list has them: ``mirror`` when it is given (such a line, or a URL), else the archives of Debian's that
    this host's apt uses for the suite, or would, were that its own.

    Raises:
        InvalidInput: ``mirror`` is no source, or there is none and apt uses no archive of Debian's.
    """
    if mirror.startswith("deb "):
        _read_base(mirror)
        return (mirror,)
    if mirror:
        line = f"deb {mirror} {suite} main"
        _read_base(line)
        return (line,)
    sources = _pick_sources(await _read_host_sources(), suite)
    if not sources:
        raise InvalidInput(
            f"this host's apt has no archive of Debian's to take {suite} from",
            field="source.mirror",
            hint="give source.mirror the URL of one, or run apt-get update where there is one in sources.list",
        )
    return sources


class _HostSource(NamedTuple):
    option: str
    uri: str
    release: str
    component: str

    def write(self, release: str) -> str:
        return f"deb {self.option}{self.uri} {release} {self.component}"


async def _read_host_sources() -> list[_HostSource]:
    """Debian's, as apt knows them by the lists that it has read."""
    try:
        targets = await run(
            ["apt-get", "indextargets", "--format", "$(SIGNED_BY)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)",
             "Created-By: Packages", "Origin: Debian"],
            timeout_s=APT_TIMEOUT_S,
        )  # fmt: skip
    except CommandFailed:
        return []
    found = []
    for line in targets.text.splitlines():
        signed_by, uri, release, component = line.split("|", 3)
        option = f"[signed-by={signed_by}] " if signed_by.startswith("/") else ""
        found.append(_HostSource(option, uri, release, component))
    return found


def _pick_sources(host: list[_HostSource], suite: str) -> tuple[str, ...]:
    """Those of ``suite``; or the places of the host's own suite, asked for this one, which they have beside it."""
    releases = {source.release for source in host}
    own = suite if suite in releases else next((source.release for source in host if "-" not in source.release), "")
    if not own:
        return ()
    parts = ("",) if own != suite and (suite in _UNRELEASED or "-" in suite) else ("", "-updates", "-security")
    wanted = {f"{own}{part}": f"{suite}{part}" for part in parts}
    return tuple(dict.fromkeys(source.write(wanted[source.release]) for source in host if source.release in wanted))


def _read_base(line: str) -> str:
    """What the names of a source's files go behind, with a slash at its end (sources.list(5))."""
    match = _SOURCE.fullmatch(line)
    if match is None or ":" not in match["uri"] or not line.isprintable():
        raise InvalidInput(
            f"{line!r} is no source of packages", field="source.mirror", hint="give a URL, or a line such as deb URL SUITE main"
        )
    # apt reads %20 as a space here, and prints the space.
    base = urllib.parse.unquote(match["uri"]).rstrip("/") + "/"
    # A suite that ends in a slash is the directory of an archive without a pool.
    return base + match["suite"].lstrip("/") if match["suite"].endswith("/") and match["suite"] not in ("/", "./") else base


def _check_failures(package: LockedPackage, reasons: Sequence[str]) -> None:
    """Raise what no source gave for another reason than that it has no such file."""
    for reason in reasons:
        if _MISMATCH.search(reason):
            raise ChecksumMismatch(
                f"{package.file} is not what was locked: {reason}", hint="the mirror has changed a released file; use another"
            )
    for reason in reasons:
        if "No space left" in reason:
            raise DiskFull(f"there is no room for {package.file}", hint="move the cache with --cache-dir")
        if not _GONE.search(reason):
            raise HostError(f"{package.file} cannot be downloaded: {reason}", hint="check the network and source.mirror")
