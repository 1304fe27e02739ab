"""Files of the host that the recipe adds to the root, with the modes that fledge.toml promises."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import msgspec

from volant.core.errors import InvalidInput
from volant.fledge.content import digest_tree

LINKS_MAX = 40

_PROGRAMS = ("/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/opt/bin", "/opt/sbin")
_SHARED_OBJECT = re.compile(r".*\.so(\.[0-9.]+)?")


class Mapping(msgspec.Struct, frozen=True):
    source: Path
    target: str


def read_mappings(mappings: dict[str, str], base: Path) -> tuple[Mapping, ...]:
    """Check ``[mappings]``, in the order of the targets. Raises InvalidInput."""
    read = []
    for source, target in mappings.items():
        path = base / source
        field = f"mappings.{source}"
        parts = split_path(target)
        if not target.startswith("/") or not parts or ".." in parts:
            raise InvalidInput(
                f"[mappings] {target!r} is no place in the guest", field=field, hint='an absolute path without ".."'
            )
        if not (path.is_file() or path.is_dir()):
            raise InvalidInput(f"[mappings] {source!r}: there is no file or directory {path}", field=field)
        read.append(Mapping(path, "/" + "/".join(parts)))
    return tuple(sorted(read, key=lambda mapping: mapping.target))


def digest_mappings(mappings: tuple[Mapping, ...]) -> list[tuple[str, str]]:
    """What the mappings put where. Raises InvalidInput for links that lead in circles."""
    try:
        return [(mapping.target, digest_tree(mapping.source)) for mapping in mappings]
    except OSError as error:
        raise InvalidInput(f"[mappings] {error.filename} cannot be read: {error.strerror}", field="mappings") from error


def apply_mappings(mappings: tuple[Mapping, ...], root: Path) -> None:
    """Copy all into ``root``; symbolic links of the host are followed, files belong to root.

    Raises:
        InvalidInput: a target cannot be: a file is in the way of a directory, or the other way round.
    """
    for mapping in mappings:
        try:
            for source, target in _walk(mapping.source, PurePosixPath(mapping.target)):
                _copy(source, resolve_in_root(root, str(target)), str(target))
        except OSError as error:
            raise InvalidInput(f"[mappings] {mapping.target} cannot be written: {error.strerror}", field="mappings") from error


def split_path(path: str) -> list[str]:
    """The names in a path, ``..`` among them. (pathlib takes ``//a`` for another root than ``/``.)"""
    return [part for part in path.split("/") if part not in ("", ".")]


def resolve_in_root(root: Path, path: str) -> Path:
    """``path`` as the guest would see it, on the host: links on the way are followed without ever leaving ``root``.

    Raises:
        OSError: ELOOP, for more than 40 links.
    """
    waiting = split_path(path)[::-1]
    done: list[str] = []
    links = 0
    while waiting:
        part = waiting.pop()
        if part == "..":
            del done[-1:]
            continue
        here = root.joinpath(*done, part)
        if not here.is_symlink():
            done.append(part)
            continue
        links += 1
        if links > LINKS_MAX:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        link = str(here.readlink())
        if link.startswith("/"):
            done.clear()
        waiting += split_path(link)[::-1]
    return root.joinpath(*done)


def file_mode(source_mode: int, target: str) -> int:
    """The permission bits of a mapped file: programs can be run, the rest is readable.

    A file that somebody may run can be run by all who may read it; what lands in a directory of programs, and shared objects
    in a library directory, get 0755; all else 0644.
    """
    if source_mode & 0o111:
        return (source_mode & 0o666) | (source_mode & 0o444) >> 2
    parent = str(PurePosixPath(target).parent)
    if parent in _PROGRAMS:
        return 0o755
    in_library = any(part in ("lib", "lib64", "lib32") for part in PurePosixPath(target).parts[:-1])
    return 0o755 if in_library and _SHARED_OBJECT.fullmatch(PurePosixPath(target).name) else 0o644


def _walk(source: Path, target: PurePosixPath) -> Iterator[tuple[Path, PurePosixPath]]:
    yield source, target
    if source.is_dir():
        for child in sorted(source.iterdir()):
            yield from _walk(child, target / child.name)


def _copy(source: Path, target: Path, guest_path: str) -> None:
    missing = [parent for parent in target.parents if not parent.exists()]
    for directory in reversed(missing):
        directory.mkdir(mode=0o755)
        directory.chmod(0o755)
    if source.is_dir():
        if not target.is_dir():
            target.mkdir(mode=0o755)
            target.chmod(0o755)
        return
    # A file of the image may have other names; replacing it leaves those as they are.
    target.unlink(missing_ok=True)
    with source.open("rb") as reader, target.open("xb") as writer:
        while chunk := reader.read(1 << 20):
            writer.write(chunk)
        os.fchmod(writer.fileno(), file_mode(stat.S_IMODE(os.fstat(reader.fileno()).st_mode), guest_path))
