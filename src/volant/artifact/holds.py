"""Who needs which files of a store: ``holds/OWNER/<64 hexadecimal digits>``, an empty file for each that OWNER needs."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from volant.core.ids import Digest, check_digest

DIRECTORY = "holds"

_OWNER = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


class Holds:
    """The holds of the store at ``root``. All methods block for as long as somebody removes files."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def add(self, owner: str, digests: Iterable[Digest]) -> None:
        directory = self._directory(owner)
        with self.keep_all():
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for digest in digests:
                (directory / hex_of(digest)).touch(mode=0o600)

    def drop(self, owner: str, digests: Iterable[Digest]) -> None:
        directory = self._directory(owner)
        for digest in digests:
            (directory / hex_of(digest)).unlink(missing_ok=True)
        with suppress(OSError):  # there are others in it, or it is gone
            directory.rmdir()

    def drop_all(self, owner: str) -> None:
        directory = self._directory(owner)
        with suppress(FileNotFoundError):
            for path in directory.iterdir():
                path.unlink(missing_ok=True)
            with suppress(OSError):
                directory.rmdir()

    def owners(self) -> set[str]:
        with suppress(FileNotFoundError):
            return {path.name for path in (self._root / DIRECTORY).iterdir()}
        return set()

    def read(self) -> dict[Digest, set[str]]:
        """The owners of all that is held."""
        held: dict[Digest, set[str]] = {}
        for path in (self._root / DIRECTORY).glob("*/*"):
            held.setdefault(check_digest(f"sha256:{path.name}"), set()).add(path.parent.name)
        return held

    @contextmanager
    def keep_all(self) -> Iterator[None]:
        """Nothing is removed inside the block."""
        with self._locked(fcntl.LOCK_SH):
            yield

    @contextmanager
    def remove_some(self) -> Iterator[dict[Digest, set[str]]]:
        """Give what is held; nobody begins to hold anything inside the block, so that the rest can go."""
        with self._locked(fcntl.LOCK_EX):
            yield self.read()

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)

    def _directory(self, owner: str) -> Path:
        if not _OWNER.fullmatch(owner):
            raise ValueError(f"{owner!r} cannot own artifacts")
        return self._root / DIRECTORY / owner


def hex_of(digest: Digest) -> str:
    """The 64 digits of a digest, which name its file. Raises InvalidInput."""
    return check_digest(digest, "digest").removeprefix("sha256:")
