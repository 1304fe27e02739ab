"""One volantd to a data directory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from volant.core.errors import WrongState


@contextmanager
def lock_directory(directory: Path) -> Iterator[None]:
    """Hold ``directory`` until the context is left; the kernel lets go of it when the process dies.

    Raises:
        WrongState: another volantd holds it.
    """
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WrongState(
                f"another volantd uses {directory}", hint="end that one, or give this one its own --data-dir"
            ) from error
        yield
    finally:
        os.close(descriptor)
