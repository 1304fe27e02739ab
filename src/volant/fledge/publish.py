"""Finished files appear in the output directory all at once, as far as a file system can: the manifest last."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from volant.core.errors import ChecksumMismatch, HostError
from volant.fledge.content import FileRecord, copy_recorded

_STAGING = ".fledge-"


def publish(directory: Path, files: Mapping[str, tuple[Path, FileRecord]], documents: Mapping[str, bytes], last: str) -> None:
    """Copy ``files`` (checked against their records) and write ``documents`` into ``directory``, which is made when missing.

    The old ``last`` goes first and the new one comes last, so that it never stands beside files of another build. Two builds
    into one directory take turns, and what a killed one left is removed.

    Raises:
        ChecksumMismatch: a file in the cache is damaged. HostError: the directory cannot be written.
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
        staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=directory))
        try:
            for name, (source, record) in files.items():
                if copy_recorded(source, staging / name) != record:
                    raise ChecksumMismatch(f"{source} in the cache is damaged", hint="build again with --no-cache")
            for name, content in documents.items():
                (staging / name).write_bytes(content)
            (directory / last).unlink(missing_ok=True)
            for name in sorted({*files, *documents} - {last}):
                (staging / name).replace(directory / name)
            (staging / last).replace(directory / last)
        finally:
            shutil.rmtree(staging)
    finally:
        os.close(lock)
