"""``fledge.lock``: the exact Debian packages that answer a recipe, so that a later build takes the same and asks nobody.

It is TOML, sorted, one fact a line, and names no mirror: made to be committed beside fledge.toml and read in a diff.
"""

from __future__ import annotations

import os
import re
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import msgspec

from volant.core.errors import HostError, InvalidInput
from volant.core.resource import split_validation_error

LOCK_NAME = "fledge.lock"
LOCK_VERSION = 1
LOCK_MAX_BYTES = 8 * 1024 * 1024
LOCK_MAX_PACKAGES = 20_000
PACKAGE_MAX_BYTES = 16 * 1024**3

UPDATE_HINT = "build with --update-lock to resolve the packages anew"

_HEADING = """\
# The Debian packages of fledge.toml, by version and digest. Commit it; write it anew with: fledge build --update-lock
"""

_Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9.+-]+\Z", max_length=200)]
_Version = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+:~-]*\Z", max_length=200)]
_Architecture = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]*\Z", max_length=50)]
_Text = Annotated[str, msgspec.Meta(pattern=r'^[^\x00-\x1f\x7f"\\]+\Z', max_length=500)]


class LockedPackage(msgspec.Struct, frozen=True, order=True, forbid_unknown_fields=True):
    """``file`` is where the package lies under the archive's root, or, with ``./`` or ``../`` in front, beside the recipe.

    ``sha256`` is 64 hexadecimal digits, ``size`` counts bytes.
    """

    name: _Name
    version: _Version
    architecture: _Architecture
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    size: Annotated[int, msgspec.Meta(ge=1, le=PACKAGE_MAX_BYTES)]
    file: _Text

    @property
    def is_local(self) -> bool:
        return self.file.startswith(("./", "../"))


