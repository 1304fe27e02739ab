"""Small files in a unit's state directory: written whole or not at all, and read with suspicion."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from volant.core.errors import DiskFull, HostError

T = TypeVar("T")
_ENOSPC = 28


def write_record(path: Path, record: Any, *, outlives_host: bool = True) -> None:
    """Replace ``path`` (mode 0600) by ``record`` as JSON; a reader, or a crash of the host, finds the old one or the new one.

    What only says something of a process need not outlive the host, and then the disk is not waited for: every start would.

    Raises:
        DiskFull, HostError: it could not be written; what was there before still is.
    """
    temporary = f"{path}.new"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            _write_all(descriptor, msgspec.json.format(msgspec.json.encode(record), indent=2))
            if outlives_host:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)  # noqa: PTH105  # every start writes some of these, and paths are slow to make
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        kind = DiskFull if error.errno == _ENOSPC else HostError
        raise kind(f"{path} cannot be written: {error.strerror}") from error


def _write_all(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def read_record(path: Path, kind: type[T]) -> T | None:
    """What ``write_record`` (or the holder) wrote; None when it is not there or is not a ``kind``."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    except OSError as error:
        raise HostError(f"{path} cannot be read: {error.strerror}") from error
