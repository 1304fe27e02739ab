"""RPM packages, through the host's ``rpm`` on a copy of the tree's database.

The database is a stranger's and rpm is C. So it runs without privileges, with limits on memory, output and time, on a copy in a
directory of its own. An SQLite database may define its table as a view without end: that is why what rpm says goes to files.
"""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from volant.core.errors import CommandFailed, HostError, InvalidInput, Unavailable
from volant.fledge.sbom.ndb import convert_ndb
from volant.fledge.sbom.package import Distribution, FoundPackage, clean_text, derive_purl
from volant.fledge.sbom.tree import Tree
from volant.run import Completed, run

DATABASE_MAX_BYTES = 512 * 1024 * 1024
OUTPUT_MAX_BYTES = 16 * 1024 * 1024
ERRORS_MAX_BYTES = 64 * 1024
MEMORY_MAX_BYTES = 2 * 1024 * 1024 * 1024
QUERY_TIMEOUT_S = 120.0

_DIRECTORIES = ("var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm")
_SQLITE = "rpmdb.sqlite"
_NDB = "Packages.db"
# The files of each kind of database, and what rpm calls the backend that reads it (an ndb becomes SQLite first).
_KINDS = {(_SQLITE, f"{_SQLITE}-wal"): "sqlite", (_NDB,): "sqlite", ("Packages",): "bdb_ro"}
_NOBODY = 65534
_HERE = "/proc/self/cwd"
_OUTPUT, _ERRORS = "output", "errors"
_FIELD, _RECORD = "\x1f", "\x1e"
_TAGS = ("NAME", "VERSION", "RELEASE", "EPOCH", "ARCH", "LICENSE", "VENDOR", "PACKAGER", "SOURCERPM")
_FORMAT = _FIELD.join(f"%{{{tag}}}" for tag in _TAGS) + _RECORD
_QUERY = f'exec rpm "$@" --noplugins --nosignature --nodigest --query --all --queryformat "$0" >{_OUTPUT}'
# A database of another version of rpm, or made from an ndb, may lack indexes that a query wants to be there.
_SCRIPTS = {"sqlite": f'exec 2>{_ERRORS}; rpm "$@" --initdb && {_QUERY}', "bdb_ro": f"exec 2>{_ERRORS}; {_QUERY}"}
_NOTHING = "(none)"
# The keys that packages are checked with are kept among them.
_KEYS = "gpg-pubkey"
_SOURCE = re.compile(r"(?P<name>.+)-(?P<version>[^-]+-[^-]+)\.(?:no)?src\.rpm")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9.+_-]*")
# Where the namespace of a purl is spelt otherwise than ID in os-release.
_NAMESPACES = {"rhel": "redhat", "opensuse-leap": "opensuse", "opensuse-tumbleweed": "opensuse"}
_EVR_PART = re.compile(r"[0-9A-Za-z._+~^-]+")


async def find_rpms(tree: Tree, distribution: Distribution) -> list[FoundPackage]:
    """All packages of every rpm database in the tree, whichever of rpm's formats it has.

    Raises:
        Unavailable: there is one, and nothing here to read it with, or nowhere to. CommandFailed: rpm did not end in time.
        HostError: there is no space for a copy.
    """
    found: list[FoundPackage] = []
    read = set()
    for directory in _DIRECTORIES:
        for names, backend in _KINDS.items():
            place = f"{directory}/{names[0]}"
            # Without rpm's directories this looks up nine names and starts nothing.
            path = tree.find_file(place)
            if path is None or path in read:
                continue
            read.add(path)
            output = await _query(tree, directory, backend, names)
            if output is not None:
                found += _read_output(tree, place, output, distribution)
    return found


async def _query(tree: Tree, directory: str, backend: str, names: tuple[str, ...]) -> str | None:
    place = f"{directory}/{names[0]}"
    with tempfile.TemporaryDirectory(prefix="fledge-rpm-", dir=_choose_scratch()) as scratch:
        if not await asyncio.to_thread(_prepare, tree, directory, names, Path(scratch)):
            return None
        answer = await _run_rpm(Path(scratch), backend)
        content = await asyncio.to_thread(_read_beginning, Path(scratch) / _OUTPUT, OUTPUT_MAX_BYTES)
        errors = await asyncio.to_thread(_read_beginning, Path(scratch) / _ERRORS, ERRORS_MAX_BYTES)
    if len(content) == OUTPUT_MAX_BYTES:
        tree.add_note(place, f"what it holds is longer than {OUTPUT_MAX_BYTES} bytes")
        return None
    problem = _find_problem(answer.exit_status, errors, backend)
    if problem:
        # Some packages may have come through nevertheless.
        tree.add_note(place, problem)
    return content.decode("utf-8", "replace")