class Lock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``request`` is what the recipe asked for, ``packages`` all that answers it; both are sorted."""

    suite: _Text
    architecture: _Architecture
    request: tuple[_Text, ...]
    packages: tuple[LockedPackage, ...] = msgspec.field(name="package", default=())


class VersionChange(msgspec.Struct, frozen=True, order=True):
    """One package that is locked otherwise than before. The versions are equal when only the digest is another."""

    name: str
    before: str
    after: str


class LockChanges(msgspec.Struct, frozen=True):
    """What a new lock changes in an old one, each sorted by name."""

    added: tuple[LockedPackage, ...] = ()
    removed: tuple[LockedPackage, ...] = ()
    changed: tuple[VersionChange, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def describe(self) -> tuple[str, ...]:
        """A line for each change: ``+ name version``, ``- name version``, ``name before -> after``."""
        return (
            *(f"+ {package.name} {package.version}" for package in self.added),
            *(f"- {package.name} {package.version}" for package in self.removed),
            *(_describe_change(change) for change in self.changed),
        )


def make_lock(suite: str, architecture: str, request: Iterable[str], packages: Iterable[LockedPackage]) -> Lock:
    return Lock(suite, architecture, tuple(sorted(set(request))), tuple(sorted(set(packages))))


def compare_locks(before: Lock, after: Lock) -> LockChanges:
    old = {package.name: package for package in before.packages}
    new = {package.name: package for package in after.packages}
    return LockChanges(
        added=tuple(new[name] for name in sorted(new.keys() - old.keys())),
        removed=tuple(old[name] for name in sorted(old.keys() - new.keys())),
        changed=tuple(
            VersionChange(name, old[name].version, new[name].version)
            for name in sorted(old.keys() & new.keys())
            if (old[name].version, old[name].sha256) != (new[name].version, new[name].sha256)
        ),
    )


def check_lock(lock: Lock, *, suite: str, architecture: str, request: Iterable[str]) -> None:
    """Raises InvalidInput, which says what changed, when the lock answers another request."""
    wanted = set(request)
    locked = set(lock.request)
    differences = [
        f"the {what} was {before} and is {now}"
        for what, before, now in (("suite", lock.suite, suite), ("architecture", lock.architecture, architecture))
        if before != now
    ]
    if wanted - locked:
        differences.append(f"{', '.join(sorted(wanted - locked))} came in addition")
    if locked - wanted:
        differences.append(f"{', '.join(sorted(locked - wanted))} is asked for no more")
    if differences:
        raise InvalidInput(
            f"{LOCK_NAME} does not answer this recipe: {'; '.join(differences)}", field="source.packages", hint=UPDATE_HINT
        )


def render_lock(lock: Lock) -> bytes:
    """The lock as a file: the same lock is the same bytes. Every value is of characters that TOML need not escape."""
    lines = [
        _HEADING,
        f"version = {LOCK_VERSION}",
        f'suite = "{lock.suite}"',
        f'architecture = "{lock.architecture}"',
        "request = [",
        *(f'    "{entry}",' for entry in sorted(lock.request)),
        "]",
    ]
    for package in sorted(lock.packages):
        lines += [
            "",
            "[[package]]",
            f'name = "{package.name}"',
            f'version = "{package.version}"',
            f'architecture = "{package.architecture}"',
            f'sha256 = "{package.sha256}"',
            f"size = {package.size}",
            f'file = "{package.file}"',
        ]
    return ("\n".join(lines) + "\n").encode()


def parse_lock(content: bytes) -> Lock:
    """Read what ``render_lock`` wrote, or what a person made of it.

    Raises:
        InvalidInput: it is too large, no TOML, of another version, or a value cannot be; the message names the line.
    """
    if len(content) > LOCK_MAX_BYTES:
        raise InvalidInput(f"it is larger than {LOCK_MAX_BYTES} bytes", hint=UPDATE_HINT)
    try:
        text = content.decode()
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"it is no TOML: {error}", hint=f"take one side of a merge whole, or {UPDATE_HINT}") from error
    version = data.pop("version", None)
    if version != LOCK_VERSION or isinstance(version, bool):
        raise InvalidInput(
            f"version is {version!r}, and this fledge reads {LOCK_VERSION}",
            field="version",
            hint=f"update fledge, or {UPDATE_HINT}",
        )
    if isinstance(data.get("package"), list) and len(data["package"]) > LOCK_MAX_PACKAGES:
        raise InvalidInput(f"it has more than {LOCK_MAX_PACKAGES} packages", field="package", hint=UPDATE_HINT)
    try:
        lock = msgspec.convert(data, Lock)
    except msgspec.ValidationError as error:
        message, field = split_validation_error(error)
        raise InvalidInput(f"{_locate(text, data, field)}{message}", field=field, hint=UPDATE_HINT) from error
    if (fault := _find_fault(lock)) is not None:
        index, key, what = fault
        field = f"package[{index}].{key}"
        raise InvalidInput(f"{_locate(text, data, field)}{what}", field=field, hint=UPDATE_HINT)
    return make_lock(lock.suite, lock.architecture, lock.request, lock.packages)


def read_lock(path: Path, *, update: bool = False) -> Lock | None:
    """The lock in the file ``path``, None when there is no such file. One that is to be updated need not be right.

    Raises:
        InvalidInput: it cannot be read, or is no lock; the message names the file and the line.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(LOCK_MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", hint="is it a file, and yours?") from error
    try:
        return parse_lock(content)
    except InvalidInput as error:
        if update:
            return None
        raise InvalidInput(f"{path}: {error.message}", field=error.field, hint=error.hint) from error


def write_lock(path: Path, lock: Lock) -> None:
    """Replace the file ``path`` at once: whoever reads sees the old lock or the new one. Raises HostError."""
    try:
        descriptor, part = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(render_lock(lock))
                stream.flush()
                os.fsync(stream.fileno())
                os.fchmod(stream.fileno(), 0o644)
            Path(part).rename(path)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise HostError(f"{path} cannot be written: {error.strerror}", hint="the recipe's directory must be writable") from error


def is_plain_path(path: str) -> bool:
    """Whether a path leads down from where it starts: not absolute, no empty part, no ``.`` or ``..`` in it."""
    return all(part not in ("", ".", "..") for part in path.split("/"))


def _find_fault(lock: Lock) -> tuple[int, str, str] | None:
    """The first package that cannot stand with the rest: its place, the key at fault and what is wrong."""
    names: set[str] = set()
    for index, package in enumerate(lock.packages):
        if package.name in names:
            return index, "name", "it is locked twice"
        names.add(package.name)
        if package.architecture not in ("all", lock.architecture):
            return index, "architecture", f"it is for {package.architecture}, not {lock.architecture}"
        if package.is_local and package.file not in lock.request:
            return index, "file", f"{package.file!r} is not in request"
        if not package.is_local and not is_plain_path(package.file):
            return index, "file", f"{package.file!r} leads out of the archive"
    return None


def _locate(text: str, data: dict[str, Any], field: str | None) -> str:
    """``line N: `` of what msgspec calls ``package[3].size``, with the package's name; empty when it has no line of its own."""
    match = re.match(r"package\[(?P<index>\d+)\](?:\.(?P<key>\w+))?|(?P<top>\w+)", field or "")
    if match is None:
        return ""
    lines = text.splitlines()
    if match["top"]:
        numbers = [number for number, line in enumerate(lines, 1) if re.match(rf"\s*{match['top']}\s*=", line)]
        return f"line {numbers[0]}: {field}: " if numbers else f"{field}: "
    index = int(match["index"])
    tables = [number for number, line in enumerate(lines, 1) if line.strip() == "[[package]]"]
    if index >= len(tables):
        return f"{field}: "
    first = tables[index]
    last = tables[index + 1] - 1 if index + 1 < len(tables) else len(lines)
    for number in range(first, last + 1):
        if match["key"] and re.match(rf"\s*{match['key']}\s*=", lines[number - 1]):
            first = number
            break
    name = data["package"][index].get("name") if isinstance(data["package"][index], dict) else None
    return f"line {first}: package {name}: " if isinstance(name, str) and name.isprintable() else f"line {first}: {field}: "


def _describe_change(change: VersionChange) -> str:
    if change.before == change.after:
        return f"{change.name} {change.after} has another digest"
    return f"{change.name} {change.before} -> {change.after}"
