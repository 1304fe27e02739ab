"""The output directory of a build: never a manifest beside files of another build, never half a file."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

import msgspec

from volant.core.errors import ChecksumMismatch, DiskFull, HostError
from volant.fledge.content import FileRecord, copy_plain, copy_recorded

NOTES = "published"
"""Where in a cache it is noted what output directories hold."""

SIGNATURE_SUFFIX = ".minisig"

_STAGING = ".fledge-"


class _Stamp(msgspec.Struct, frozen=True):
    """What changes when a file may have changed, and the digest that it had."""

    sha256: str
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


def publish(
    directory: Path,
    files: Mapping[str, tuple[Path, FileRecord]],
    *,
    last: str,
    notes: Path,
    checked: AbstractSet[str] = frozenset(),
) -> None:
    """Copy ``files`` into ``directory``, which is made when missing. Each is checked against its record, but for those whose
    sha256 is among ``checked``, because it was just read.

    What is there already, as ``notes`` (a directory) tells, is left alone. Else the old ``last`` goes first and the new one comes
    last, so that it never stands beside files of another build. Two builds into one directory take turns, and what a killed one
    left is removed.

    Raises:
        ChecksumMismatch: a file in the store is damaged. DiskFull, HostError: the directory cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(f"{directory} cannot be made: {error.strerror}", hint="choose another with -o") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for stale in directory.glob(f"{_STAGING}*"):
            shutil.rmtree(stale)
        note = notes / hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()
        known = _read_note(note)
        waiting = {name: file for name, file in files.items() if not _is_there(directory / name, file[1], known.get(name))}
        if waiting:
            _replace(directory, {name: files[name] for name in {*waiting, last}}, last, checked)
        _write_note(note, {name: _stamp(directory / name, record) for name, (_, record) in files.items()})
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"there is no room in {directory}", hint="free some, or choose another with -o") from error
        raise HostError(f"{directory}: {error.strerror}", hint="choose another with -o") from error
    finally:
        os.close(lock)


def _replace(directory: Path, files: Mapping[str, tuple[Path, FileRecord]], last: str, checked: AbstractSet[str]) -> None:
    staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=directory))
    try:
        for name, (source, record) in files.items():
            if record.sha256 in checked:
                copy_plain(source, staging / name)
            elif copy_recorded(source, staging / name) != record:
                raise ChecksumMismatch(f"{source} in the store is damaged", hint="build again with --no-cache")
        (directory / last).unlink(missing_ok=True)
        for name in files:
            (directory / f"{name}{SIGNATURE_SUFFIX}").unlink(missing_ok=True)  # it was of another file
        for name in sorted(files.keys() - {last}):
            (staging / name).replace(directory / name)
        (staging / last).replace(directory / last)
    finally:
        shutil.rmtree(staging)


def _is_there(path: Path, record: FileRecord, known: _Stamp | None) -> bool:
    if known is None or known.sha256 != record.sha256:
        return False
    try:
        return _stamp(path, record) == known
    except OSError:
        return False


def _stamp(path: Path, record: FileRecord) -> _Stamp:
    found = path.lstat()
    return _Stamp(record.sha256, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _read_note(path: Path) -> dict[str, _Stamp]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, _Stamp])
    except (OSError, msgspec.MsgspecError):
        return {}


def _write_note(path: Path, stamps: dict[str, _Stamp]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(msgspec.json.encode(stamps))
    temporary.replace(path)