def _read_beginning(path: Path, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(max_bytes)
    except FileNotFoundError:
        return b""


def _find_problem(exit_status: int, errors: bytes, backend: str) -> str:
    """What rpm complains of. It ends with 0 even when it knows no such backend or passes damaged packages over."""
    said = [clean_text(line) for line in errors.decode("utf-8", "replace").splitlines()]
    if any("dummy database" in line for line in said):
        return f"the rpm here reads no database of the kind {backend}, so its packages are missing"
    problems = [line for line in said if line.startswith("error: ")]
    if problems:
        return f"rpm cannot read all of its packages: {problems[0].removeprefix('error: ').replace(f'{_HERE}/', '')}"
    return f"rpm ended with status {exit_status}" if exit_status else ""


async def _run_rpm(scratch: Path, backend: str) -> Completed:
    # The limit holds for every file that it writes, and it may write at the end of the database.
    file_max_bytes = OUTPUT_MAX_BYTES + await asyncio.to_thread(_measure, scratch)
    confined = ["prlimit", f"--fsize={file_max_bytes}", f"--as={MEMORY_MAX_BYTES}", "--core=0", "setpriv", "--no-new-privs"]
    if os.geteuid() == 0:
        confined += [f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
    try:
        answer = await run(
            # By this name rpm's complaints do not tell of a directory with a random one.
            [*confined, "sh", "-c", _SCRIPTS[backend], _FORMAT, "--dbpath", _HERE, "--define", f"_db_backend {backend}"],
            timeout_s=QUERY_TIMEOUT_S,
            cwd=scratch,
            env={"HOME": "/nonexistent", "TMPDIR": _HERE},
            check=False,
        )
    except CommandFailed as error:
        if error.exit_status is None:
            raise
        raise _lacking() from error
    # What the shell, and prlimit before it, end with when there is no such program.
    if answer.exit_status == 127:
        raise _lacking()
    return answer


def _measure(scratch: Path) -> int:
    return sum(path.stat().st_size for path in scratch.iterdir())


def _lacking() -> Unavailable:
    # A list without them would depend on the machine that it was made on.
    return Unavailable("the tree has rpm packages, and nothing here reads their database", hint="apt-get install rpm util-linux")


def _choose_scratch() -> Path:
    """A directory for temporary files that whoever rpm runs as can get at. Raises Unavailable."""
    usual = Path(tempfile.gettempdir())
    if os.geteuid() != 0:
        return usual
    for directory in (usual, Path("/var/tmp"), Path("/tmp")):  # noqa: S108  # what is made in it has a random name and is closed
        if all(path.is_dir() and path.stat().st_mode & stat.S_IXOTH for path in (directory, *directory.parents)):
            return directory
    raise Unavailable(f"{usual} is closed to the user that rpm is to run as", hint="set TMPDIR to a directory like /tmp")


def _prepare(tree: Tree, directory: str, names: tuple[str, ...], scratch: Path) -> bool:
    """Copy the database to where rpm reads it; whether it is there as a whole. The second file of one, if any, need not be."""
    for name in names:
        place = f"{directory}/{name}"
        if tree.find_file(place) is not None and not tree.copy_file(place, scratch / name, DATABASE_MAX_BYTES):
            return False
    if (scratch / _NDB).exists():
        try:
            convert_ndb(scratch / _NDB, scratch / _SQLITE, DATABASE_MAX_BYTES)
        except InvalidInput as error:
            tree.add_note(f"{directory}/{_NDB}", f"its packages cannot be read: {error}")
            return False
        except sqlite3.Error as error:
            raise HostError(
                f"{directory}/{_NDB} cannot be converted in {scratch.parent}: {error}", hint="is there space?"
            ) from error
    if os.geteuid() == 0:
        for path in (scratch, *scratch.iterdir()):
            os.chown(path, _NOBODY, _NOBODY)
    return True


def _read_output(tree: Tree, place: str, output: str, distribution: Distribution) -> Iterator[FoundPackage]:
    for record in output.split(_RECORD)[:-1]:
        values = record.split(_FIELD)
        if len(values) != len(_TAGS):
            tree.add_note(place, "a package of it has fields that cannot be told apart")
            continue
        fields = {tag: "" if value == _NOTHING else clean_text(value) for tag, value in zip(_TAGS, values, strict=True)}
        if fields["NAME"] == _KEYS:
            continue
        parts = (fields["VERSION"], fields["RELEASE"])
        if not _NAME.fullmatch(fields["NAME"]) or not all(_EVR_PART.fullmatch(part) for part in parts):
            tree.add_note(place, "a package of it has no name, version and release")
            continue
        yield _make_package(place, fields, distribution)


def _make_package(place: str, fields: dict[str, str], distribution: Distribution) -> FoundPackage:
    name, version, epoch = fields["NAME"], f"{fields['VERSION']}-{fields['RELEASE']}", fields["EPOCH"]
    source = _SOURCE.fullmatch(fields["SOURCERPM"])
    is_own_source = source is None or (source["name"], source["version"]) == (name, version)
    return FoundPackage(
        type="rpm",
        name=name,
        version=f"{epoch}:{version}" if epoch.isdecimal() else version,
        architecture=fields["ARCH"],
        source_name="" if source is None or is_own_source else source["name"],
        source_version="" if source is None or is_own_source else source["version"],
        licence=fields["LICENSE"],
        supplier=fields["VENDOR"] or fields["PACKAGER"],
        # The epoch is a qualifier of its own (purl-spec, type rpm).
        purl=derive_purl(
            "rpm", name, version, namespace=_NAMESPACES.get(distribution.id, distribution.id),
            qualifiers={
                "arch": fields["ARCH"],
                "distro": distribution.qualifier,
                "epoch": epoch if epoch.isdecimal() else "",
                "upstream": "" if is_own_source else fields["SOURCERPM"],
            },
        ),
        locations=(place,),
    )  # fmt: skip
